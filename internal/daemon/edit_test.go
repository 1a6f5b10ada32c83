package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/lb"
)

const twoPools = `[dataplane]
interfaces = ["wan0", "lan0"]
[[local_pool]]
name = "lan"
interface = "lan0"
addresses = ["10.0.1.10-10.0.1.11"]
ports = "1024-65535"
[[local_pool]]
name = "other"
interface = "lan0"
addresses = ["10.0.1.20", "fd00::1"]
ports = "1024-65535"
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
interface = "wan0"
local_pool = "lan"
scheduler = "sh"
sh_port = true
persistence = "5m"
persistence_granularity = 24
client_address = "none"
timeout = { established = "5m" }
real_server = [{ address = "10.0.2.11:8080", weight = 3, upper_threshold = 10 }, { address = "10.0.2.12:8080" }]
`

func TestEdited(t *testing.T) {
	web, dns := netip.MustParseAddrPort("203.0.113.10:80"), netip.MustParseAddrPort("203.0.113.10:53")
	rip := func(n byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 2, n}), 8080)
	}
	wlc := &ctl.ServiceSettings{Scheduler: "wlc"}
	one := &ctl.ServerSettings{Weight: 1}
	lip := netip.MustParseAddr
	for name, test := range map[string]struct {
		edits   []ctl.Edit
		changes []string
		refused []ctl.RefusalCode
		err     string
	}{
		"add_service": {
			edits: []ctl.Edit{{Op: ctl.AddService, Protocol: "udp", Virtual: dns, Service: wlc}},
			changes: []string{
				`+ service "203.0.113.10:53/udp": name "203.0.113.10:53/udp", protocol udp, address 203.0.113.10:53, interface wan0, local_pool "lan", scheduler wlc, client_address icmp-echo (length 42)`,
			},
		},
		"add_service_with_everything": {
			edits: []ctl.Edit{{Op: ctl.AddService, Protocol: "tcp", Virtual: dns, Service: &ctl.ServiceSettings{
				Scheduler: "mh", HashPort: true, Fallback: true, PersistenceSeconds: 60, PersistenceGranularity: 20, EstablishedSeconds: 30,
			}}},
			changes: []string{
				`+ service "203.0.113.10:53": name "203.0.113.10:53", protocol tcp, address 203.0.113.10:53, interface wan0, local_pool "lan", scheduler mh, hash_port on, fallback on, client_address toa (kind6 254), timestamps translate, persistence 1m0s, persistence_granularity 20, timeout.established 30s`,
			},
		},
		"edit_service_resets_what_is_left_out_and_keeps_the_rest": {
			edits: []ctl.Edit{{Op: ctl.EditService, Protocol: "tcp", Virtual: web, Service: wlc}},
			changes: []string{
				`~ service "web": scheduler sh -> wlc`,
				`~ service "web": hash_port on -> default`,
				`~ service "web": persistence 5m0s -> default`,
				`~ service "web": persistence_granularity 24 -> default`,
			},
		},
		"delete_service_and_add_it_again": {
			edits: []ctl.Edit{
				{Op: ctl.DeleteService, Protocol: "tcp", Virtual: web},
				{Op: ctl.DeleteService, Protocol: "tcp", Virtual: web},
				{Op: ctl.AddService, Protocol: "tcp", Virtual: web, Service: wlc},
				{Op: ctl.AddService, Protocol: "tcp", Virtual: web, Service: wlc},
				{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Real: rip(11), Server: one},
			},
			refused: []ctl.RefusalCode{ctl.NoService, ctl.ServiceExists},
			changes: []string{
				`~ service "203.0.113.10:80": name "web" -> "203.0.113.10:80"`,
				`~ service "203.0.113.10:80": scheduler sh -> wlc`,
				`~ service "203.0.113.10:80": client_address none -> toa (kind6 254)`,
				`~ service "203.0.113.10:80": hash_port on -> default`,
				`~ service "203.0.113.10:80": persistence 5m0s -> default`,
				`~ service "203.0.113.10:80": persistence_granularity 24 -> default`,
				`~ service "203.0.113.10:80": timeout.established 5m0s -> default`,
				`~ service "203.0.113.10:80": real_server 10.0.2.11:8080: weight 3 -> 1`,
				`~ service "203.0.113.10:80": real_server 10.0.2.11:8080: upper_threshold 10 -> default`,
				`- service "web": real_server 10.0.2.12:8080: weight 1`,
			},
		},
		"synproxy": {
			edits: []ctl.Edit{{Op: ctl.EditService, Protocol: "tcp", Virtual: web, Service: &ctl.ServiceSettings{
				Scheduler: "sh", HashPort: true, PersistenceSeconds: 300, PersistenceGranularity: 24, SYNProxy: "on",
			}}},
			changes: []string{
				`~ service "web": synproxy default -> on`,
				`~ service "web": synproxy.answer default -> auto`,
				`~ service "web": synproxy.offer default -> mss 1460, window_scale 7, sack true, timestamps true`,
				`~ service "web": synproxy.syn_retries default -> 2`,
				`~ service "web": synproxy.ack_storm_limit default -> 10`,
			},
		},
		"servers": {
			edits: []ctl.Edit{
				{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Real: rip(11), Server: one},
				{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Real: rip(13), Server: one},
				{Op: ctl.EditServer, Protocol: "tcp", Virtual: web, Real: rip(11), Server: one},
				{Op: ctl.EditServer, Protocol: "tcp", Virtual: web, Real: rip(14), Server: one},
				{Op: ctl.DeleteServer, Protocol: "tcp", Virtual: web, Real: rip(12)},
				{Op: ctl.DeleteServer, Protocol: "tcp", Virtual: web, Real: rip(12)},
				{Op: ctl.DeleteServer, Protocol: "udp", Virtual: web, Real: rip(11)},
			},
			refused: []ctl.RefusalCode{ctl.ServerExists, ctl.NoServer, ctl.NoServer, ctl.NoService},
			changes: []string{
				`~ service "web": real_server 10.0.2.11:8080: weight 3 -> 1`,
				`~ service "web": real_server 10.0.2.11:8080: upper_threshold 10 -> default`,
				`- service "web": real_server 10.0.2.12:8080: weight 1`,
				`+ service "web": real_server 10.0.2.13:8080: weight 1`,
			},
		},
		"locals": {
			edits: []ctl.Edit{
				{Op: ctl.AddLocal, Protocol: "tcp", Virtual: web, Local: lip("10.0.1.10")}, // there already
				{Op: ctl.AddLocal, Protocol: "tcp", Virtual: web, Local: lip("10.0.1.12")},
				{Op: ctl.DeleteLocal, Protocol: "tcp", Virtual: web, Local: lip("10.0.1.10")},
				{Op: ctl.DeleteLocal, Protocol: "tcp", Virtual: web, Local: lip("10.0.1.10")},
			},
			refused: []ctl.RefusalCode{ctl.NoLocal},
			changes: []string{`~ local_pool "lan": addresses 10.0.1.10-10.0.1.11 -> 10.0.1.11-10.0.1.12`},
		},
		"local_of_another_pool": {
			edits:   []ctl.Edit{{Op: ctl.AddLocal, Protocol: "tcp", Virtual: web, Local: lip("10.0.1.20")}},
			changes: []string{`~ service "web": local_pool "lan" -> "other"`},
		},
		"clear": {
			edits: []ctl.Edit{{Op: ctl.Clear}, {Op: ctl.AddService, Protocol: "tcp", Virtual: dns, Service: wlc}},
			changes: []string{
				`+ service "203.0.113.10:53": name "203.0.113.10:53", protocol tcp, address 203.0.113.10:53, interface wan0, local_pool "lan", scheduler wlc, client_address toa (kind6 254), timestamps translate`,
				`- service "web": name "web", protocol tcp, address 203.0.113.10:80, interface wan0, local_pool "lan", scheduler sh, hash_port on, client_address none, timestamps translate, persistence 5m0s, persistence_granularity 24, timeout.established 5m0s`,
				`- service "web": real_server 10.0.2.11:8080: weight 3, upper_threshold 10`,
				`- service "web": real_server 10.0.2.12:8080: weight 1`,
			},
		},
		"zero_changes_nothing": {edits: []ctl.Edit{{Op: ctl.Zero}}},
		"invalid": {
			edits: []ctl.Edit{
				{Op: "dance", Protocol: "tcp", Virtual: web},
				{Op: ctl.AddService, Protocol: "sctp", Virtual: web, Service: wlc},
				{Op: ctl.AddService, Protocol: "tcp", Virtual: netip.MustParseAddrPort("127.0.0.1:80"), Service: wlc},
				{Op: ctl.AddService, Protocol: "tcp", Virtual: dns},
				{Op: ctl.AddService, Protocol: "tcp", Virtual: dns, Service: &ctl.ServiceSettings{Scheduler: "best"}},
				{Op: ctl.EditService, Protocol: "tcp", Virtual: web, Service: &ctl.ServiceSettings{Scheduler: "rr", PersistenceSeconds: -1}},
				{Op: ctl.EditService, Protocol: "tcp", Virtual: web, Service: &ctl.ServiceSettings{Scheduler: "rr", PersistenceGranularity: 33}},
				{Op: ctl.EditService, Protocol: "tcp", Virtual: web, Service: &ctl.ServiceSettings{Scheduler: "rr", EstablishedSeconds: 1 << 30}},
				{Op: ctl.EditService, Protocol: "tcp", Virtual: web, Service: &ctl.ServiceSettings{Scheduler: "rr", SYNProxy: "adaptive"}},
				{Op: ctl.AddService, Protocol: "udp", Virtual: dns, Service: &ctl.ServiceSettings{Scheduler: "rr", SYNProxy: "on"}},
				{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Real: rip(13)},
				{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Server: one},
				{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Real: rip(13), Server: &ctl.ServerSettings{Weight: 65536}},
				{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Real: rip(13), Server: &ctl.ServerSettings{UpperThreshold: 1, LowerThreshold: 2}},
				{Op: ctl.AddLocal, Protocol: "tcp", Virtual: web},
			},
			refused: []ctl.RefusalCode{
				ctl.Invalid, ctl.Invalid, ctl.Invalid, ctl.Invalid, ctl.NoScheduler, ctl.Invalid, ctl.Invalid, ctl.Invalid,
				ctl.Invalid, ctl.Invalid,
				ctl.Invalid, ctl.Invalid, ctl.Invalid, ctl.Invalid, ctl.Invalid,
			},
		},
		"vip_that_is_a_local_address": {
			edits: []ctl.Edit{{Op: ctl.AddService, Protocol: "tcp", Virtual: netip.MustParseAddrPort("10.0.1.10:80"), Service: wlc}},
			err:   `lb.toml:6: local_pool "lan": addresses "10.0.1.10": already the virtual address of service "10.0.1.10:80" (an address can be only one thing: choose another)`,
		},
		"server_of_a_family_without_local_address": {
			edits: []ctl.Edit{{Op: ctl.AddServer, Protocol: "tcp", Virtual: web, Real: netip.MustParseAddrPort("[fd00::9]:80"), Server: one}},
			err:   `lb.toml:18: service "web": local_pool "lan": has no IPv6 address to reach real server fd00::9 from (add one to the pool)`,
		},
		"last_local_address": {
			edits: []ctl.Edit{
				{Op: ctl.DeleteLocal, Protocol: "tcp", Virtual: web, Local: lip("10.0.1.10")},
				{Op: ctl.DeleteLocal, Protocol: "tcp", Virtual: web, Local: lip("10.0.1.11")},
			},
			err: "lb.toml:3: local_pool \"lan\": addresses: empty (want at least one)\n" +
				`lb.toml:18: service "web": local_pool "lan": has no IPv4 address to reach real server 10.0.2.11 from (add one to the pool)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Parse("lb.toml", []byte(twoPools))
			if err != nil {
				t.Fatal(err)
			}
			before, err := lb.Compile(cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			next, refusals, err := edited(cfg, test.edits, func(*ctl.Edit) error { return nil })
			if err != nil || test.err != "" {
				if fmt.Sprint(err) != test.err {
					t.Errorf("got error\n%v\nwant\n%s", err, test.err)
				}
				return
			}
			var codes []ctl.RefusalCode
			for _, r := range refusals {
				codes = append(codes, r.Code)
			}
			if diff := cmp.Diff(codes, test.refused); diff != "" {
				t.Errorf("refusals (-got +want):\n%s\n%+v", diff, refusals)
			}
			after, err := lb.Compile(next, before)
			if err != nil {
				t.Fatal(err)
			}
			var changes []string
			for _, c := range lb.Diff(before, after) {
				changes = append(changes, c.String())
			}
			if diff := cmp.Diff(changes, test.changes); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
			if (next == cfg) != (len(test.changes) == 0) {
				t.Error("the same configuration if and only if nothing has changed: not so")
			}
			again, err := config.Parse("lb.toml", []byte(twoPools))
			if err != nil {
				t.Fatal(err)
			}
			old, err := lb.Compile(again, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := lb.Diff(old, must(lb.Compile(cfg, nil))); len(diff) != 0 {
				t.Errorf("the old configuration has changed: %v", diff)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestOperatorsWeightEndsHisDrain gives a server a weight that is drained.
func TestOperatorsWeightEndsHisDrain(t *testing.T) {
	cfg, err := config.Parse("lb.toml", []byte(strings.Replace(twoPools, "weight = 3", "weight = 0", 1)))
	if err != nil {
		t.Fatal(err)
	}
	s := &cfg.Services[0]
	d := newDrains()
	for i := range s.Servers {
		d.by[subjectOf(s, &s.Servers[i])] = &drain{ordered: true}
	}
	edit := ctl.Edit{Op: ctl.EditServer, Protocol: "tcp", Virtual: s.Address, Real: s.Servers[0].Address, Server: &ctl.ServerSettings{Weight: 2}}
	if got := d.without([]ctl.Edit{edit}); len(got.by) != 1 || len(d.by) != 2 {
		t.Errorf("got %d drains, and %d in the original, want 1 and 2", len(got.by), len(d.by))
	}
	edit.Server.Weight = 0
	if got := d.without([]ctl.Edit{edit}); len(got.by) != 2 {
		t.Errorf("weight 0: got %d drains, want 2", len(got.by))
	}
}
