// Package packet reads and rewrites frames in place: header views, checksums,
// flow keys and the codecs that carry a client's address. It knows the wire and
// nothing else: no connection, no service, no socket.
package packet

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers (IANA) that fnatd forwards or speaks.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// An Addr is an IPv6 address, or an IPv4 address mapped into IPv6 (RFC 4291,
// section 2.5.5.2), in network order. The zero Addr is "no address".
type Addr [16]byte

// AddrFrom4 returns the Addr of the four IPv4 address bytes in b.
func AddrFrom4(b []byte) (a Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

// AddrFrom16 returns the Addr of the 16 IPv6 address bytes in b.
func AddrFrom16(b []byte) Addr { return Addr(b[:16]) }

// AddrFromNetip returns a as an Addr. An invalid a is the zero Addr.
func AddrFromNetip(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return Addr(a.As16())
}

// Is4 reports whether a is an IPv4 address.
func (a *Addr) Is4() bool {
	return binary.BigEndian.Uint64(a[0:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}

// mapped is the lower half of the Addr that is an IPv4 address, but for that, the first byte
// the lowest; the upper half is zero.
const mapped = 0xffff << 16

// Number4 returns the IPv4 address that a is, as a number; ok is false if it is none.
func (a *Addr) Number4() (n uint32, ok bool) {
	low := binary.BigEndian.Uint64(a[8:])
	return uint32(low), low>>32 == 0xffff && binary.BigEndian.Uint64(a[:8]) == 0
}

// Pair4 returns what a Plain has for Addrs of a packet from src to dst, which are IPv4
// addresses.
func Pair4(src, dst *Addr) uint64 {
	return uint64(binary.LittleEndian.Uint32(dst[12:]))<<32 | uint64(binary.LittleEndian.Uint32(src[12:]))
}

// As4 returns the IPv4 address bytes of a, which must be one.
func (a Addr) As4() [4]byte { return [4]byte(a[12:]) }

// Netip returns a as a netip.Addr: unmapped if it is an IPv4 address, invalid
// if it is zero.
func (a Addr) Netip() netip.Addr {
	if a == (Addr{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a).Unmap()
}

func (a Addr) String() string { return a.Netip().String() }

// An Endpoint is an address and a port, in the packet path's form. Off the
// packet path the same thing is a netip.AddrPort.
type Endpoint struct {
	Addr Addr
	Port uint16
}

// EndpointFrom returns ap as an Endpoint.
func EndpointFrom(ap netip.AddrPort) Endpoint {
	return Endpoint{AddrFromNetip(ap.Addr()), ap.Port()}
}

// Netip returns e as a netip.AddrPort.
func (e Endpoint) Netip() netip.AddrPort { return netip.AddrPortFrom(e.Addr.Netip(), e.Port) }

func (e Endpoint) String() string { return e.Netip().String() }

// A Flow is a five-tuple as read off the wire.
type Flow struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// Source returns the flow's sending end.
func (f *Flow) Source() Endpoint { return Endpoint{f.Src, f.SrcPort} }

// Destination returns the flow's receiving end.
func (f *Flow) Destination() Endpoint { return Endpoint{f.Dst, f.DstPort} }
