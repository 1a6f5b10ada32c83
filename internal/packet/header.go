package packet

import "encoding/binary"

// A header is what the headers of both IP versions say, addresses aside: what RFC
// 7915, sections 4.1 and 5.1, carries from one into the other.
type header struct {
	class uint8 // traffic class, in IPv4 type of service
	ttl   uint8 // hop limit
	proto uint8 // of the transport
	size  int   // bytes of transport and payload

	// fragment says that there is a fragment header, or in IPv4 that the fields of
	// one are set: id, offset in bytes, more. In IPv4 id counts in any case.
	fragment, more bool
	id             uint32
	offset         int
	dontFragment   bool // DF, in IPv4 only
}

// IPv4 options that give a route through hosts (RFC 791, section 3.1).
const (
	ipv4OptEnd         = 0
	ipv4OptNOP         = 1
	ipv4OptLooseRoute  = 131
	ipv4OptStrictRoute = 137
	ipv4OptPointer     = 2 // offset of the pointer in a source route
)

// readIPv4 reads h, options included. RFC 7915, section 4.1: options are left
// out, but a packet with a source route that has hops left is refused.
func readIPv4(h IPv4) (x header, why Reason) {
	if h.sourceRouted() {
		return x, NoCounterpart
	}
	x = header{
		class: h.TOS(), ttl: h.TTL(), proto: h.Proto(), size: h.TotalLen() - h.HeaderLen(),
		fragment: h.IsFragment(), dontFragment: h.DontFragment(),
	}
	x.id, x.offset, x.more = h.piece()
	return x, Kept
}

// sourceRouted reports whether the options hold a source route with hops left.
func (h IPv4) sourceRouted() bool {
	o := h[ipv4MinLen:]
	for len(o) > ipv4OptPointer && o[0] != ipv4OptEnd {
		n := 1
		if o[0] != ipv4OptNOP {
			n = int(o[1])
		}
		if n < 1 || n > len(o) {
			return false
		}
		// The pointer counts from 1. RFC 791: the route has come to its end when
		// the pointer is greater than the length.
		if (o[0] == ipv4OptLooseRoute || o[0] == ipv4OptStrictRoute) && int(o[ipv4OptPointer]) <= n {
			return true
		}
		o = o[n:]
	}
	return false
}

// readIPv6 reads the headers at the head of the datagram b, which Parse has walked,
// and returns where the transport begins. Extension headers are left out but for the fragment header,
// as RFC 7915, section 5.1, has it; when some stand behind that, the offsets of
// the pieces would count them, so section 5.1.1 refuses the packet.
func readIPv6(b []byte) (x header, at int, why Reason) {
	ext, why := skipExtensions(b)
	h := IPv6(b)
	x = header{
		class: h.TrafficClass(), ttl: h.HopLimit(), proto: ext.proto, size: ipv6Len + h.PayloadLen() - ext.at,
		fragment: ext.fragment != 0,
	}
	if x.fragment {
		x.id, x.offset, x.more = fragmentHeader(b[ext.fragment:]).piece()
	}
	if why == Fragment && (ext.at != ext.fragment+extFragmentLen || isExtension(ext.proto)) {
		return x, ext.at, NoCounterpart
	}
	return x, ext.at, Kept
}

// len returns the bytes of h in that IP version.
func (h *header) len(version uint8) int {
	switch {
	case version == 4:
		return ipv4MinLen
	case h.fragment:
		return ipv6Len + extFragmentLen
	}
	return ipv6Len
}

// put writes h over all of b, which is of the length that src's IP version needs.
func (h *header) put(b []byte, src, dst *Addr) {
	if len(b) == ipv4MinLen {
		h.putIPv4(b, src, dst)
	} else {
		h.putIPv6(b, src, dst)
	}
}

func (h *header) putIPv4(b IPv4, src, dst *Addr) {
	b[0], b[1] = 4<<4|ipv4MinLen/4, h.class
	binary.BigEndian.PutUint16(b[ipv4TotalLen:], uint16(ipv4MinLen+h.size))
	binary.BigEndian.PutUint16(b[ipv4ID:], uint16(h.id))
	bits := uint16(h.offset / 8)
	if h.more {
		bits |= ipv4MF
	}
	if h.dontFragment {
		bits |= ipv4DF
	}
	binary.BigEndian.PutUint16(b[ipv4Fragment:], bits)
	b[ipv4TTL], b[ipv4Proto] = h.ttl, h.proto
	copy(b[ipv4Src:], src[12:])
	copy(b[ipv4Dst:], dst[12:])
	b.setSum(0)
	b.setSum(Checksum(b))
}

func (h *header) putIPv6(b IPv6, src, dst *Addr) {
	binary.BigEndian.PutUint32(b, 6<<28|uint32(h.class)<<20) // flow label 0
	binary.BigEndian.PutUint16(b[ipv6PayloadLen:], uint16(len(b)-ipv6Len+h.size))
	b[ipv6NextHeader], b[ipv6HopLimit] = h.proto, h.ttl
	copy(b[ipv6Src:], src[:])
	copy(b[ipv6Dst:], dst[:])
	if !h.fragment {
		return
	}
	b[ipv6NextHeader] = extFragment
	f := b[ipv6Len:]
	f[0], f[1] = h.proto, 0
	bits := uint16(h.offset)
	if h.more {
		bits |= extMF
	}
	binary.BigEndian.PutUint16(f[extFragmentBits:], bits)
	binary.BigEndian.PutUint32(f[extFragmentID:], h.id)
}
