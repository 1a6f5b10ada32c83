package selftest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/realserver"
)

// Numbers of the servers of the checks, and of an option that has none published.
const (
	port    = 8080
	ttmKind = 77
)

// A check is one line of the self-test; run says what is wrong.
type check struct {
	name string
	run  func() error
}

// checks returns all checks.
func (k *kit) checks() []check {
	all := append(k.tcpChecks(), check{"a second fnatrs is refused by name", k.refused})
	return append(all, k.noticeChecks()...)
}

// tcpChecks returns those of connections.
func (k *kit) tcpChecks() []check {
	toa := packet.TOA(packet.DefaultTOAKind)
	lvs6 := packet.TOA(253)
	first := packet.AddressOption{Kind4: 200}
	ttm := packet.AddressOption{Kind4: ttmKind, Kind6: ttmKind, TTM: true}
	cookies := func(on string) error { return k.server.Sysctl("net/ipv4/tcp_syncookies", on) }
	all := []check{
		{"accept: IPv4", k.tcp("tcp4", lip4, client4, client4, handshake{ack: option(toa, client4)})},
		{"accept: IPv4, socket for both versions", k.tcp("tcp", lip4, client4, client4, handshake{ack: option(toa, client4)})},
		{"accept: IPv6", k.tcp("tcp6", lip6, client6, client6, handshake{ack: option(toa, client6)})},
		{"accept: 6to4, socket for both versions", k.tcp("tcp", lip4, client6, client6, handshake{ack: option(toa, client6)})},
		{"accept: 6to4, IPv4 socket: LIP, getsockopt: client", k.tcp("tcp4", lip4, client6, netip.AddrPort{}, handshake{ack: option(toa, client6)})},
		{"accept: option 253 of length 20", k.tcp("tcp6", lip6, client6, client6, handshake{ack: option(lvs6, client6)})},
		{"accept: option 200 of length 8", k.tcp("tcp4", lip4, client4, client4, handshake{ack: option(first, client4)})},
		{"accept: option of kgwttm", k.tcp("tcp4", lip4, client4, client4, handshake{ack: option(ttm, client4)})},
		{"accept: option of kgwttm, IPv6", k.tcp("tcp6", lip6, client6, client6, handshake{ack: option(ttm, client6)})},
		{"accept: third ACK lost", k.tcp("tcp4", lip4, client4, client4, handshake{ack: option(toa, client4), lost: true})},
		{"accept: SYN cookies", func() error {
			run := k.tcp("tcp4", lip4, client4, client4, handshake{ack: option(toa, client4)})
			return errors.Join(cookies("2"), run(), cookies("1"))
		}},
		{"accept: by a notice", func() error {
			if err := k.announce(lip4, server4, client4, packet.ProtoTCP, packet.NoticePacked); err != nil {
				return err
			}
			return k.tcp("tcp4", lip4, client4, client4, handshake{})()
		}},
		{"accept: untrusted, ignored and counted", k.counted(realserver.Untrusted,
			k.tcp("tcp4", stranger, netip.AddrPort{}, netip.AddrPort{}, handshake{ack: option(toa, client4)}))},
		{"accept: two clients, ignored and counted", k.counted(realserver.Contradiction,
			k.tcp("tcp4", lip4, netip.AddrPort{}, netip.AddrPort{},
				handshake{ack: append(option(toa, client4), option(toa, netip.MustParseAddrPort("192.0.2.67:6666"))...)}))},
	}
	return append(all, k.synChecks()...)
}

// synChecks returns those of options that come with the SYN.
func (k *kit) synChecks() []check {
	toa := packet.TOA(packet.DefaultTOAKind)
	other := netip.MustParseAddrPort("192.0.2.67:6666")
	return []check{
		{"accept: option on the SYN", k.tcp("tcp4", lip4, client4, client4, handshake{syn: option(toa, client4)})},
		{"accept: option on the SYN, IPv6", k.tcp("tcp6", lip6, client6, client6, handshake{syn: option(toa, client6)})},
		{"accept: option on the SYN, socket for both versions", k.tcp("tcp", lip4, client4, client4, handshake{syn: option(toa, client4)})},
		{"accept: another option on the third ACK than on the SYN", k.tcp("tcp4", lip4, other, other,
			handshake{syn: option(toa, client4), ack: option(toa, other)})},
		{"accept: untrusted on the SYN, ignored and counted", k.counted(realserver.Untrusted,
			k.tcp("tcp4", stranger, netip.AddrPort{}, netip.AddrPort{}, handshake{syn: option(toa, client4)}))},
		{"accept: two clients on the SYN, ignored and counted", k.counted(realserver.Contradiction,
			k.tcp("tcp4", lip4, netip.AddrPort{}, netip.AddrPort{}, handshake{syn: append(option(toa, client4), option(toa, other)...)}))},
		{"accept: option on the SYN outside the cgroup, ignored", k.elsewhere},
	}
}

