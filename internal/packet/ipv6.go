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

	extMinLen      = 8
	extRoutingLeft = 3 // offset of "segments left" in a routing header

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

// extensions is what a walk over the extension headers of an IPv6 datagram found.
// Offsets count from the fixed header's first byte.
type extensions struct {
	proto    uint8 // type of the first header that is not an extension header
	at       int   // its offset
	fragment int   // offset of the fragment header; 0 if there is none
}

// isExtension reports whether proto is one of the extension headers that
// skipExtensions walks.
func isExtension(proto uint8) bool {
	switch proto {
	case extHopByHop, extRouting, extFragment, extDestination:
		return true
	}
	return false
}

// skipExtensions walks the extension headers of the IPv6 datagram b, which holds
// at least the fixed header. Fragment means that it is a fragment. In a later one
// the walk ends behind the fragment header: what follows is a piece of payload,
// and proto is the type of the first fragment's.
func skipExtensions(b []byte) (x extensions, why Reason) {
	x = extensions{proto: b[ipv6NextHeader], at: ipv6Len}
	short := ShortFrame
	for range maxExtensions {
		if !isExtension(x.proto) {
			return x, why
		}
		h := b[x.at:]
		if len(h) < extMinLen {
			return x, short
		}
		size := int(h[1])*8 + 8
		switch x.proto {
		case extFragment:
			if x.fragment != 0 {
				return x, BadIPHeader
			}
			x.fragment = x.at
			size = extFragmentLen
			// RFC 6946: a fragment with offset 0 and no more to come is a whole
			// datagram and not to be mixed with others.
			if fragmentHeader(h).isPiece() {
				// RFC 7112, section 5: a first fragment holds all the headers.
				short, why = TinyFragment, Fragment
			}
			if _, offset, _ := fragmentHeader(h).piece(); offset != 0 {
				return extensions{h[0], x.at + size, x.fragment}, Fragment
			}
		case extRouting:
			// RFC 8200, section 4.4: a node that does not know the routing type
			// discards a packet with segments left. fnatd knows none, and the
			// checksum would cover the last segment, not the destination.
			if h[extRoutingLeft] != 0 {
				return x, BadIPHeader
			}
		}
		if len(h) < size {
			return x, short
		}
		x.proto, x.at = h[0], x.at+size
	}
	return x, BadIPHeader
}
