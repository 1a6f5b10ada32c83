package packet

import "math/rand/v2"

// Split cuts p, which is larger than mtu, in two: p keeps what fits into mtu bytes
// of IP, and rest becomes a fragment of what is left, behind the same Ethernet
// header, in buf at start. When rest is larger than mtu it can be split in turn.
// Checksums stay right; a checksum to be computed in full is computed before.
//
// It is for IPv4 (RFC 791, section 3.2), and for what Convert made of IPv4 that
// may be fragmented, which RFC 7915, section 4, has the translator cut; what came
// as IPv6 is its sender's to cut. It reports false, and changes nothing, if p fits,
// has DF set, IPv4 options or extension headers, if not even its transport header
// fits, or if buf or the headroom is too small.
func (p *Packet) Split(rest *Packet, buf []byte, start, mtu int) bool {
	h, why := p.readHeader()
	if why != Kept || h.dontFragment || p.IPLen() <= mtu {
		return false
	}
	if !h.fragment && p.Version == 6 {
		h.id = rand.Uint32() // RFC 7739, section 5.3
	}
	h.fragment = true
	head, ethernet := h.len(p.Version), p.L3-p.Start
	n := (mtu - head) &^ 7
	if n <= 0 || n < p.Payload-p.L4 || p.L4-p.L3 > head || p.L4-head < ethernet ||
		len(buf)-start < ethernet+head+h.size-n {
		return false
	}

	*rest = Packet{Buf: buf, Start: start, L3: start + ethernet, Version: p.Version, Flow: p.Flow}
	rest.Flow.SrcPort, rest.Flow.DstPort = 0, 0
	rest.L4 = rest.L3 + head
	rest.Payload = rest.L4
	rest.End = rest.L4 + copy(buf[rest.L4:], p.Buf[p.L4+n:p.End])
	copy(buf[start:rest.L3], p.Ethernet())
	tail := h
	tail.offset += n
	tail.size -= n
	rest.putHeader(&tail)

	copy(p.Buf[p.L4-head-ethernet:], p.Ethernet())
	p.L3 = p.L4 - head
	p.Start = p.L3 - ethernet
	p.End = p.L4 + n
	h.more, h.size = true, n
	p.putHeader(&h)
	return true
}
