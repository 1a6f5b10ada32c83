package selftest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/realserver"
)

// The limits of fnatrs in the checks that reach them: the least it takes.
const (
	shortTimeout = time.Second
	fewMappings  = 1024
	flood        = 3 * fewMappings
)

// counted returns a check: it passes if run does, and a counter goes up by one.
func (k *kit) counted(c realserver.Counter, run func() error) func() error {
	return func() error {
		before, err := realserver.Ask(k.options.Socket)
		if err != nil {
			return err
		}
		if err := run(); err != nil {
			return err
		}
		after, err := realserver.Ask(k.options.Socket)
		if err == nil && after.Count(c) != before.Count(c)+1 {
			err = fmt.Errorf("counter %s: %d, not one more than %d", c, after.Count(c), before.Count(c))
		}
		return err
	}
}

// refused is a check: a second fnatrs for the cgroup does not start, by its own
// control socket or by the first one's.
func (k *kit) refused() error {
	for _, socket := range []string{k.options.Socket, filepath.Join(k.dir, "second.sock")} {
		o := k.options
		o.Socket, o.Beside = socket, false
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := k.server.Do(func() error { return realserver.Run(ctx, o) })
		cancel()
		if err == nil || !strings.Contains(err.Error(), "another fnatrs") {
			return fmt.Errorf("control socket %s: %v, not the name of the first one", socket, err)
		}
	}
	return nil
}

// timeoutChecks are for a fnatrs of shortTimeout.
func (k *kit) timeoutChecks() []check {
	announce := func(proto uint8) error {
		err := k.announce(lip4, server4, client4, proto, packet.NoticePacked)
		time.Sleep(shortTimeout + 100*time.Millisecond)
		return err
	}
	return []check{
		{"accept: forgotten after --tcp-timeout", func() error {
			if err := announce(packet.ProtoTCP); err != nil {
				return err
			}
			return k.tcp("tcp4", lip4, netip.AddrPort{}, netip.AddrPort{}, handshake{})()
		}},
		{"recvmsg: forgotten after --udp-timeout", func() error {
			if err := announce(packet.ProtoUDP); err != nil {
				return err
			}
			c, err := k.listenUDP("udp4")
			if err != nil {
				return err
			}
			defer c.Close()
			local := netip.AddrPortFrom(lip4, k.port)
			peer, err := k.hear(c, local, server4)
			if err != nil {
				return err
			}
			return same("recvmsg", peer, local)
		}},
	}
}

// floodChecks are for a fnatrs of fewMappings.
func (k *kit) floodChecks() []check {
	return []check{{"accept: more connections than there is room for", k.crowded}, {"recvmsg: a flood of notices pushes out no flow in use", func() error {
		c, peer, local, err := k.receive("udp4", lip4, server4, client4, packet.NoticePacked)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := same("recvmsg, before", peer, client4); err != nil {
			return err
		}
		for i := range flood {
			buf := make([]byte, packet.NoticeLen)
			n := packet.BuildNotice(buf, 0, &packet.Notice{
				Local:  packet.EndpointFrom(netip.AddrPortFrom(lip4, uint16(1+i))),
				Real:   packet.EndpointFrom(netip.AddrPortFrom(server4, port)),
				Client: packet.EndpointFrom(netip.AddrPortFrom(client4.Addr(), uint16(1+i))), Proto: packet.ProtoUDP, Length: packet.NoticePacked,
			})
			if err := k.balancer.send(buf[:n]); err != nil {
				return err
			}
		}
		s, err := realserver.Ask(k.options.Socket)
		if err != nil {
			return err
		}
		if s.Mappings.Noticed > fewMappings || s.Count(realserver.Noticed) < fewMappings {
			return fmt.Errorf("%d of %d notices read, %d kept, not more than there is room for", s.Count(realserver.Noticed), flood, s.Mappings.Noticed)
		}
		if peer, err = k.hear(c, local, server4); err != nil {
			return err
		}
		return same("recvmsg, in the flood", peer, client4)
	}}}
}

