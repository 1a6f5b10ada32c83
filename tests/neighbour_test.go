package tests

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// serverIsClient has a real server connect to the VIP that it serves, and be
// answered by itself and by another.
func serverIsClient(b *bed) {
	accepted := []<-chan *net.TCPConn{b.listen(b.Servers[0], b.rip(0, 8080)), b.listen(b.Servers[1], b.rip(1, 8080))}
	b.echoServer(0)
	b.echoServer(1)
	b.meet()
	b.must(b.Servers[0].AddRoute(single(b.vip(0).Addr()), of(b.client, netns.BalancerLANAddr, netns.BalancerLANAddr6)))
	b.start(b.web(0, 1), b.echoService("", 0, 1))
	from := netip.AddrPortFrom(b.on(b.Servers[0], b.client), 0)
	for i := range 4 {
		p := b.connectFrom(b.Servers[0], b.vip(80), from, accepted...)
		if got, want := p.server.LocalAddr().(addrPorter).AddrPort(), b.rip(i%2, 8080); got != want {
			b.Errorf("connection %d: got server %v, want %v", i, got, want)
		}
		p.send(p.client, p.server, megabyte)
		p.send(p.server, p.client, megabyte)
		c, err := b.Servers[0].DialFrom(b.Context(), net.UDPAddrFromAddrPort(from), "udp", b.vip(7).String())
		b.must(err)
		defer c.Close()
		b.must(udpClient{c}.ask([]byte("question")))
	}
	for _, name := range []string{"web", "echo"} {
		for _, r := range b.service(name).Servers {
			if r.Traffic.Connections != 2 {
				b.Errorf("%s: server %v: got %d connections, want 2", name, r.Real, r.Traffic.Connections)
			}
		}
	}
}

// serversReachElsewhere has the balancer route for the servers, as it might with
// another program's NAT. That is the kernel's business, ports of services and
// fragments included.
func serversReachElsewhere(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	b.must(b.Balancer.Forward())
	version := b.server
	elsewhere := of(version, netns.ClientAddr, netns.ClientAddr6)
	b.must(b.Servers[0].AddRoute(everything(version), b.balancerLANAddr()))
	b.must(b.Client.AddRoute(everything(version), of(version, netns.BalancerAddr, netns.BalancerAddr6)))

	far := b.listen(b.Client, netip.AddrPortFrom(elsewhere, 80))
	p := b.connectFrom(b.Servers[0], netip.AddrPortFrom(elsewhere, 80), netip.AddrPortFrom(b.rip(0, 0).Addr(), 0), far)
	if got, want := p.server.RemoteAddr().(addrPorter).AddrPort(), p.client.LocalAddr().(addrPorter).AddrPort(); got != want {
		b.Errorf("elsewhere, the server is %v, want %v", got, want)
	}
	p.send(p.client, p.server, megabyte)
	p.send(p.server, p.client, megabyte)
	b.run(b.Servers[0], "ping", "-c", "2", "-i", "0.1", "-W", "5", "-s", "4000", elsewhere.String())
	if got := b.service("web").Traffic; got.InPackets != 0 || got.OutPackets != 0 {
		b.Errorf("fnatd counts %+v, want nothing", got)
	}
	b.connect(accepted).exchange()
}

// errorsReachWhoAsked looks for the ICMP errors that a UDP client gets: of a server
// that has no such port, and of fnatd itself, when no hop is left.
func errorsReachWhoAsked(b *bed) {
	b.meet()
	b.start(b.echoService("", 0))
	c := b.udpClient(b.clientAddr())
	c.Write([]byte("is anybody there?"))
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		b.Errorf("closed port: got %v, want %v", err, syscall.ECONNREFUSED)
	}

	b.echoServer(0)
	seen := b.capture(b.Client)
	last := b.udpClient(b.clientAddr())
	last.setTTL(b, 1)
	last.Write([]byte("who is next?"))
	want := of[byte](b.client, packet.ICMPTimeExceeded, packet.ICMPv6TimeExceeded)
	b.eventually("the client is told that its datagram's time is over", func() bool {
		return slices.ContainsFunc(seen.Frames(), func(f netns.Frame) bool {
			frame, p := packettest.NewFrame(f.Data), new(packet.Packet)
			if f.Sent || p.Parse(frame.Buf, frame.Start, frame.End) != packet.Kept || !p.IsError() || p.ICMP().Type() != want {
				return false
			}
			q, _ := p.Quoted()
			return p.Flow.Src.Netip() == b.vip(7).Addr() && q.Destination().Netip() == b.vip(7) &&
				q.Source().Netip() == last.LocalAddr().(addrPorter).AddrPort()
		})
	})
	b.frames(seen)
	last.setTTL(b, 2) // one for fnatd, one for the server
	if err := last.ask([]byte("question")); err != nil {
		b.Error(err)
	}
}

// setTTL changes how many hops the client's datagrams may take.
func (c udpClient) setTTL(b *bed, hops int) {
	b.Helper()
	raw, err := c.Conn.(*net.UDPConn).SyscallConn()
	b.must(err)
	b.must(raw.Control(func(fd uintptr) {
		if b.client == 6 {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, hops)
		}
	}))
	b.must(err)
}
