package packet

import "encoding/binary"

// defaultTTL is the TTL of a packet of fnatd's own, IANA's recommended default.
const defaultTTL = 64

// buildIP writes an Ethernet header with zero addresses and an IP header without
// options at buf[start:], for size bytes of transport of protocol proto, and makes
// p that frame. The transport's bytes are zero. The IPv4 header has DF set and
// identification 0, as RFC 6864, section 4.1, allows a datagram that is never
// fragmented.
func (p *Packet) buildIP(buf []byte, start int, src, dst Addr, proto, ttl uint8, size int) {
	h := header{proto: proto, ttl: ttl, size: size, dontFragment: true}
	p.Version = 6
	if src.Is4() {
		p.Version = 4
	}
	p.Buf, p.Start, p.L3 = buf, start, start+ethLen
	p.L4 = p.L3 + h.len(p.Version)
	p.End = p.L4 + size
	p.Flow = Flow{Src: src, Dst: dst, Proto: proto}
	clear(buf[start:p.End])
	p.putHeader(&h)
}

// putHeader writes h as the IP header of p between L3 and L4, with p's addresses,
// and the EtherType in front of it.
func (p *Packet) putHeader(h *header) {
	kind := uint16(EtherTypeIPv6)
	if p.Version == 4 {
		kind = EtherTypeIPv4
	}
	binary.BigEndian.PutUint16(p.Buf[p.L3-2:], kind)
	h.put(p.Buf[p.L3:p.L4], &p.Flow.Src, &p.Flow.Dst)
}
