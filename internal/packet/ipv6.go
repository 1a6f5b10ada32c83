package packet

import "encoding/binary"

// Offsets in an IPv6 header (RFC 8200, section 3).
const (
	ipv6PayloadLen = 4
	ipv6NextHeader = 6
	ipv6HopLimit   = 7
	ipv6Src        = 8
	ipv6Dst        = 24
	ipv6Len        = 40
)

// Extension headers (RFC 8200, section 4) that may stand before the transport
// header. Authentication headers are not among them: they protect the addresses
// that fnatd changes.
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extDestination = 60

	extMinLen       = 8
	extRoutingLeft  = 3 // offset of "segments left" in a routing header
	extFragmentBits = 2 // offset of offset and M flag in a fragment header
	extPiece        = 0xfff9

	// maxExtensions bounds the walk. RFC 8200, section 4.1, knows six headers in
	// the recommended order, of which fnatd passes four, one of them twice.
	maxExtensions = 8
)

// IPv6 is a view of an IPv6 header with its extension headers, which came from
// Packet.Parse or from a builder; accessors do not check its length.
type IPv6 []byte

// TrafficClass returns the byte of DSCP and ECN.
func (h IPv6) TrafficClass() uint8 { return uint8(binary.BigEndian.Uint16(h) >> 4) }

// FlowLabel returns the 20-bit flow label.
func (h IPv6) FlowLabel() uint32 { return binary.BigEndian.Uint32(h) & 0xfffff }

// PayloadLen returns the bytes that follow the fixed header, extension headers
// included.
func (h IPv6) PayloadLen() int { return int(binary.BigEndian.Uint16(h[ipv6PayloadLen:])) }

// NextHeader returns the type of what follows the fixed header.
func (h IPv6) NextHeader() uint8 { return h[ipv6NextHeader] }

// HopLimit returns the hop limit.
func (h IPv6) HopLimit() uint8 { return h[ipv6HopLimit] }

// Src returns the source address.
func (h IPv6) Src() Addr { return AddrFrom16(h[ipv6Src:]) }

// Dst returns the destination address.
func (h IPv6) Dst() Addr { return AddrFrom16(h[ipv6Dst:]) }

// skipExtensions walks the extension headers of the IPv6 datagram b, which holds
// at least the fixed header. It returns the type and the offset of the first
// header that is not one of them. Fragment means that the walk ended at a
// fragment header, whose next header is returned.
func skipExtensions(b []byte) (proto uint8, at int, why Reason) {
	proto, at = b[ipv6NextHeader], ipv6Len
	for range maxExtensions {
		switch proto {
		case extHopByHop, extRouting, extFragment, extDestination:
		default:
			return proto, at, Kept
		}
		h := b[at:]
		if len(h) < extMinLen {
			return proto, at, ShortFrame
		}
		size := int(h[1])*8 + 8
		switch proto {
		case extFragment:
			size = extMinLen
			// RFC 6946: a fragment with offset 0 and no more to come is a whole
			// datagram and not to be mixed with others.
			if binary.BigEndian.Uint16(h[extFragmentBits:])&extPiece != 0 {
				return h[0], at + size, Fragment
			}
		case extRouting:
			// RFC 8200, section 4.4: a node that does not know the routing type
			// discards a packet with segments left. fnatd knows none, and the
			// checksum would cover the last segment, not the destination.
			if h[extRoutingLeft] != 0 {
				return proto, at, BadIPHeader
			}
		}
		if len(h) < size {
			return proto, at, ShortFrame
		}
		proto, at = h[0], at+size
	}
	return proto, at, BadIPHeader
}
