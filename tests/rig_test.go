// The whole program on the rig. fnatd runs in the balancer's namespace, between
// programs that know nothing of it:
//
//	client              balancer                  switch       server0, server1 …
//	198.18.0.2         198.18.0.1  198.19.0.1                  198.19.0.101 …
//	┌───────┐         ┌──────────────────────┐    ┌─────┐      ┌────────────┐
//	│   eth0├─────────┤wan0   fnatd      lan0├────┤ br0 ├──────┤eth0        │   two-arm
//	└───────┘         └──────────────────────┘    └─────┘      └────────────┘
//	curl, iperf3       VIP          LIP                        nginx, iperf3
//	dnsperf, ping      198.18.0.100 198.19.0.10, .11           unbound
//
//	┌───────┐                                     ┌─────┐      ┌────────────┐
//	│   eth0├─────────────────────────────────────┤     ├──────┤eth0        │   one-arm
//	└───────┘         ┌──────────────────────┐    │ br0 │      └────────────┘
//	                  │       fnatd      eth0├────┤     │
//	                  └──────────────────────┘    └─────┘
//
// or 2001:db8:18:: and 2001:db8:19:: with the same last numbers. Addresses are the
// same in both shapes. Nobody else forwards: what reaches the other
// side has been carried there by fnatd. TestFnatd runs the scenarios on the
// variants, each on a rig and a fnatd of its own.
package tests

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// bin is where TestMain has built fnatd, fnatctl and fnatrs.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if addr := os.Getenv(httpServer); addr != "" {
		return serveHTTP(addr)
	}
	var err error
	if bin, err = os.MkdirTemp("", "fnatd-bin-"); err == nil {
		defer os.RemoveAll(bin)
		err = harness.Build("..", bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// A variant is one point of the matrix of wirings and IP versions.
type variant struct {
	shape  netns.Shape
	queues int
	families
	brief bool   // only scenarios that look at how packets are carried
	guard string // of TCP services: their synproxy, or none
}

// matrix has each of families on one arm and on two, and with two queues on either;
// and each with clients that have to prove themselves by cookies.
var matrix = []variant{
	{netns.TwoArm, 1, fourToFour, false, ""},
	{netns.OneArm, 1, sixToSix, false, ""},
	{netns.TwoArm, 2, sixToFour, false, ""},
	{netns.OneArm, 1, fourToSix, false, ""},
	{netns.TwoArm, 2, fourToFour, false, ""},
	{netns.OneArm, 1, fourToFour, true, ""},
	{netns.TwoArm, 2, sixToSix, true, ""},
	{netns.OneArm, 1, sixToFour, true, ""},
	{netns.TwoArm, 2, fourToSix, true, ""},
	{netns.OneArm, 2, fourToFour, true, ""},
	{netns.OneArm, 2, sixToSix, true, ""},
	{netns.OneArm, 2, sixToFour, true, ""},
	{netns.OneArm, 2, fourToSix, true, ""},

	{netns.TwoArm, 1, fourToFour, false, "userspace"},
	{netns.OneArm, 2, sixToSix, true, "userspace"},
	{netns.TwoArm, 1, sixToFour, true, "userspace"},
	{netns.OneArm, 1, fourToSix, true, "userspace"},
}

func (v variant) String() string {
	name := v.shape.String()
	if v.queues > 1 {
		name += fmt.Sprintf("_%d_queues", v.queues)
	}
	name += "_" + v.families.String()
	if v.guard != "" {
		name += "_synproxy_" + v.guard
	}
	return name
}

// A reach says in which variants a scenario is run.
type reach uint8

const (
	everywhere reach = iota // it looks at how packets are carried
	often                   // not in the brief ones
	once                    // in the first alone: it has little to do with packets
)

// scenarios is what fnatd does for its users.
var scenarios = []struct {
	name  string
	run   func(*bed)
	reach reach
}{
	{"download_and_upload_of_100_MB_are_intact", downloadAndUpload, everywhere},
	{"1000_connections_at_a_time_do_not_mix", thousandConnections, everywhere},
	{"many_requests_on_one_connection", keepAlive, everywhere},
	{"iperf3_completes_both_ways", iperfBothWays, often},

	{"either_end_may_close_its_half", halfClose, everywhere},
	{"reset_reaches_the_other_end", resetReachesOtherEnd, everywhere},
	{"idle_connection_is_reset_at_both_ends", idleConnectionIsReset, often},
	{"client_learns_that_its_server_died", serverDies, often},
	{"connection_survives_links_down_and_up", linkDownAndUp, often},
	{"connection_follows_a_new_mac_address", newMACAddress, everywhere},
	{"connection_follows_a_new_route", routeChanges, everywhere},
	{"lost_packets_are_sent_again", lossyLinks, everywhere},

	{"round_robin_counts_are_exact", roundRobinIsExact, often},
	{"persistence_keeps_a_client_on_its_server", persistenceKeepsServer, often},
	{"weight_0_drains", weightZeroDrains, often},
	{"removed_server_drains_and_is_reset", removedServerDrains, often},
	{"removed_service_drains_and_is_reset", removedServiceDrains, often},
	{"removed_server_that_comes_back_is_not_reset", removedServerComesBack, once},
	{"operator_drains_a_server", operatorDrains, often},
	{"upper_threshold_is_respected", upperThresholdIsRespected, often},

	{"udp_clients_get_their_own_answers", udpEcho, everywhere},
	{"datagrams_of_65000_bytes_pass", longDatagrams, everywhere},
	{"dns_under_load_loses_nothing", dnsUnderLoad, often},

	{"servers_are_told_the_client_by_tcp_option", clientAddressOptions, everywhere},
	{"forged_options_are_blanked", forgedOptionsAreBlanked, everywhere},
	{"servers_are_told_the_client_by_udp_notice", udpNotices, everywhere},

	{"reload_in_mid_stream_is_not_noticed", reloadInMidStream, often},
	{"a_hundred_reloads_lose_nothing", hundredReloads, once},
	{"bad_control_clients_harm_nobody", badControlClients, once},
	{"flows_are_explained", flowsAreExplained, often},
	{"scripts_of_ipvsadm_work", scriptsOfIpvsadm, often},
	{"bad_reload_changes_nothing", badReloadChangesNothing, often},
	{"figures_are_true", figuresAreTrue, everywhere},

	{"path_mtu_towards_client_is_found", pathMTUTowardsClient, everywhere},
	{"path_mtu_towards_server_is_found", pathMTUTowardsServer, everywhere},
	{"icmp_errors_reach_who_asked", errorsReachWhoAsked, everywhere},

	{"server_is_a_client_of_its_own_vip", serverIsClient, everywhere},
	{"servers_reach_elsewhere_past_fnatd", serversReachElsewhere, everywhere},
	{"host_keeps_everything_else", hostKeepsEverythingElse, often},
	{"stop_under_load_is_clean", stopUnderLoad, often},
	{"killed_fnatd_leaves_silence_and_the_next_takes_over", killAndReturn, often},

	{"idle_fnatd_hardly_uses_a_processor", idleIsCheap, once},
	{"busy_poll_uses_its_core", busyPollUsesItsCore, once},
}

// compared are the scenarios that hold what arrives against what was sent, packet by
// packet. With SYNPROXY the handshakes on both sides are not the same.
var compared = []string{
	"servers_are_told_the_client_by_tcp_option", "forged_options_are_blanked", "figures_are_true",
}

func TestFnatd(t *testing.T) {
	for i, v := range matrix {
		t.Run(v.String(), func(t *testing.T) {
			for _, s := range scenarios {
				if v.brief && s.reach != everywhere || i > 0 && s.reach == once || v.guard != "" && slices.Contains(compared, s.name) {
					continue
				}
				t.Run(s.name, func(t *testing.T) { s.run(newBed(t, v, 3)) })
			}
		})
	}
}
