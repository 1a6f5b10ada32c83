package packet

// A Packet is a frame that Parse has understood. It is a set of offsets into the
// frame's buffer plus the flow; the buffer stays the caller's. One Packet is
// reused for frame after frame. Not safe for concurrent use.
//
// Invariant after Parse returned Kept or Fragment, kept by every mutator:
// Start+14 <= L3 < L4 <= Payload <= End <= len(Buf), Flow says what the headers
// say, and every header and option length lies within [Start, End). Payload is L4
// in a fragment other than the first, which has no transport header, and nowhere
// else. Of a frame that is longer than its buffer the rest, Tail bytes of payload,
// is elsewhere.
type Packet struct {
	Buf        []byte   // the whole frame buffer, headroom in front included
	Start, End int      // the frame is Buf[Start:End], Ethernet header first, no padding behind
	Tail       int      // bytes of the frame that follow in other buffers
	L3, L4     int      // offsets into Buf of the IP and the transport header
	Payload    int      // offset into Buf of the transport payload
	Flow       Flow     // ports are zero for ICMP
	Version    uint8    // of IP: 4 or 6
	Flags      TCPFlags // TCP only, else zero
}

// Frame returns the frame, but for its tail.
func (p *Packet) Frame() []byte { return p.Buf[p.Start:p.End] }

// Ethernet returns the Ethernet header with its VLAN tags.
func (p *Packet) Ethernet() Ethernet { return Ethernet(p.Buf[p.Start:p.L3]) }

// IPv4 returns the IP header of a packet of Version 4.
func (p *Packet) IPv4() IPv4 { return IPv4(p.Buf[p.L3:p.L4]) }

// IPv6 returns the IP header of a packet of Version 6, extension headers included.
func (p *Packet) IPv6() IPv6 { return IPv6(p.Buf[p.L3:p.L4]) }

// TCP returns the header of a TCP segment, options included.
func (p *Packet) TCP() TCP { return TCP(p.Buf[p.L4:p.Payload]) }

// UDP returns the header of a UDP datagram.
func (p *Packet) UDP() UDP { return UDP(p.Buf[p.L4:p.Payload]) }

// ICMP returns the whole of an ICMP or ICMPv6 message, which has no tail.
func (p *Packet) ICMP() ICMP { return ICMP(p.Buf[p.L4:p.End]) }

// PayloadLen returns the bytes of transport payload, in a fragment those that it
// holds.
func (p *Packet) PayloadLen() int {
	n := p.End - p.Payload + p.Tail
	if p.Flow.Proto == ProtoUDP && p.HasTransport() {
		n = min(n, p.UDP().Len()-udpLen)
	}
	return n
}

// SegmentLen returns how much sequence space a TCP segment occupies: SEG.LEN of
// RFC 9293, section 3.4, its payload plus one each for SYN and FIN.
func (p *Packet) SegmentLen() uint32 {
	n := uint32(p.End - p.Payload + p.Tail)
	if p.Flags&SYN != 0 {
		n++
	}
	if p.Flags&FIN != 0 {
		n++
	}
	return n
}

// TTL returns the time to live, which IPv6 calls the hop limit.
func (p *Packet) TTL() uint8 {
	if p.Version == 6 {
		return p.IPv6().HopLimit()
	}
	return p.IPv4().TTL()
}

// IPLen returns the bytes of the IP datagram, which is what an MTU bounds.
func (p *Packet) IPLen() int { return p.End - p.L3 + p.Tail }
