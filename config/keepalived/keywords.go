package keepalived

import (
	"maps"
	"slices"
	"strings"
)

// A rule says what becomes of a keyword.
type rule struct {
	take    func(*importer, *service, *statement) // makes something of it
	last    bool                                  // of several, as in keepalived, the last one counts
	refuse  string                                // why it cannot be imported, and what to do
	later   bool                                  // this version has no counterpart yet
	foreign bool                                  // not a balancer's business
	remark  string                                // why it is passed over
}

// virtualRules are the keywords of a virtual_server.
var virtualRules = rules(map[string]rule{
	"lb_algo":                 {take: (*importer).scheduler, last: true},
	"lvs_sched":               {take: (*importer).scheduler, last: true},
	"lb_kind":                 {take: (*importer).kind, last: true},
	"lvs_method":              {take: (*importer).kind, last: true},
	"protocol":                {take: (*importer).protocol, last: true},
	"persistence_timeout":     {take: (*importer).persistence, last: true},
	"persistence_granularity": {take: (*importer).granularity, last: true},
	"est_timeout":             {take: (*importer).established, last: true},
	"establish_timeout":       {take: (*importer).established, last: true},
	"laddr_group_name":        {take: (*importer).localPool, last: true},
	"vip_bind_dev":            {take: (*importer).bindDevice, last: true},
	"syn_proxy":               {take: switchOn("synproxy")},
	"sh-port":                 {take: switchOn("sh_port")},
	"sh-fallback":             {take: switchOn("sh_fallback")},
	"mh-port":                 {take: switchOn("mh_port")},
	"mh-fallback":             {take: switchOn("mh_fallback")},
	"flag-1":                  {refuse: "its meaning is the scheduler's (write sh-fallback or mh-fallback)"},
	"flag-2":                  {refuse: "its meaning is the scheduler's (write sh-port or mh-port)"},
	"flag-3":                  {refuse: "no scheduler of fnatd has a third flag (remove it)"},
	"ops":                     {refuse: "fnatd keeps a connection for each flow and does not schedule single packets (remove it)"},
	"persistence_engine":      {refuse: "fnatd holds clients together by address only (remove it, or use persistence_timeout without it)"},
	"daddr_group_name":        {refuse: "fnatd does not filter clients (do it in the network, and remove it)"},
	"waddr_group_name":        {refuse: "fnatd does not filter clients (do it in the network, and remove it)"},
	"proxy_protocol":          {refuse: "fnatd does not speak the PROXY protocol (let the real servers read the TCP option TOA, and remove it)"},
	"quic":                    {refuse: "fnatd does not read QUIC's connection ids (remove it; flows are kept by address and port)"},
	"hash_target":             {refuse: "fnatd hashes the client's address (remove it, or write mh-port to hash the port as well)"},
	"match":                   {refuse: noSourceNAT},
	"fwmark":                  {refuse: noFwmark},
	"real_server":             {take: (*importer).realServer},
	"sorry_server":            {take: (*importer).sorryServer, last: true},
	"sorry_server_lvs_method": {take: (*importer).sorryKind, last: true},
	"quorum_up":               {take: (*importer).script, last: true},
	"quorum_down":             {take: (*importer).script, last: true},
	"sorry_server_inhibit":    {remark: "the sorry server is always there, with weight 0 until it is needed"},
	"ha_suspend":              {remark: "fnatd checks whether or not VRRP has given it the addresses"},
}, settings("quorum hysteresis omega alpha inhibit_on_failure expire_quiescent_conn virtualhost "+timers),
	later("bps limit_proportion nat_mask"),
	others("smtp_alert snmp_name ip_family"))

// serverRules are the keywords of a real_server that are not the importer's
// serverKeys.
var serverRules = rules(map[string]rule{
	"weight":      {last: true},
	"uthreshold":  {last: true},
	"lthreshold":  {last: true},
	"lvs_method":  {take: (*importer).kind, last: true},
	"lb_kind":     {take: (*importer).kind, last: true},
	"notify_up":   {take: (*importer).script, last: true},
	"notify_down": {take: (*importer).script, last: true},
}, settings("alpha inhibit_on_failure virtualhost "+timers), others("smtp_alert snmp_name"), checkerRules())

// settings returns rules that remember the last statement of each keyword.
func settings(words string) map[string]rule {
	return each(words, rule{take: (*importer).setting, last: true})
}

func checkerRules() map[string]rule {
	all := map[string]rule{}
	for name := range checkers {
		all[name] = rule{take: (*importer).checker}
	}
	return all
}

func later(words string) map[string]rule  { return each(words, rule{later: true}) }
func others(words string) map[string]rule { return each(words, rule{foreign: true}) }

func each(words string, r rule) map[string]rule {
	all := map[string]rule{}
	for _, w := range strings.Fields(words) {
		all[w] = r
	}
	return all
}

// rules puts tables of rules together.
func rules(all ...map[string]rule) map[string]rule {
	sum := map[string]rule{}
	for _, m := range all {
		maps.Copy(sum, m)
	}
	return sum
}

// foreignBlocks returns the keywords of the outermost level that are not about
// balancing.
func foreignBlocks() []string {
	return strings.Fields("global_defs vrrp_instance vrrp_sync_group vrrp_script vrrp_track_process vrrp_track_file " +
		"track_file static_ipaddress static_routes static_rules static_track_group garp_group linkbeat_interfaces " +
		"linkbeat_use_polling net_namespace net_namespace_ipvs instance use_pid_dir bfd_instance SSL process_names " +
		"interface_up_down_delays child_wait_time namespace_with_ipsets config_save_dir tmp_config_directory umask " +
		"checkers_log_all_failures reload_time_file reload_repeat reload_file dpdk_interface ipvs_defs netif_defs")
}

func foreign(key string) bool {
	return strings.HasPrefix(key, "vrrp_") || slices.Contains(foreignBlocks(), key)
}

// aliases are keywords that are another's name.
var aliases = map[string]string{"lvs_sched": "lb_algo", "lvs_method": "lb_kind", "establish_timeout": "est_timeout", "nb_get_retry": "retry"}

// canonical returns the first name of a keyword.
func canonical(key string) string {
	if name, ok := aliases[key]; ok {
		return name
	}
	return key
}
