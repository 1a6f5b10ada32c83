package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
)

// An Endpoint is where an attempt goes, and for whom it is made.
type Endpoint struct {
	netip.AddrPort
	Via     Via
	choose  Source
	Service string
	ID      ID
	Real    packet.Endpoint // which the check is about, wherever it goes
}

// portTries is how many ports are tried of a range that has been given.
const portTries = 8

// source returns the addresses to come from, as far as that is not the kernel's
// choice.
func (e *Endpoint) source() (addr netip.Addr, ports PortRange) {
	if e.Via.SrcPort != 0 {
		ports = PortRange{e.Via.SrcPort, e.Via.SrcPort}
	}
	if e.Via.Source.IsValid() || e.choose == nil {
		return e.Via.Source, ports
	}
	addr, taken := e.choose(e.Addr())
	if ports == (PortRange{}) && taken != (PortRange{}) {
		ports = outside(taken)
	}
	return addr, ports
}

// outside returns the larger of the ranges of ports below and above those that are
// taken; the zero value if none is left.
func outside(taken PortRange) (r PortRange) {
	const lowest = 512 // below are those that servers may have been given
	if taken.Min > lowest {
		r = PortRange{Min: lowest, Max: taken.Min - 1}
	}
	if 65535-taken.Max > r.Max-r.Min {
		r = PortRange{Min: taken.Max + 1, Max: 65535}
	}
	return r
}

// dial connects to e by "tcp" or "udp".
func (e *Endpoint) dial(ctx context.Context, network string) (net.Conn, error) {
	src, ports := e.source()
	for try := 1; ; try++ {
		d := net.Dialer{Control: e.control, FallbackDelay: -1, KeepAlive: -1}
		port := uint16(0)
		if ports != (PortRange{}) {
			port = ports.Min + uint16(rand.N(uint32(ports.Max-ports.Min)+1))
		}
		if src.IsValid() || port != 0 {
			if !src.IsValid() {
				src = anyAddr(e.Addr())
			}
			d.LocalAddr = localAddr(network, netip.AddrPortFrom(src, port))
		}
		conn, err := d.DialContext(ctx, network, e.AddrPort.String())
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) || ports.Min == ports.Max || try == portTries {
			return nil, plain(err)
		}
	}
}

func anyAddr(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func localAddr(network string, a netip.AddrPort) net.Addr {
	if network == "udp" {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

// control sets what Via asks for on a socket before it is bound.
func (e *Endpoint) control(_, _ string, raw syscall.RawConn) (err error) {
	if e.Via.Interface == "" && e.Via.Mark == 0 {
		return nil
	}
	controlled := raw.Control(func(fd uintptr) {
		if e.Via.Interface != "" {
			err = unix.BindToDevice(int(fd), e.Via.Interface)
		}
		if err == nil && e.Via.Mark != 0 {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(e.Via.Mark))
		}
	})
	if err != nil {
		return fmt.Errorf("interface %q, mark %d: %w", e.Via.Interface, e.Via.Mark, err)
	}
	return controlled
}

// plain returns what is at the bottom of a network error, in the words of an
// operator: who was asked he knows.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}
