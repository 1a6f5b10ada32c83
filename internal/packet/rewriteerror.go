package packet

import "encoding/binary"

// An ErrorRewrite says what becomes of an ICMP error on its way through fnatd, so
// that its receiver finds in it the packet that it sent itself.
type ErrorRewrite struct {
	Src                  Addr     // who reports; the error goes to QuotedSrc
	QuotedSrc, QuotedDst Endpoint // ends of the quoted packet, both of Src's family
	SeqDelta             uint32   // added to a quoted TCP sequence number
	MTUDelta             int      // added to a reported MTU; -8 if fnatd adds 8 bytes
}

// RewriteError rewrites the ICMP error p and the packet that it quotes as e says,
// within a family (RFC 5508, section 4.2) or from one to the other (RFC 7915,
// sections 4.2, 4.3, 5.2 and 5.3). It repairs every checksum that the error holds:
// of both IP headers, of the ICMP message, and the quoted transport's, which
// becomes what the receiver sent, unless fnatd changed more than e tells.
//
// Between families a reported MTU changes by the difference of the headers, too,
// and what a quote may not hold then is cut off: extensions (RFC 4884), which may
// speak of addresses of their own, and what exceeds 576 bytes in IPv4 (RFC 1812,
// section 4.3.2.3) or 1280 in IPv6 (RFC 4443, section 2.4).
//
// BadICMP means that the error's checksum is wrong, and NoCounterpart that the
// other family has no such error. Then, and after TooBig for want of headroom,
// nothing has changed.
func (p *Packet) RewriteError(e *ErrorRewrite) Reason {
	q, ok := p.quote()
	// RFC 5508, section 4.1, has a NAT validate the checksum. So damage is not
	// hidden by the new one, which is computed in full.
	if !ok || p.ICMP().Sum() != p.transportSum() {
		return BadICMP
	}
	version := uint8(6)
	if e.Src.Is4() {
		version = 4
	}
	r, ok := p.ICMP().report().rewrite(p.Version, version, p.quotedSize(&q), e.MTUDelta)
	if !ok {
		return NoCounterpart
	}
	if version == p.Version {
		p.Translate(Endpoint{Addr: e.Src}, Endpoint{Addr: e.QuotedSrc.Addr})
		p.readdressQuote(&q, e)
	} else if why := p.convertError(&q, e); why != Kept {
		return why
	}
	p.translateQuote(&q, e)
	m := p.ICMP()
	m.setReport(r)
	m.setSum(p.transportSum())
	return Kept
}

// rewrite returns the report r as it is in IP version to, its MTU changed by by
// bytes; size is the quoted packet's. It reports false if there is no such report.
func (r report) rewrite(from, to uint8, size, by int) (_ report, ok bool) {
	mtu, tooBig := r.mtu(from)
	switch {
	case from < to:
		r, ok = r.toICMPv6()
	case from > to:
		r, ok = r.toICMP()
	default:
		ok = true
	}
	if tooBig {
		mtu = translateMTU(mtu, from, to, size, by)
		if to == 4 {
			r.word = r.word&^0xffff | uint32(mtu)
		} else {
			r.word = uint32(mtu)
		}
	}
	return r, ok
}

// quotedSize returns the bytes that the quoted packet had, as it says itself.
func (p *Packet) quotedSize(q *quote) int {
	if p.Version == 4 {
		return IPv4(p.Buf[q.l3:]).TotalLen()
	}
	return ipv6Len + IPv6(p.Buf[q.l3:]).PayloadLen()
}

// readdressQuote overwrites the addresses in the quoted IP header.
func (p *Packet) readdressQuote(q *quote, e *ErrorRewrite) {
	h := p.Buf[q.l3:q.l4]
	if p.Version == 4 {
		IPv4(h).setAddrs(&e.QuotedSrc.Addr, &e.QuotedDst.Addr)
		return
	}
	copy(h[ipv6Src:], e.QuotedSrc.Addr[:])
	copy(h[ipv6Dst:], e.QuotedDst.Addr[:])
}

// translateQuote overwrites ports and sequence number in the quoted transport
// header and repairs its checksum, if the quote reaches so far. A UDP checksum of
// zero stays zero.
func (p *Packet) translateQuote(q *quote, e *ErrorRewrite) {
	b := p.Buf[q.l4:p.End]
	d := delta(0).replaceAddr(q.flow.Src[:], &e.QuotedSrc.Addr).replaceAddr(q.flow.Dst[:], &e.QuotedDst.Addr)
	old := binary.BigEndian.Uint64(b)
	binary.BigEndian.PutUint16(b, e.QuotedSrc.Port)
	binary.BigEndian.PutUint16(b[2:], e.QuotedDst.Port)
	if q.flow.Proto == ProtoUDP {
		d = d.replace(old>>32, uint64(binary.BigEndian.Uint32(b)))
		UDP(b).amend(d)
		return
	}
	binary.BigEndian.PutUint32(b[tcpSeq:], uint32(old)+e.SeqDelta)
	if t := TCP(b); len(t) >= tcpSum+2 {
		t.setSum(t.Sum().amend(d.replace(old, binary.BigEndian.Uint64(b))))
	}
}

// convertError gives the error p and the quoted packet IP headers of the other
// family, with the addresses of e. The quoted transport stays where it is; all
// before it moves.
func (p *Packet) convertError(q *quote, e *ErrorRewrite) Reason {
	outer, why := p.readHeader()
	if why != Kept {
		return why
	}
	inner, why := p.readQuote(q)
	if why != Kept {
		return why
	}
	version, limit := uint8(6), minMTU6
	outer.proto = ProtoICMPv6
	if p.Version == 6 {
		version, limit = 4, maxError4
		outer.proto = ProtoICMP
	}
	l3 := q.l4 - inner.len(version)
	l4 := l3 - icmpLen
	end := min(p.quoteEnd(q, &inner), l4+limit-outer.len(version))
	outer.fragment, outer.size = false, end-l4
	if why := p.replaceHeader(&outer, l4); why != Kept {
		return why
	}
	p.Payload, p.End = l3, end
	p.Flow = Flow{Src: e.Src, Dst: e.QuotedSrc.Addr, Proto: outer.proto}
	p.putHeader(&outer)
	q.l3 = l3
	inner.put(p.Buf[l3:q.l4], &e.QuotedSrc.Addr, &e.QuotedDst.Addr)
	return Kept
}

// readQuote reads the quoted packet's IP header. A length that is too small for a
// transport header, as some routers leave it behind, becomes what is there.
func (p *Packet) readQuote(q *quote) (h header, why Reason) {
	if p.Version == 4 {
		h, why = readIPv4(IPv4(p.Buf[q.l3:q.l4]))
	} else {
		h, _, why = readIPv6(p.Buf[q.l3:p.End])
		h.dontFragment = !h.fragment
	}
	if h.size < quotedTransport {
		h.size = p.End - q.l4
	}
	h.size = min(h.size, 0xffff-ipv6Len)
	return h, why
}

// quoteEnd returns where the quoted packet ends: before an extension, and before
// the padding that RFC 4884, section 4, puts in front of one.
func (p *Packet) quoteEnd(q *quote, h *header) int {
	end := min(p.End, q.l4+h.size)
	if n := p.ICMP().report().quotedLen(p.Version); q.l3+n >= q.l4+quotedTransport {
		end = min(end, q.l3+n)
	}
	return end
}
