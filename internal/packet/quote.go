package packet

import "encoding/binary"

// quotedTransport is how much of the transport header an error quotes at least
// (RFC 792): the ports, and of TCP the sequence number.
const quotedTransport = 8

// A quote is the packet that an ICMP error is about, as far as the error holds it.
type quote struct {
	l3, l4 int // offsets into Buf of its IP and its transport header
	flow   Flow
}

// quote finds the quote in the error p. It reports false if the quote does not
// reach as far as the ports, is not of TCP or UDP, or is of a packet that the one
// who gets the error cannot have sent.
func (p *Packet) quote() (q quote, ok bool) {
	b := p.ICMP().Body()
	q.l3 = p.L4 + icmpLen
	offset := 0 // only the first fragment holds the ports
	switch {
	case p.Version == 4 && len(b) >= ipv4MinLen && b[0]>>4 == 4:
		h := IPv4(b)
		if h.HeaderLen() < ipv4MinLen {
			return q, false
		}
		_, offset, _ = h.piece()
		q.flow.Src, q.flow.Dst, q.flow.Proto = h.Src(), h.Dst(), h.Proto()
		q.l4 = q.l3 + h.HeaderLen()
	case p.Version == 6 && len(b) >= ipv6Len && b[0]>>4 == 6:
		h := IPv6(b)
		x, why := skipExtensions(b)
		if dst := h.Dst(); why != Kept && why != Fragment || dst.Is4() {
			return q, false
		}
		if x.fragment != 0 {
			_, offset, _ = fragmentHeader(b[x.fragment:]).piece()
		}
		q.flow.Src, q.flow.Dst, q.flow.Proto = h.Src(), h.Dst(), x.proto
		q.l4 = q.l3 + x.at
	default:
		return q, false
	}
	if q.flow.Proto != ProtoTCP && q.flow.Proto != ProtoUDP || offset != 0 || p.End < q.l4+quotedTransport {
		return q, false
	}
	// RFC 1122, section 3.2.2: an error goes to the source of what it is about.
	if q.flow.Src != p.Flow.Dst {
		return q, false
	}
	q.flow.SrcPort = binary.BigEndian.Uint16(p.Buf[q.l4:])
	q.flow.DstPort = binary.BigEndian.Uint16(p.Buf[q.l4+2:])
	return q, true
}

// Quoted returns the flow of the packet that the error p quotes, which Parse made
// sure of; ok is false for a packet that is not an error.
func (p *Packet) Quoted() (f Flow, ok bool) {
	if !p.IsError() {
		return f, false
	}
	q, ok := p.quote()
	return q.flow, ok
}

// QuotedSeq returns the sequence number of the TCP segment that the error p
// quotes; ok is false if it quotes none.
func (p *Packet) QuotedSeq() (seq uint32, ok bool) {
	if !p.IsError() {
		return 0, false
	}
	q, ok := p.quote()
	if !ok || q.flow.Proto != ProtoTCP {
		return 0, false
	}
	return binary.BigEndian.Uint32(p.Buf[q.l4+tcpSeq:]), true
}

// MTU returns the MTU that p, an ICMP "fragmentation needed" or an ICMPv6 "packet
// too big", reports; ok is false for anything else. It may be any number: zero from
// a router older than RFC 1191, too small from a forger.
func (p *Packet) MTU() (mtu int, ok bool) {
	if !p.IsError() {
		return 0, false
	}
	return p.ICMP().report().mtu(p.Version)
}
