package tests

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/harness"
)

// A farHost is behind a host of the rig that routes for it:
//
//	balancer ─── edge, eth0   eth1 ─── left   right ─── eth0, far
//	                      10.9.0.1     10.9.0.2   192.0.2.1     192.0.2.2
//	                2001:db8:9::1      ::2  2001:db8:80::1      ::2
//
// or 198.51.100.0 and 2001:db8:81:: behind a server. between is a router here; in
// storm_test.go it is a cable, without addresses.
type farHost struct {
	*netns.Host
	edge, between *netns.Host
}

// network returns the far host's network: one behind the client, another behind
// servers.
func (f *farHost) network(version int) netip.Prefix {
	if f.edge.Name == "client" {
		return of(version, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:80::/64"))
	}
	return of(version, netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:81::/64"))
}

// addr returns the far host's address.
func (f *farHost) addr(version int) netip.Addr { return second(f.network(version)).Addr() }

// first and second return an address of a network, with its length.
func first(p netip.Prefix) netip.Prefix  { return netip.PrefixFrom(p.Addr().Next(), p.Bits()) }
func second(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr().Next().Next(), p.Bits()) }

// behind puts a host behind edge and a router.
func (b *bed) behind(edge *netns.Host) *farHost {
	b.Helper()
	f := b.wireFar(edge)
	must := b.must
	must(f.between.Forward())
	for _, version := range []int{4, 6} {
		narrow := of(version, netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("2001:db8:9::/64"))
		far := f.network(version)
		must(edge.AddAddress("eth1", first(narrow)))
		must(f.between.AddAddress("left", second(narrow)))
		must(f.between.AddAddress("right", first(far)))
		must(f.AddAddress("eth0", second(far)))
		must(edge.AddRoute(far, second(narrow).Addr()))
		must(f.between.AddRoute(everything(version), first(narrow).Addr()))
		must(f.AddRoute(everything(version), first(far).Addr()))
		must(b.Balancer.AddRoute(far, b.on(edge, version)))
	}
	return f
}

// wireFar connects a far host, without addresses.
func (b *bed) wireFar(edge *netns.Host) *farHost {
	b.Helper()
	host := func(role string) *netns.Host {
		h, err := b.AddHost(role)
		b.must(err)
		return h
	}
	f := &farHost{host("far-" + edge.Name), edge, host("between-" + edge.Name)}
	b.must(edge.Forward())
	b.must(b.Connect(edge, "eth1", f.between, "left"))
	b.must(b.Connect(f.between, "right", f.Host, "eth0"))
	return f
}

// on returns the address of the client or of a server.
func (b *bed) on(host *netns.Host, version int) netip.Addr {
	for i, s := range b.Servers {
		if s == host {
			return of(version, netns.ServerAddr(i), netns.ServerAddr6(i))
		}
	}
	return of(version, netns.ClientAddr, netns.ClientAddr6)
}

func everything(version int) netip.Prefix {
	return of(version, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// narrowMTU is what the hop between a far host and the rig carries.
const narrowMTU = 1400

// narrow makes the hop between edge and the far host's router narrow.
func (f *farHost) narrow() error {
	return errors.Join(f.edge.SetMTU("eth1", narrowMTU), f.between.SetMTU("left", narrowMTU))
}

// pathMTUTowardsClient has a client behind a narrow hop. The server learns of it
// by an error about what fnatd has sent.
func pathMTUTowardsClient(b *bed) {
	far := b.behind(b.Client)
	b.must(far.narrow())
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	seen := b.capture(b.Servers[0])
	p := b.connectFrom(far.Host, b.vip(80), netip.AddrPortFrom(far.addr(b.client), 0), accepted)
	p.exchangeMegabytes()
	gap := headerLen(b.server) - headerLen(b.client)
	b.checkErrors(seen, b.rip(0, 8080), p.server.RemoteAddr().(addrPorter).AddrPort(), narrowMTU+gap)
}

// pathMTUTowardsServer has a server behind a narrow hop. What the client learns
// leaves room for its address, until the server knows that.
func pathMTUTowardsServer(b *bed) {
	far := b.behind(b.Servers[0])
	b.must(far.narrow())
	at := netip.AddrPortFrom(far.addr(b.server), 8080)
	accepted := b.listen(far.Host, at)
	s := b.web()
	s.Servers = []harness.Server{{Real: at}}
	b.start(s)
	seen := b.capture(b.Client)
	p := b.connect(accepted)
	p.exchangeMegabytes()
	client := p.client.LocalAddr().(addrPorter).AddrPort()
	gap := headerLen(b.client) - headerLen(b.server)
	b.checkErrors(seen, client, b.vip(80), narrowMTU+gap-len(toa(client)), narrowMTU+gap)
}

// An addrPorter is a net.Addr of package net.
type addrPorter interface{ AddrPort() netip.AddrPort }

// exchangeMegabytes sends some both ways, the client first.
func (p *pair) exchangeMegabytes() {
	p.Helper()
	for range 4 {
		p.send(p.client, p.server, megabyte)
		p.send(p.server, p.client, megabyte)
	}
}

// checkErrors ends a capture at the sender of a connection. It must have got at
// least one error, and each has to be about its own packets, which had DF set,
// and report one of these MTUs.
func (b *bed) checkErrors(c *netns.Capture, src, dst netip.AddrPort, mtus ...int) {
	b.Helper()
	frames := b.frames(c)
	count := 0
	for _, f := range frames {
		if f.Sent || datagram(f) == nil {
			continue
		}
		frame, p := packettest.NewFrame(f.Data), new(packet.Packet)
		if p.Parse(frame.Buf, frame.Start, frame.End) != packet.Kept || !p.IsError() {
			continue
		}
		count++
		q, _ := p.Quoted()
		if q.Source().Netip() != src || q.Destination().Netip() != dst || p.Flow.Dst.Netip() != src.Addr() {
			b.Errorf("an error to %v quotes %v, want %v > %v", p.Flow.Dst, q, src, dst)
		}
		if mtu, ok := reportedMTU(p); !ok || !slices.Contains(mtus, mtu) {
			b.Errorf("an error reports MTU %d (%v), want one of %d", mtu, ok, mtus)
		}
	}
	if count == 0 {
		b.Error("the sender has got no error about its packets")
	}
	for _, s := range segments(frames) {
		if s.src == src && src.Addr().Is4() && s.frag != 0x4000 {
			b.Errorf("%v: fragment field %#04x, want DF", s, s.frag)
		}
	}
}

// reportedMTU returns the MTU in an error about a packet that was too big (RFC
// 1191, section 4; RFC 4443, section 3.2).
func reportedMTU(p *packet.Packet) (mtu int, ok bool) {
	m := p.ICMP()
	if p.Version == 6 {
		return int(binary.BigEndian.Uint32(m[4:])), m.Type() == packet.ICMPv6TooBig
	}
	return int(binary.BigEndian.Uint16(m[6:])), m.Type() == packet.ICMPUnreachable && m.Code() == packet.ICMPFragNeeded
}
