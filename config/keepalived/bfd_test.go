package keepalived

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/config"
)

// withSession returns a keepalived.conf whose bfd_instance rs, from line 1 on, has these
// lines, and whose only server, at an address, has a BFD_CHECK of it.
func withSession(instance, server, checker string) string {
	return "bfd_instance rs {\n" + instance + "\n}\nlocal_address_group lan {\n 10.0.1.1 eth0\n fd00:1::1 eth0\n}\n" +
		"virtual_server 203.0.113.10 80 {\n protocol TCP\n lb_kind FNAT\n real_server " + server + " 80 {\n BFD_CHECK {\n name rs\n" + checker + "\n}\n}\n}\n"
}

// TestBFD imports sessions, with keepalived's defaults.
func TestBFD(t *testing.T) {
	const usual = 10 * time.Millisecond
	for name, test := range map[string]struct {
		instance, server, checker string
		want                      config.Check
	}{
		"defaults": {"neighbor_ip 10.0.2.1", "10.0.2.1", "", config.Check{
			BFD: config.BFD{MinTx: usual, MinRx: usual, IdleTx: time.Second, Multiplier: 5, TTL: 255},
		}},
		"all": {
			"neighbour_ip 10.0.2.9\nsource_ip 10.0.2.254\nmin_rx 3.312\nmin_tx 20\nidle_tx 2000\nmultiplier 3\npassive\nttl 64\nmax_hops 4\nmultihop\nchecker",
			"10.0.2.1", "alpha",
			config.Check{
				Alpha: true, Address: netip.MustParseAddr("10.0.2.9"), Source: netip.MustParseAddr("10.0.2.254"),
				BFD: config.BFD{MinTx: 2 * usual, MinRx: 3312 * time.Microsecond, IdleTx: 2 * time.Second, Multiplier: 3, Passive: true, Multihop: true, TTL: 64, MaxHops: 4},
			},
		},
		"ipv6_has_another_ttl": {"neighbor_ip fd00:2::1", "fd00:2::1", "", config.Check{
			BFD: config.BFD{MinTx: usual, MinRx: usual, IdleTx: time.Second, Multiplier: 5, TTL: 64},
		}},
		"ipv6_with_a_ttl": {"neighbor_ip fd00:2::1\nhoplimit 255", "fd00:2:0::1", "", config.Check{
			BFD: config.BFD{MinTx: usual, MinRx: usual, IdleTx: time.Second, Multiplier: 5, TTL: 255},
		}},
		"several_hops_by_the_port_of_one": {"neighbor_ip 10.0.2.1\nmax_hops -1\nmultihop off", "10.0.2.1", "", config.Check{
			BFD: config.BFD{MinTx: usual, MinRx: usual, IdleTx: time.Second, Multiplier: 5, TTL: 255, MaxHops: 255},
		}},
		"multihop_does_not_say_how_many": {"neighbor_ip 10.0.2.1\nmultihop on", "10.0.2.1", "", config.Check{
			BFD: config.BFD{MinTx: usual, MinRx: usual, IdleTx: time.Second, Multiplier: 5, TTL: 255, Multihop: true},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := parse("a.conf", []byte(withSession(test.instance, test.server, test.checker)), Options{}, memory(nil))
			if err != nil {
				t.Fatal(err)
			}
			roundTrips(t, in)
			test.want.Type, test.want.Interval, test.want.Timeout = config.CheckBFD, 2*time.Second, 5*test.want.BFD.IdleTx
			test.want.Rise, test.want.Fall = 1, 1
			got := in.Config.Services[0].Servers[0].Checks
			if len(got) != 1 {
				t.Fatalf("got %d checks, want 1\n%s", len(got), in.TOML)
			}
			got[0].Where = config.Where{}
			if d := cmp.Diff(test.want, got[0], cmp.AllowUnexported(config.Where{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
				t.Errorf("(-want +got):\n%s\n%s", d, in.TOML)
			}
			if len(in.Notes) > 0 {
				t.Errorf("got notes %q", in.Notes)
			}
		})
	}
}

func TestMessagesOfBFD(t *testing.T) {
	for name, test := range map[string]struct{ instance, want string }{
		"no_neighbor":      {"min_rx 10", "a.conf:1: bfd_instance rs: there is no neighbor_ip (write the address of the host that speaks BFD)"},
		"neighbor":         {"neighbor_ip rs1", `a.conf:2: service "203.0.113.10:80": health: address "rs1": not an IP address (want it as 10.0.2.11 or fd00::11)`},
		"misspelt":         {"neighbor_ip 10.0.2.1\nmin_rxx 3", `a.conf:3: bfd_instance rs: "min_rxx": unknown keyword (did you mean min_rx?)`},
		"interval":         {"neighbor_ip 10.0.2.1\nmin_rx fast", `a.conf:3: service "203.0.113.10:80": health: min_rx "fastms": not a time span (want a number and a unit in quotes, as "90s" or "5m")`},
		"multiplier":       {"neighbor_ip 10.0.2.1\nmultiplier 300", `a.conf:3: service "203.0.113.10:80": health: multiplier 300: want a whole number from 1 to 255`},
		"vrrps_alone":      {"neighbor_ip 10.0.2.1\nvrrp", "a.conf:3: bfd_instance rs: vrrp: it is VRRP's alone, and a BFD_CHECK names it (remove this, or add checker)"},
		"both":             {"neighbor_ip 10.0.2.1\nvrrp\nchecker", ""},
		"weight":           {"neighbor_ip 10.0.2.1\nweight 5 reverse", "note: a.conf:3: bfd_instance rs: weight: of concern to VRRP only, passed over"},
		"other_family":     {"neighbor_ip 10.0.2.1\nsource_ip fd00::1", `a.conf:3: service "203.0.113.10:80": health: source "fd00::1": cannot reach 10.0.2.1, which is of the other IP version (want an address of the same)`},
		"local_address":    {"neighbor_ip 10.0.2.1\nsource_ip 10.0.1.1", `a.conf:3: service "203.0.113.10:80": health: source "10.0.1.1": in local_pool "lan" at a.conf:6, fnatd's and not the host's (want an address of the host's own, or none: the kernel then chooses)`},
		"another_unused":   {"neighbor_ip 10.0.2.1\n}\nbfd_instance wan {\nneighbor_ip 10.0.9.9", "note: a.conf:4: bfd_instance wan: no BFD_CHECK uses it, passed over"},
		"another_the_same": {"neighbor_ip 10.0.2.1\n}\nbfd_instance rs {\nneighbor_ip 10.0.9.9", "note: a.conf:4: bfd_instance rs: there is one at a.conf:1 already, which counts"},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := parse("a.conf", []byte(withSession(test.instance, "10.0.2.1", "")), Options{}, memory(nil))
			if err != nil {
				in.Notes = nil
			} else {
				roundTrips(t, in)
			}
			got := strings.TrimSpace(strings.TrimPrefix(outcome(in, err), string(in.TOML)))
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
