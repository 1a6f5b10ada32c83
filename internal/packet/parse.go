package packet

import "encoding/binary"

// Parse makes p the frame buf[start:end], for which 0 <= start <= end <= len(buf).
// All lengths are checked here, once; accessors and mutators rely on it.
//
// Kept means a TCP segment, a UDP datagram, or an ICMP or ICMPv6 message that is
// an echo or an error. Fragment means a fragment of a TCP segment or a UDP
// datagram, of which every field is valid too: that of a first fragment, whose
// transport header is whole, as if it were a packet, that of a later one without
// ports, flags and transport header. After any other Reason only Buf and Start are.
//
// Checksums are not verified: they are carried along, so that damage on the way
// stays visible to the end that the packet is meant for.
func (p *Packet) Parse(buf []byte, start, end int) Reason { return p.ParseHead(buf, start, end, 0) }

// ParseHead is Parse for a frame of which buf[start:end] is the head: tail bytes
// follow in other buffers. All headers must lie in the head. Only frames below 60
// bytes are padded (IEEE 802.3, section 4.2.3.3), so a tail has no padding.
func (p *Packet) ParseHead(buf []byte, start, end, tail int) Reason {
	p.Buf, p.Start, p.End, p.Tail = buf, start, end, tail
	f := buf[start:end]
	if len(f) < ethLen {
		return ShortFrame
	}
	at := ethLen
	kind := binary.BigEndian.Uint16(f[ethType:])
	for tags := 0; isTag(kind); tags++ {
		if tags == maxTags {
			return NotIP
		}
		if len(f) < at+tagLen {
			return ShortFrame
		}
		kind = binary.BigEndian.Uint16(f[at+2:])
		at += tagLen
	}
	p.L3 = start + at
	switch kind {
	case EtherTypeIPv4:
		return p.parseIPv4(f[at:])
	case EtherTypeIPv6:
		return p.parseIPv6(f[at:])
	}
	return NotIP
}

// parseIPv4 parses the datagram at the head of b; what is left of b is padding.
func (p *Packet) parseIPv4(b []byte) Reason {
	if len(b) < ipv4MinLen {
		return ShortFrame
	}
	h := IPv4(b)
	size, total := h.HeaderLen(), h.TotalLen()-p.Tail // total is of the head
	if b[0]>>4 != 4 || size < ipv4MinLen || total < size || total > len(b) || p.Tail > 0 && total < len(b) {
		return BadIPHeader
	}
	p.Version = 4
	p.End = p.L3 + total
	p.L4 = p.L3 + size
	p.Flow.Src.set4(b[ipv4Src:])
	p.Flow.Dst.set4(b[ipv4Dst:])
	p.Flow.Proto = h.Proto()
	if h.IsFragment() {
		_, offset, more := h.piece()
		return p.parseFragment(b[size:total], size, offset, more)
	}
	if p.Flow.Proto == ProtoTCP { // spares most frames one call
		return p.parseTCP(b[size:total])
	}
	return p.parseTransport(b[size:total])
}

// set4 makes a the IPv4 address in b, by two whole stores, so that a load that
// follows soon finds its word in one piece in the store buffer.
func (a *Addr) set4(b []byte) { a.setNumber4(binary.BigEndian.Uint32(b)) }

// setNumber4 is set4 for the address as a number.
func (a *Addr) setNumber4(n uint32) {
	binary.LittleEndian.PutUint64(a[:8], 0)
	binary.BigEndian.PutUint64(a[8:], 0xffff<<32|uint64(n))
}

