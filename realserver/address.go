package realserver

import (
	"encoding/binary"
	"net/netip"
)

// words returns an address as the programs have it: IPv4 mapped into IPv6, in
// words that are in network order.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// address is the inverse of words.
func address(w [4]uint32) netip.Addr {
	var b [16]byte
	for i := range w {
		binary.NativeEndian.PutUint32(b[4*i:], w[i])
	}
	return netip.AddrFrom16(b).Unmap()
}

// hostPort returns a port that is in network order.
func hostPort(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}

func (e *peerEndpoint) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(address(e.Addr), hostPort(e.Port))
}