// elsewhere is a check: a SYN to a socket of another cgroup is not read, and so
// names nobody in this one.
func (k *kit) elsewhere() error {
	var l net.Listener
	err := k.server.Do(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		return err
	}
	defer l.Close()
	before, err := realserver.Ask(k.options.Socket)
	if err != nil {
		return err
	}
	local := netip.AddrPortFrom(lip4, k.port)
	h := handshake{syn: option(packet.TOA(packet.DefaultTOAKind), client4)}
	if err := k.balancer.connect(local, netip.AddrPortFrom(server4, port), h); err != nil {
		return err
	}
	c, err := accept(l.(*net.TCPListener))
	if err != nil {
		return err
	}
	defer c.Close()
	after, err := realserver.Ask(k.options.Socket)
	if err == nil && after.Mappings.Handshakes > before.Mappings.Handshakes {
		err = errors.New("the SYN was read")
	}
	return errors.Join(err, same("accept", c.RemoteAddr().(*net.TCPAddr).AddrPort(), local))
}

// noticeChecks returns those of UDP.
func (k *kit) noticeChecks() []check {
	return []check{
		{"recvmsg, sendmsg: IPv4", k.udp("udp4", lip4, server4, client4, client4, packet.NoticePacked)},
		{"recvmsg, sendmsg: notice of 44 bytes", k.udp("udp4", lip4, server4, client4, client4, packet.NoticePadded)},
		{"recvmsg, sendmsg: IPv4, socket for both versions", k.udp("udp", lip4, server4, client4, client4, packet.NoticePacked)},
		{"recvmsg, sendmsg: IPv6", k.udp("udp6", lip6, server6, client6, client6, packet.NoticePacked)},
		{"recvmsg, sendmsg: 6to4: LIP", k.udp("udp4", lip4, server4, client6, netip.AddrPort{}, packet.NoticePacked)},
		{"recvmsg, sendmsg: two clients of one socket", k.several},
		{"recvmsg: untrusted, ignored and counted", k.counted(realserver.NoticeUntrusted,
			k.udp("udp4", stranger, server4, client4, netip.AddrPort{}, packet.NoticePacked))},
		{"getsockopt 2048: IPv4", k.mapping("udp4", lip4, server4, client4)},
		{"getsockopt 2048: IPv6", k.mapping("udp6", lip6, server6, client6)},
		{"getsockopt 2048: 6to4", k.mapping("udp4", lip4, server4, client6)},
		{"connect, getpeername: IPv4", k.connected("udp4", lip4, server4, client4)},
		{"connect, getpeername: IPv6", k.connected("udp6", lip6, server6, client6)},
	}
}

// option returns the option that tells a client, a multiple of four bytes.
func option(form packet.AddressOption, client netip.AddrPort) []byte {
	b := make([]byte, packet.MaxAddressOption)
	return b[:form.Encode(b, packet.EndpointFrom(client))]
}

func (k *kit) announce(lip, server netip.Addr, client netip.AddrPort, proto uint8, length int) error {
	return k.balancer.notice(packet.Notice{
		Local: packet.EndpointFrom(netip.AddrPortFrom(lip, k.port)), Real: packet.EndpointFrom(netip.AddrPortFrom(server, port)),
		Client: packet.EndpointFrom(client), Proto: proto, Length: length,
	})
}

// inGroup calls f in the namespace of the server and in the cgroup.
func (k *kit) inGroup(f func() error) error {
	leave, err := k.group.Enter()
	if err != nil {
		return err
	}
	return errors.Join(k.server.Do(f), leave())
}