// parseIPv6 parses the datagram at the head of b; what is left of b is padding.
func (p *Packet) parseIPv6(b []byte) Reason {
	if len(b) < ipv6Len {
		return ShortFrame
	}
	h := IPv6(b)
	total := ipv6Len + h.PayloadLen() - p.Tail // of the head
	if b[0]>>4 != 6 || total < ipv6Len || total > len(b) || p.Tail > 0 && total < len(b) {
		return BadIPHeader
	}
	p.Version = 6
	p.End = p.L3 + total
	p.Flow.Src = h.Src()
	p.Flow.Dst = h.Dst()
	// An IPv4-mapped address names a host of the other family inside fnatd. RFC
	// 6890, section 2.2.3: it is no packet's source or destination.
	if p.Flow.Src.Is4() || p.Flow.Dst.Is4() {
		return BadIPHeader
	}
	x, why := skipExtensions(b[:total])
	p.L4 = p.L3 + x.at
	p.Flow.Proto = x.proto
	switch why {
	case Kept:
		return p.parseTransport(b[x.at:total])
	case Fragment:
		_, offset, more := fragmentHeader(b[x.fragment:]).piece()
		return p.parseFragment(b[x.at:total], x.at-ipv6Len-extFragmentLen, offset, more)
	}
	return why
}

// parseTransport parses b, the payload of the whole datagram.
func (p *Packet) parseTransport(b []byte) Reason {
	switch p.Flow.Proto {
	case ProtoTCP:
		return p.parseTCP(b)
	case ProtoUDP:
		return p.parseUDP(b, len(b)+p.Tail)
	case ProtoICMP, ProtoICMPv6:
		return p.parseICMP(b)
	}
	return BadProtocol
}

func (p *Packet) parseTCP(b []byte) Reason {
	if len(b) < tcpMinLen {
		return ShortFrame
	}
	t := TCP(b)
	size := t.HeaderLen()
	if size < tcpMinLen || size > len(b) {
		return BadTCPHeader
	}
	// A client could hide an address option that it forged behind a malformed
	// one, where fnatd and the real server might disagree about its place.
	if size > tcpMinLen && !optionsValid(b[tcpMinLen:size]) {
		return BadTCPHeader
	}
	p.Payload = p.L4 + size
	p.Flow.SrcPort, p.Flow.DstPort = t.SrcPort(), t.DstPort()
	p.Flags = t.Flags()
	return Kept
}

// parseUDP parses the header at the head of b, which belongs to a datagram of at
// most size bytes.
func (p *Packet) parseUDP(b []byte, size int) Reason {
	if len(b) < udpLen {
		return ShortFrame
	}
	u := UDP(b)
	if n := u.Len(); n < udpLen || n > size {
		return BadUDPLength
	}
	p.Payload = p.L4 + udpLen
	p.Flow.SrcPort, p.Flow.DstPort = u.SrcPort(), u.DstPort()
	p.Flags = 0
	return Kept
}

func (p *Packet) parseICMP(b []byte) Reason {
	// No message that fnatd handles is so long: an error is to be at most 576 bytes
	// (RFC 1812, section 4.3.2.3) or 1280 (RFC 4443, section 2.4).
	if len(b) < icmpLen || p.Tail > 0 {
		return BadICMP
	}
	p.Payload = p.L4 + icmpLen
	p.Flow.SrcPort, p.Flow.DstPort = 0, 0
	p.Flags = 0
	switch p.Flow.Proto {
	case ProtoICMP:
		if p.Version != 4 {
			return BadProtocol
		}
		switch b[0] {
		case ICMPEchoReply, ICMPEchoRequest:
			return Kept
		case ICMPUnreachable, ICMPTimeExceeded, ICMPParameter:
			return p.parseQuote()
		}
	case ProtoICMPv6:
		if p.Version != 6 {
			return BadProtocol
		}
		switch b[0] {
		case ICMPv6EchoReply, ICMPv6EchoRequest:
			return Kept
		case ICMPv6Unreachable, ICMPv6TooBig, ICMPv6TimeExceeded, ICMPv6Parameter:
			return p.parseQuote()
		}
	}
	return BadProtocol
}

// parseQuote keeps an error whose quote tells the flow that it is about.
func (p *Packet) parseQuote() Reason {
	if _, ok := p.Quoted(); !ok {
		return BadICMP
	}
	return Kept
}
