package tests

import (
	"fmt"
	"net/netip"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// farServer is a real server behind two routers:
//
//	                ┌──────── router0 ────────┐
//	balancer ── br0 ┤ 198.19.0.200            ├ far 192.0.2.80 (on lo)
//	                └──────── router1 ────────┘
//	                  198.19.0.201
//
// It answers through router0, whichever its packets come by.
type farServer struct {
	*netns.Host
	routers [2]*netns.Host
	gateway [2]netip.Addr
	addr    netip.AddrPort
}

func (b *bed) farServer() *farServer {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	host := func(role string) *netns.Host {
		h, err := b.AddHost(role)
		must(err)
		return h
	}
	f := &farServer{Host: host("far"), addr: netip.MustParseAddrPort("192.0.2.80:8080")}
	service := netip.PrefixFrom(f.addr.Addr(), 32)
	must(f.AddAddress("lo", service))
	for i := range f.routers {
		r := host(fmt.Sprintf("router%d", i))
		f.routers[i] = r
		f.gateway[i] = netip.AddrFrom4([4]byte{198, 19, 0, byte(200 + i)})
		must(r.Sysctl("net/ipv4/ip_forward", "1"))
		must(b.Connect(r, "eth0", b.Switch, r.Name))
		b.run(b.Switch, "ip", "link", "set", r.Name, "master", "br0")
		must(r.AddAddress("eth0", netip.PrefixFrom(f.gateway[i], 24)))

		far := netip.AddrFrom4([4]byte{10, 9, byte(i), 2})
		near := far.Prev()
		must(b.Connect(r, "eth1", f.Host, r.Name))
		must(r.AddAddress("eth1", netip.PrefixFrom(near, 24)))
		must(f.AddAddress(r.Name, netip.PrefixFrom(far, 24)))
		must(r.AddRoute(service, far))
		if i == 0 {
			must(f.AddRoute(netip.MustParsePrefix("198.19.0.0/24"), near))
		}
	}
	must(b.Balancer.AddRoute(service, f.gateway[0]))
	return f
}

// routeChanges moves a connection's route from one gateway to another.
func routeChanges(b *bed) {
	f := b.farServer()
	accepted := b.listen(f.Host, f.addr)
	s := web()
	s.Servers = []harness.Server{{Real: f.addr}}
	b.start(s)
	p := b.connect(accepted)
	for _, i := range []int{0, 1, 0} {
		if err := b.Balancer.AddRoute(netip.PrefixFrom(f.addr.Addr(), 32), f.gateway[i]); err != nil {
			b.Fatal(err)
		}
		seen := b.capture(f.routers[i])
		b.eventually(fmt.Sprintf("the connection goes through router %d", i), func() bool {
			p.exchange()
			return len(only(segments(seen.Frames()), func(s *segment) bool { return s.dst == f.addr })) > 0
		})
		b.connect(accepted).exchange()
		b.frames(seen)
	}
}
