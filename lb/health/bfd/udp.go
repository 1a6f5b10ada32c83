package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// From the standards: where control packets go to (RFC 5881, section 4; RFC 5883,
// section 5) and come from.
const (
	portSingleHop = 3784
	portMultihop  = 4784
	firstSource   = 49152
	sources       = 65536 - firstSource
)

// Our choices. A second of a thousand neighbors, each a hundred times a second, fits in
// the buffer; what comes to the port that packets are sent from nobody reads.
const (
	receiveBuffer = 4 << 20 // bytes, less if the host allows no more
	unreadBuffer  = 1
	sourceTries   = 32
	longest       = 256 // bytes of a datagram that can be a control packet: its length field has 8 bits
)

func (k Kind) port() uint16 {
	if k.Multihop {
		return portMultihop
	}
	return portSingleHop
}

func (k Kind) network() string {
	if k.V6 {
		return "udp6"
	}
	return "udp4"
}

// udp is the link of fnatd.
type udp struct {
	Kind
	in      *net.UDPConn
	raw     syscall.RawConn // of in
	receive func(Datagram)

	reading sync.Mutex // held from taking a datagram until it is dealt with
	buf     [longest]byte
	control [128]byte

	out map[uint8]*net.UDPConn // by TTL; the Speaker's lock guards it
}

// UDP is the Listen of fnatd: the port of a kind on the host. It is not shared: another program that has it
// would get some of the packets, or all.
func UDP(k Kind, receive func(Datagram)) (Link, error) {
	c := net.ListenConfig{Control: k.set(func(fd int) error {
		// The size is a wish: what the host allows is what there is.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		if k.V6 {
			return errors.Join(
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	})}
	conn, err := c.ListenPacket(context.Background(), k.network(), fmt.Sprintf(":%d", k.port()))
	if err != nil {
		return nil, k.explain(err)
	}
	u := &udp{Kind: k, in: conn.(*net.UDPConn), receive: receive, out: map[uint8]*net.UDPConn{}}
	if u.raw, err = u.in.SyscallConn(); err != nil {
		_ = u.Close()
		return nil, err
	}
	go u.read()
	return u, nil
}

// explain says what is to be done if the port cannot be had.
func (k Kind) explain(err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("bfd: udp port %d is in use: another program on this host speaks BFD, as bird, FRR and keepalived do (switch BFD off there, or take the checks of type bfd out here)", k.port())
	}
	return fmt.Errorf("bfd: %w", err)
}

// set returns what a net.ListenConfig does with a new socket.
func (k Kind) set(options func(fd int) error) func(_, _ string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) (err error) {
		if controlled := raw.Control(func(fd uintptr) { err = options(int(fd)) }); controlled != nil {
			return controlled
		}
		return err
	}
}

// read takes what comes until the socket is closed.
func (u *udp) read() {
	_ = u.raw.Read(func(fd uintptr) bool {
		u.takeAll(int(fd))
		return false // wait for more
	})
}

// Drain implements Link. RawConn.Read would wait for read, which waits for packets.
func (u *udp) Drain() { _ = u.raw.Control(func(fd uintptr) { u.takeAll(int(fd)) }) }

// takeAll deals with every datagram that has come.
func (u *udp) takeAll(fd int) {
	u.reading.Lock()
	defer u.reading.Unlock()
	for {
		n, oobn, _, from, err := unix.Recvmsg(fd, u.buf[:], u.control[:], unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // EAGAIN: there is no more
			return
		}
		d := Datagram{Payload: u.buf[:n], From: address(from)}
		d.To, d.TTL = arrival(u.control[:oobn])
		u.receive(d)
	}
}

func address(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr)
	}
	return netip.Addr{}
}

// arrival reads where a datagram was sent to, and its TTL.
func arrival(control []byte) (to netip.Addr, ttl uint8) {
	for len(control) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return to, ttl
		}
		control = rest
		switch {
		case (h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT) && len(data) >= 4:
			ttl = uint8(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12: // struct in_pktinfo: ipi_addr is last
			to = netip.AddrFrom4([4]byte(data[8:12]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 16: // struct in6_pktinfo
			to = netip.AddrFrom16([16]byte(data))
		}
	}
	return to, ttl
}

// Send implements Link. A packet that cannot go out at once is lost, as others are.
func (u *udp) Send(b []byte, to, from netip.Addr, ttl uint8) error {
	out, err := u.sender(ttl)
	if err != nil {
		return err
	}
	var oob []byte
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(u.port())}
	if u.V6 {
		sa = &unix.SockaddrInet6{Port: int(u.port()), Addr: to.As16()}
		if from.IsValid() {
			oob = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
		}
	} else {
		sa.(*unix.SockaddrInet4).Addr = to.As4()
		if from.IsValid() {
			oob = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
		}
	}
	raw, err := out.SyscallConn()
	if err != nil {
		return err
	}
	if controlled := raw.Control(func(fd uintptr) { err = unix.Sendmsg(int(fd), b, oob, sa, unix.MSG_DONTWAIT) }); controlled != nil {
		return controlled
	}
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EINVAL) && from.IsValid():
		return fmt.Errorf("%v is no address of this host", from)
	case errors.Is(err, unix.EAGAIN):
		return nil
	}
	return err
}

// sender returns the socket that packets with a TTL are sent from. RFC 5881, section 4,
// would have another source port for each session, which takes a socket for each; what
// has become of a session its discriminators tell, and not its ports.
func (u *udp) sender(ttl uint8) (*net.UDPConn, error) {
	if out := u.out[ttl]; out != nil {
		return out, nil
	}
	c := net.ListenConfig{Control: u.set(func(fd int) error {
		const control = 0xc0 // DSCP CS6: network control (RFC 4594, section 3.2)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, unreadBuffer)
		if u.V6 {
			return errors.Join(
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, control),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, int(ttl)))
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, control),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, int(ttl)))
	})}
	for try := 1; ; try++ {
		conn, err := c.ListenPacket(context.Background(), u.network(), fmt.Sprintf(":%d", firstSource+rand.IntN(sources)))
		if err == nil {
			u.out[ttl] = conn.(*net.UDPConn)
			return u.out[ttl], nil
		}
		if !errors.Is(err, unix.EADDRINUSE) || try == sourceTries {
			return nil, fmt.Errorf("bfd: source port: %w", err)
		}
	}
}

// Close implements Link.
func (u *udp) Close() error {
	errs := []error{u.in.Close()}
	for _, out := range u.out {
		errs = append(errs, out.Close())
	}
	return errors.Join(errs...)
}
