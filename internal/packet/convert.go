package packet

import "math/rand/v2"

// minMTU6 is the MTU that every IPv6 link has (RFC 8200, section 5).
const minMTU6 = 1280

// ConvertRoom is the most by which Convert lengthens a packet: an IPv6 header
// with a fragment header in the place of an IPv4 header.
const ConvertRoom = ipv6Len + extFragmentLen - ipv4MinLen

// Convert gives a TCP or UDP packet the source and destination src and dst, which
// are of the other address family than its own, and an IP header of that family
// (RFC 7915, sections 4.1 and 5.1). Ethernet and IP header move in front of the
// transport, which stays where it is; VLAN tags stay. TTL or hop limit is kept:
// DecrementTTL counts the hop. The transport's checksum is carried along.
//
// Any other Reason than Kept says why there is no such packet, TooBig among them
// if the 16-bit length or the headroom does not suffice; then nothing has changed.
//
// An IPv4 datagram that may be fragmented, or a fragment, that comes out larger
// than the next hop's MTU is Split's task.
func (p *Packet) Convert(src, dst Endpoint) Reason {
	if p.Flow.Proto != ProtoTCP && p.Flow.Proto != ProtoUDP {
		return NoCounterpart
	}
	h, why := p.readHeader()
	if why == Kept && p.lacksSum(&h) {
		why = NoChecksum
	}
	if why == Kept {
		why = p.replaceHeader(&h, p.L4)
	}
	if why != Kept {
		return why
	}
	// In one's complement the prefix of a mapped IPv4 address counts as zero, so
	// the pseudo-headers differ by the two Addrs of either end.
	d := delta(0).replaceAddr(p.Flow.Src[:], &src.Addr).replaceAddr(p.Flow.Dst[:], &dst.Addr)
	p.putHeader(&h)
	p.translateTransport(src.Port, dst.Port, d)
	if p.Version == 6 && p.Flow.Proto == ProtoUDP && p.HasTransport() && p.UDP().Sum() == 0 {
		p.sumUDP()
	}
	return Kept
}

// readHeader reads the IP header of a packet that may become one of the other
// family.
func (p *Packet) readHeader() (h header, why Reason) {
	if p.Version == 4 {
		h, why = readIPv4(p.IPv4())
	} else {
		h, _, why = readIPv6(p.Buf[p.L3:p.End])
	}
	return h, why
}

// lacksSum reports whether p is UDP without a checksum and cannot have one: RFC
// 7915, section 4.5, refuses a fragment, whose sum needs all the pieces, and RFC
// 8200, section 8.1, a datagram that came without one over IPv6. Of one with a
// tail not all the bytes are here.
func (p *Packet) lacksSum(h *header) bool {
	return p.Flow.Proto == ProtoUDP && p.HasTransport() && p.UDP().Sum() == 0 &&
		(p.Version == 6 || h.fragment || p.Tail > 0)
}

// replaceHeader makes p a packet of the other family whose transport begins at l4:
// it moves the Ethernet header and leaves room behind it, into which putHeader
// writes h. It settles the fields of h that only the new header has.
func (p *Packet) replaceHeader(h *header, l4 int) Reason {
	version := 10 - p.Version
	l3 := l4 - h.len(version)
	start := l3 - (p.L3 - p.Start)
	if start < 0 || version == 4 && ipv4MinLen+h.offset+h.size > 0xffff {
		return TooBig
	}
	if version == 4 && !h.fragment {
		h.identify()
	}
	copy(p.Buf[start:], p.Buf[p.Start:p.L3])
	p.Start, p.L3, p.L4 = start, l3, l4
	p.Version = version
	return Kept
}

// identify settles whether an IPv4 datagram that was whole in IPv6 may be
// fragmented. RFC 7915, section 5.1: it may if IPv6 would let its sender not go
// smaller, at 1260 bytes and less, and then needs an identification of its own;
// RFC 6864, section 4.1: otherwise any will do. A number by chance needs no state
// that workers share, and nobody can foresee it (RFC 7739, section 5.3).
func (h *header) identify() {
	h.dontFragment = ipv4MinLen+h.size > minMTU6-(ipv6Len-ipv4MinLen)
	if !h.dontFragment {
		h.id = rand.Uint32()
	}
}