// tcp returns a check: a connection from lip, whose client accept and
// getpeername tell as told, the LIP if that is the zero AddrPort, and getsockopt
// as known, nobody if that is.
func (k *kit) tcp(network string, lip netip.Addr, known, told netip.AddrPort, h handshake) func() error {
	return func() error {
		l, err := k.listenTCP(network)
		if err != nil {
			return err
		}
		defer l.Close()
		server, local := server4, netip.AddrPortFrom(lip, k.port)
		if lip.Is6() {
			server = server6
		}
		if err := k.balancer.connect(local, netip.AddrPortFrom(server, port), h); err != nil {
			return err
		}
		c, err := accept(l)
		if err != nil {
			return err
		}
		defer c.Close()
		if !told.IsValid() {
			told = local
		}
		if err := same("accept", c.RemoteAddr().(*net.TCPAddr).AddrPort(), told); err != nil {
			return err
		}
		return control(c, func(fd int) error { return k.told(fd, known, told) })
	}
}

// told is an error if getpeername does not tell a client as told, or getsockopt as known.
func (k *kit) told(fd int, known, told netip.AddrPort) error {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return fmt.Errorf("getpeername: %w", err)
	}
	return errors.Join(same("getpeername", addrPort(peer), told), askSockopts(fd, known))
}

// listenTCP opens a listening socket of the server.
func (k *kit) listenTCP(network string) (l *net.TCPListener, err error) {
	err = k.inGroup(func() error {
		one, err := net.Listen(network, fmt.Sprintf(":%d", port))
		if err == nil {
			l = one.(*net.TCPListener)
		}
		return err
	})
	return l, err
}

// accept waits for a connection, not longer than patience.
func accept(l *net.TCPListener) (*net.TCPConn, error) {
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return l.AcceptTCP()
}

// udp returns a check: a datagram from lip, whose client recvmsg tells as told,
// the LIP if that is the zero AddrPort; the answer goes to lip in any case.
func (k *kit) udp(network string, lip, server netip.Addr, client, told netip.AddrPort, length int) func() error {
	return func() error {
		c, peer, local, err := k.receive(network, lip, server, client, length)
		if err != nil {
			return err
		}
		defer c.Close()
		if !told.IsValid() {
			told = local
		}
		if err := same("recvmsg", peer, told); err != nil {
			return err
		}
		if _, err := c.WriteToUDPAddrPort([]byte("answer"), peer); err != nil {
			return fmt.Errorf("sendmsg: %w", err)
		}
		return k.expect("the answer of sendmsg", local)
	}
}

// receive opens a UDP socket, announces a client and has the socket receive a
// datagram from there.
func (k *kit) receive(network string, lip, server netip.Addr, client netip.AddrPort, length int) (c *net.UDPConn, peer, local netip.AddrPort, err error) {
	if c, err = k.listenUDP(network); err != nil {
		return nil, peer, local, err
	}
	local = netip.AddrPortFrom(lip, k.port)
	if err = k.announce(lip, server, client, packet.ProtoUDP, length); err == nil {
		peer, err = k.hear(c, local, server)
	}
	if err != nil {
		return nil, peer, local, errors.Join(err, c.Close())
	}
	return c, peer, local, nil
}

// listenUDP opens a UDP socket of the server.
func (k *kit) listenUDP(network string) (c *net.UDPConn, err error) {
	err = k.inGroup(func() error {
		config := net.ListenConfig{Control: reuseAddress}
		p, err := config.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", port))
		if err == nil {
			c = p.(*net.UDPConn)
		}
		return err
	})
	return c, err
}

// expect waits for a datagram to local.
func (k *kit) expect(what string, local netip.AddrPort) error {
	_, err := k.balancer.receive(what, func(p *packet.Packet) bool {
		return p.Flow.Proto == packet.ProtoUDP && p.Flow.Destination().Netip() == local
	})
	return err
}

// connected returns a check: a socket that is connected to a client.
func (k *kit) connected(network string, lip, server netip.Addr, client netip.AddrPort) func() error {
	return func() error {
		first, peer, local, err := k.receive(network, lip, server, client, packet.NoticePacked)
		if err != nil {
			return err
		}
		defer first.Close()
		if err := same("recvmsg", peer, client); err != nil {
			return err
		}
		var c net.Conn
		err = k.inGroup(func() (err error) {
			d := net.Dialer{Control: reuseAddress, LocalAddr: &net.UDPAddr{Port: port}}
			c, err = d.Dial(network, client.String())
			return err
		})
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer c.Close()
		err = control(c.(*net.UDPConn), func(fd int) error {
			peer, err := unix.Getpeername(fd)
			if err != nil {
				return fmt.Errorf("getpeername: %w", err)
			}
			return same("getpeername", addrPort(peer), client)
		})
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte("answer")); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		return k.expect("the answer of a connected socket", local)
	}
}