// crowded is a check: of more connections than have a slot, each is known for its own,
// also when others have come and gone.
func (k *kit) crowded() (err error) {
	l, err := k.listenTCP("tcp4")
	if err != nil {
		return err
	}
	defer l.Close()
	client := func(i int) netip.AddrPort { return netip.AddrPortFrom(client4.Addr(), uint16(1+i)) }
	var open [fewMappings + 100]*net.TCPConn
	var all [len(open)]func() error
	defer func() {
		for _, hangUp := range all {
			if hangUp != nil {
				err = errors.Join(err, hangUp())
			}
		}
	}()
	for round := range 2 {
		for i := round; i < len(all); i += 1 + round {
			if all[i] != nil {
				if err := all[i](); err != nil {
					return err
				}
			}
			if open[i], all[i], err = k.call(l, client(i)); err != nil {
				return fmt.Errorf("connection %d of round %d: %w", i, round, err)
			}
		}
	}
	for i, c := range open {
		if err := control(c, func(fd int) error { return k.told(fd, client(i), client(i)) }); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return nil
}

// call makes a connection of a client whom accept has to tell. hangUp resets it, and
// waits for that: nothing is left on the wire.
func (k *kit) call(l *net.TCPListener, client netip.AddrPort) (c *net.TCPConn, hangUp func() error, err error) {
	k.port++
	local := netip.AddrPortFrom(lip4, k.port)
	h := handshake{ack: option(packet.TOA(packet.DefaultTOAKind), client)}
	if err := k.balancer.connect(local, netip.AddrPortFrom(server4, port), h); err != nil {
		return nil, nil, err
	}
	if c, err = accept(l); err != nil {
		return nil, nil, err
	}
	hangUp = func() error {
		err := errors.Join(c.SetLinger(0), c.Close())
		_, gone := k.balancer.receive("RST", func(p *packet.Packet) bool {
			return p.Flow.Proto == packet.ProtoTCP && p.Flow.Destination().Netip() == local && p.TCP().Flags()&packet.RST != 0
		})
		return errors.Join(err, gone)
	}
	return c, hangUp, same("accept", c.RemoteAddr().(*net.TCPAddr).AddrPort(), client)
}

// mapping returns a check: getsockopt tells whom recvmsg has told, or has no room for.
func (k *kit) mapping(network string, lip, server netip.Addr, client netip.AddrPort) func() error {
	return func() error {
		c, peer, _, err := k.receive(network, lip, server, client, packet.NoticePacked)
		if err != nil {
			return err
		}
		defer c.Close()
		return control(c, func(fd int) error {
			got, err := askMapping(fd, netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), netip.AddrPortFrom(server, port))
			if err != nil {
				return fmt.Errorf("getsockopt %d: %w", queryMapping, err)
			}
			return same(fmt.Sprintf("getsockopt %d", queryMapping), got, client)
		})
	}
}

// several is a check: two clients of one socket, each answered by its own port of the LIP.
func (k *kit) several() error {
	c, first, local, err := k.receive("udp4", lip4, server4, client4, packet.NoticePacked)
	if err != nil {
		return err
	}
	defer c.Close()
	k.port++
	other := netip.MustParseAddrPort("192.0.2.77:7777")
	if err := k.announce(lip4, server4, other, packet.ProtoUDP, packet.NoticePacked); err != nil {
		return err
	}
	second, err := k.hear(c, netip.AddrPortFrom(lip4, k.port), server4)
	if err != nil {
		return err
	}
	for _, told := range []struct{ got, want, local netip.AddrPort }{
		{first, client4, local}, {second, other, netip.AddrPortFrom(lip4, k.port)},
	} {
		if err := same("recvmsg", told.got, told.want); err != nil {
			return err
		}
		if _, err := c.WriteToUDPAddrPort([]byte("answer"), told.got); err != nil {
			return fmt.Errorf("sendmsg: %w", err)
		}
		if err := k.expect("the answer of sendmsg", told.local); err != nil {
			return err
		}
	}
	return nil
}

// hear has a socket receive a datagram from local, and returns whom it was told.
func (k *kit) hear(c *net.UDPConn, local netip.AddrPort, server netip.Addr) (peer netip.AddrPort, err error) {
	if err := k.balancer.sendUDP(local, netip.AddrPortFrom(server, port), "question"); err != nil {
		return peer, err
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return peer, err
	}
	_, peer, err = c.ReadFromUDPAddrPort(make([]byte, 64))
	return peer, err
}
