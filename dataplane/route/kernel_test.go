package route

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

// The routes are entered by ip(8), as an operator would, and read back.
func TestKernelRoutes(t *testing.T) {
	rig, r := resolver(t, time.Hour)
	for _, line := range []string{
		"route add default via 198.19.0.101 metric 200",
		"route add default via 198.18.0.2 metric 100",
		"route add blackhole 192.0.2.0/24",
		"route add 203.0.113.0/24 dev lo",
		"route add 172.16.0.0/16 mtu 1400 via 198.19.0.101",
		"route add 172.17.0.0/16 nexthop via 198.19.0.101 weight 1 nexthop via 198.19.0.102 weight 3",
		"route add 172.18.0.0/16 via inet6 2001:db8:19::101",
		"route add 172.19.0.0/16 via 198.19.0.102 table 77",
		"-6 route add default via 2001:db8:19::102",
		"-6 route add unreachable 2001:db8:77::/48",
	} {
		_, err := rig.Balancer.Run(t.Context(), "ip", strings.Fields(line)...)
		must(t, err)
	}
	lan := func(gateway string) Hop {
		return Hop{Port: 1, Src: macOf(t, rig.Balancer, "lan0"), MTU: 1500, PlainMTU: 1500, Gateway: addr(gateway), Resolved: true}
	}
	client := Hop{
		Port: 0, Src: macOf(t, rig.Balancer, "wan0"), Dst: macOf(t, rig.Client, "eth0"),
		MTU: 1500, PlainMTU: 1500, Gateway: packet.AddrFromNetip(netns.ClientAddr), Resolved: true,
	}
	server0, server1, server0v6, server1v6 := lan("198.19.0.101"), lan("198.19.0.102"), lan("2001:db8:19::101"), lan("2001:db8:19::102")
	server0.Dst, server0v6.Dst = macOf(t, rig.Servers[0], "eth0"), macOf(t, rig.Servers[0], "eth0")
	server1.Dst, server1v6.Dst = macOf(t, rig.Servers[1], "eth0"), macOf(t, rig.Servers[1], "eth0")
	narrow := server0
	narrow.MTU, narrow.PlainMTU = 1400, 1400
	for _, c := range []struct {
		name, dst string
		want      []Hop // one of them
	}{
		{"lower_metric_default", "8.8.8.8", []Hop{client}},
		{"blackhole", "192.0.2.1", []Hop{{}}},
		{"other_interface", "203.0.113.1", []Hop{{}}},
		{"mtu", "172.16.0.1", []Hop{narrow}},
		{"multipath", "172.17.0.1", []Hop{server0, server1}},
		{"ipv4_by_an_ipv6_gateway", "172.18.0.1", []Hop{server0v6}},
		{"other_table_is_not_looked_at", "172.19.0.1", []Hop{client}},
		{"ipv6_default", "2001:db8:78::1", []Hop{server1v6}},
		{"ipv6_unreachable", "2001:db8:77::1", []Hop{{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := packet.AddrFromNetip(netip.MustParseAddr(c.dst))
			var got Hop
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				table := r.Table()
				got = *table.Hop(table.Lookup(dst))
				for _, want := range c.want {
					if got == want {
						return
					}
				}
			}
			t.Errorf("got - want +:\n%s", cmp.Diff(got, c.want[0]))
		})
	}
}
