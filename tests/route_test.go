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
// or 2001:db8:19::200, ::201 and 2001:db8:80::80. It answers through router0, whichever its packets come by.
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
	addr := of(b.server, netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8:80::80"))
	f := &farServer{Host: host("far"), addr: netip.AddrPortFrom(addr, 8080)}
	lan := netip.PrefixFrom(b.balancerLANAddr(), of(b.server, 24, 64)).Masked()
	must(f.AddAddress("lo", single(addr)))
	for i := range f.routers {
		r := host(fmt.Sprintf("router%d", i))
		f.routers[i] = r
		f.gateway[i] = of(b.server, netip.AddrFrom4([4]byte{198, 19, 0, byte(200 + i)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:19::%d", 200+i)))
		must(r.Forward())
		must(b.Connect(r, "eth0", b.Switch, r.Name))
		b.run(b.Switch, "ip", "link", "set", r.Name, "master", "br0")
		must(r.AddAddress("eth0", netip.PrefixFrom(f.gateway[i], lan.Bits())))

		far := of(b.server, netip.AddrFrom4([4]byte{10, 9, byte(i), 2}), netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::2", i)))
		near := far.Prev()
		must(b.Connect(r, "eth1", f.Host, r.Name))
		must(r.AddAddress("eth1", netip.PrefixFrom(near, lan.Bits())))
		must(f.AddAddress(r.Name, netip.PrefixFrom(far, lan.Bits())))
		must(r.AddRoute(single(addr), far))
		if i == 0 {
			must(f.AddRoute(lan, near))
		}
	}
	must(b.Balancer.AddRoute(single(addr), f.gateway[0]))
	return f
}

// single returns the network of a single address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// routeChanges moves a connection's route from one gateway to another.
func routeChanges(b *bed) {
	f := b.farServer()
	accepted := b.listen(f.Host, f.addr)
	s := b.web()
	s.Servers = []harness.Server{{Real: f.addr}}
	b.start(s)
	p := b.connect(accepted)
	for _, i := range []int{0, 1, 0} {
		if err := b.Balancer.AddRoute(single(f.addr.Addr()), f.gateway[i]); err != nil {
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
