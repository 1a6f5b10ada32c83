package packet

import "encoding/binary"

// buildIP writes an Ethernet header with zero addresses and an IP header without
// options at buf[start:], for size bytes of transport of protocol proto, and makes
// p that frame. The transport's bytes are zero. The IPv4 header has DF set and
// identification 0, as RFC 6864, section 4.1, allows a datagram that is never
// fragmented.
func (p *Packet) buildIP(buf []byte, start int, src, dst Addr, proto, ttl uint8, size int) {
	head := ipv6Len
	kind := uint16(EtherTypeIPv6)
	p.Version = 6
	if src.Is4() {
		head, kind, p.Version = ipv4MinLen, EtherTypeIPv4, 4
	}
	p.Buf, p.Start, p.L3 = buf, start, start+ethLen
	p.L4 = p.L3 + head
	p.End = p.L4 + size
	p.Flow = Flow{Src: src, Dst: dst, Proto: proto}
	clear(buf[start:p.End])
	binary.BigEndian.PutUint16(buf[start+ethType:], kind)
	if p.Version == 4 {
		p.putIPv4(ttl)
	} else {
		p.putIPv6(ttl)
	}
}

func (p *Packet) putIPv4(ttl uint8) {
	h := p.IPv4()
	h[0] = 4<<4 | ipv4MinLen/4
	binary.BigEndian.PutUint16(h[ipv4TotalLen:], uint16(p.IPLen()))
	binary.BigEndian.PutUint16(h[ipv4Fragment:], ipv4DF)
	h[ipv4TTL] = ttl
	h[ipv4Proto] = p.Flow.Proto
	src, dst := p.Flow.Src.As4(), p.Flow.Dst.As4()
	copy(h[ipv4Src:], src[:])
	copy(h[ipv4Dst:], dst[:])
	h.setSum(Checksum(h))
}

func (p *Packet) putIPv6(hopLimit uint8) {
	h := p.IPv6()
	h[0] = 6 << 4
	binary.BigEndian.PutUint16(h[ipv6PayloadLen:], uint16(p.End-p.L4))
	h[ipv6NextHeader] = p.Flow.Proto
	h[ipv6HopLimit] = hopLimit
	copy(h[ipv6Src:], p.Flow.Src[:])
	copy(h[ipv6Dst:], p.Flow.Dst[:])
}
