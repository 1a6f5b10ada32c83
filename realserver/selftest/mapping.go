package selftest

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// queryMapping is DPVS's, for UDP. Unlike other queries it is asked in the buffer
// that it is answered in, for which package unix has no function.
const queryMapping = 2048

// askMapping asks who is behind peer, as recvmsg has told it, of a server's socket.
func askMapping(fd int, peer, server netip.AddrPort) (netip.AddrPort, error) {
	// struct uoa_param_map: family, addresses, ports, and the client likewise.
	var q [58]byte
	family := uint16(unix.AF_INET)
	if peer.Addr().Is6() {
		family = unix.AF_INET6
	}
	binary.NativeEndian.PutUint16(q[:], family)
	copy(q[2:], peer.Addr().AsSlice())
	copy(q[18:], server.Addr().AsSlice())
	binary.BigEndian.PutUint16(q[34:], peer.Port())
	binary.BigEndian.PutUint16(q[36:], server.Port())
	size := uint32(len(q))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, queryMapping,
		uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	client := netip.AddrFrom16([16]byte(q[40:]))
	if binary.NativeEndian.Uint16(q[38:]) == unix.AF_INET {
		client = netip.AddrFrom4([4]byte(q[40:]))
	}
	return netip.AddrPortFrom(client, binary.BigEndian.Uint16(q[56:])), nil
}
