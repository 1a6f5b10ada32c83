package packet

import "encoding/binary"

// Translate gives the packet a new source and destination, which must be of its
// own address family, and repairs the checksums of IP and of the transport.
// Addresses and ports count as one change, of which the addresses concern the
// transport through its pseudo-header; ICMP over IPv4 has none. ICMP has no ports
// either: those of src and dst are ignored. So are they in a fragment without
// transport header, whose checksum is in the first one. An ICMP error is
// RewriteError's: it goes where the packet that it quotes came from.
func (p *Packet) Translate(src, dst Endpoint) {
	var d delta
	if p.Version == 4 {
		// Of the flow only what can differ is written: to copy an Addr just passed
		// by value would stall the load.
		copy(p.Flow.Src[12:], src.Addr[12:])
		copy(p.Flow.Dst[12:], dst.Addr[12:])
		d = IPv4(p.Buf[p.L3:][:ipv4MinLen]).setAddrs(&src.Addr, &dst.Addr)
	} else {
		h := p.IPv6()
		d = d.replaceAddr(h[ipv6Src:], &src.Addr).replaceAddr(h[ipv6Dst:], &dst.Addr)
		p.Flow.Src = src.Addr
		p.Flow.Dst = dst.Addr
	}
	p.translateTransport(src.Port, dst.Port, d)
}

// translateTransport sets the ports and repairs the transport's checksum after
// that and the change d of its pseudo-header.
func (p *Packet) translateTransport(src, dst uint16, d delta) {
	if !p.HasTransport() {
		return
	}
	switch p.Flow.Proto {
	case ProtoTCP:
		t := TCP(p.Buf[p.L4:][:tcpMinLen])
		d = p.setPorts(t, src, dst, d)
		t.setSum(t.Sum().amend(d))
	case ProtoUDP:
		u := UDP(p.Buf[p.L4:][:udpLen])
		d = p.setPorts(u, src, dst, d)
		u.amend(d)
	case ProtoICMPv6:
		m := p.ICMP()
		m.setSum(m.Sum().amend(d))
	}
}

// setPorts overwrites the ports at the head of the transport header b and in the
// flow, and returns d with that change.
func (p *Packet) setPorts(b []byte, src, dst uint16, d delta) delta {
	ports := uint32(src)<<16 | uint32(dst)
	old := binary.BigEndian.Uint32(b)
	binary.BigEndian.PutUint32(b, ports)
	p.Flow.SrcPort, p.Flow.DstPort = src, dst
	return d.replace(uint64(old), uint64(ports))
}

// setAddrs overwrites both addresses, which are next to each other, one word of 64
// bits, repairs the checksum and returns the change.
func (h IPv4) setAddrs(src, dst *Addr) delta {
	addrs := uint64(binary.BigEndian.Uint32(src[12:]))<<32 | uint64(binary.BigEndian.Uint32(dst[12:]))
	d := delta(0).replace(binary.BigEndian.Uint64(h[ipv4Src:]), addrs)
	binary.BigEndian.PutUint64(h[ipv4Src:], addrs)
	h.setSum(h.Sum().amend(d))
	return d
}

// replaceAddr overwrites the IPv6 address at the head of b by a and returns d
// with that change.
func (d delta) replaceAddr(b []byte, a *Addr) delta {
	d = d.replace(binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(a[:]))
	d = d.replace(binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(a[8:]))
	copy(b, a[:])
	return d
}

// DecrementTTL takes one from the TTL or hop limit. It reports false, and changes
// nothing, if that is 1 or 0 already: RFC 1812, section 5.3.1, and RFC 8200,
// section 3, have such a packet discarded.
func (p *Packet) DecrementTTL() bool {
	if p.Version == 6 {
		h := p.IPv6()
		if h[ipv6HopLimit] <= 1 {
			return false
		}
		h[ipv6HopLimit]--
		return true
	}
	h := p.IPv4()
	if h[ipv4TTL] <= 1 {
		return false
	}
	old := binary.BigEndian.Uint16(h[ipv4TTL:])
	h[ipv4TTL]--
	h.setSum(h.Sum().Replace16(old, old-0x100))
	return true
}

// AddSeq adds delta, modulo 2^32, to the sequence number of a TCP segment.
func (p *Packet) AddSeq(delta uint32) { p.add(tcpSeq, delta) }

// AddAck adds delta, modulo 2^32, to the acknowledgement number of a TCP segment.
// It does so even if ACK is not set and the number means nothing; SACK edges are
// ShiftSACK's.
func (p *Packet) AddAck(delta uint32) { p.add(tcpAck, delta) }

// add adds delta to the 32-bit field at offset field of the TCP header.
func (p *Packet) add(field int, delta uint32) {
	if delta == 0 {
		return
	}
	t := p.TCP()
	old := binary.BigEndian.Uint32(t[field:])
	binary.BigEndian.PutUint32(t[field:], old+delta)
	t.setSum(t.Sum().Replace32(old, old+delta))
}

// RecomputeChecksums computes the checksums of IP and transport from scratch,
// for frames from a virtual link whose other end leaves only the pseudo-header's
// sum in the field. A UDP checksum of zero stays zero. The transport checksum of
// a fragment stays as it is: it covers the other pieces as well. tail is the rest
// of a frame that has one.
func (p *Packet) RecomputeChecksums(tail ...[]byte) {
	if p.Version == 4 {
		h := p.IPv4()
		h.setSum(0)
		h.setSum(Checksum(h))
	}
	if p.isFragment() {
		return
	}
	switch p.Flow.Proto {
	case ProtoTCP:
		p.TCP().setSum(p.transportSum(tail...))
	case ProtoUDP:
		if p.UDP().Sum() != 0 {
			p.sumUDP(tail...)
		}
	case ProtoICMP, ProtoICMPv6:
		p.ICMP().setSum(p.transportSum())
	}
}

// sumUDP computes the checksum of a UDP datagram; zero is sent as all ones.
func (p *Packet) sumUDP(tail ...[]byte) {
	s := p.transportSum(tail...)
	if s == 0 {
		s = 0xffff
	}
	p.UDP().setSum(s)
}

// transportSum returns the checksum that the transport header should carry: over
// pseudo-header (but for ICMP over IPv4), header and payload, the checksum field
// itself counted as zero.
func (p *Packet) transportSum(tail ...[]byte) Sum {
	size, field := p.End-p.L4+p.Tail, tcpSum
	switch p.Flow.Proto {
	case ProtoUDP:
		size, field = p.UDP().Len(), udpSum
	case ProtoICMP, ProtoICMPv6:
		field = icmpSum
	}
	b := p.Buf[p.L4:min(p.L4+size, p.End)]
	var acc uint64
	if p.Flow.Proto != ProtoICMP {
		acc = pseudoSum(&p.Flow.Src, &p.Flow.Dst, p.Flow.Proto, size)
	}
	acc = onesSum(acc, b[:field])
	acc = onesSum(acc, b[field+2:])
	at := len(b)
	for _, b := range tail {
		b = b[:min(len(b), size-at)]
		d := delta(onesSum(0, b))
		if at&1 != 0 {
			d = d.odd()
		}
		acc = onesAdd(acc, uint64(d))
		at += len(b)
	}
	return Sum(^fold(acc))
}
