package selftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Queries that fnatrs answers, at level SOL_IP.
const (
	queryTTM  = 1345
	queryDPVS = 4096
)

// same is an error if a call has told another address.
func same(call string, got, want netip.AddrPort) error {
	got = netip.AddrPortFrom(got.Addr().Unmap(), got.Port())
	if got != want {
		return fmt.Errorf("%s tells %v, not %v", call, got, want)
	}
	return nil
}

// control calls f with a socket's descriptor.
func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var told error
	return errors.Join(raw.Control(func(fd uintptr) { told = f(int(fd)) }), told)
}

// reuseAddress lets two sockets have one port.
func reuseAddress(_, _ string, c syscall.RawConn) error {
	var set error
	return errors.Join(c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}), set)
}

func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), uint16(s.Port))
	}
	return netip.AddrPort{}
}

// askSockopts checks the answers of both queries; the zero AddrPort is nobody,
// whom both refuse.
func askSockopts(fd int, client netip.AddrPort) error {
	for _, q := range []struct {
		option int
		decode func([]byte) netip.AddrPort
	}{{queryTTM, decodeTTM}, {queryDPVS, decodeDPVS}} {
		// Of all the kernel's structs this one is 32 plain bytes.
		answer, err := unix.GetsockoptICMPv6Filter(fd, unix.SOL_IP, q.option)
		if !client.IsValid() {
			if !errors.Is(err, unix.ENOPROTOOPT) {
				return fmt.Errorf("getsockopt %d: %v, not %v", q.option, err, unix.ENOPROTOOPT)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("getsockopt %d: %w", q.option, err)
		}
		var b []byte
		for _, word := range answer.Data {
			b = binary.NativeEndian.AppendUint32(b, word)
		}
		if err := same(fmt.Sprintf("getsockopt %d", q.option), q.decode(b), client); err != nil {
			return err
		}
	}
	return nil
}

// decodeTTM reads struct ttm_peer: family in host order, port, address.
func decodeTTM(b []byte) netip.AddrPort {
	addr := netip.AddrFrom16([16]byte(b[4:20]))
	if binary.NativeEndian.Uint16(b) == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(b[4:8]))
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[2:]))
}

// decodeDPVS reads an in6_addr and a port.
func decodeDPVS(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), binary.BigEndian.Uint16(b[16:]))
}
