package packet

import "encoding/binary"

// A Plain is a packet of the kind that nearly all are: IPv4 or IPv6 without options or
// extension headers, whole and in one buffer, with some way to go, and of TCP a segment
// that a connection begins with, goes on with or ends with in good order. It knows of its
// frame what finding a connection takes, and if it is Simple can change it in all the
// ways that forwarding takes; a Packet, which knows more, costs more.
//
// The zero Plain is none; only what Read or ReadTagged has filled has methods.
type Plain struct {
	Ends
	size   int32    // bytes of the frame, without VLAN tags and padding
	Proto  uint8    // TCP or UDP
	header uint8    // bytes of the transport header
	Flags  TCPFlags // a segment's: SYN, SYN and ACK, ACK, or FIN and ACK, and others; of UDP none
	simple bool
}

// Ends are who a plain packet is from and to.
type Ends struct {
	head  *[PlainRoom]byte // of the frame, without VLAN tags: MAC addresses only where there are none
	Addrs uint64           // IPv4 source and destination, as the header has them (big-endian); of IPv6 nothing
	Ports uint32           // likewise, of either
	six   bool
	tags  uint8 // bytes of VLAN tags that stand before what head calls the EtherType
}

// Offsets in such a frame, and in what begins with its transport header.
const (
	plainIP     = ethLen
	plainL4     = ethLen + ipv4MinLen
	plainL4of6  = ethLen + ipv6Len
	plainStamps = tcpMinLen + onlyTimestampsLen // behind the timestamps
	plainL4Room = tcpMaxLen
)

// PlainRoom is how many bytes of a frame's buffer Read wants, whatever there is of the
// frame: the longest headers of a plain packet. TaggedRoom is the same for ReadTagged.
const (
	PlainRoom  = plainL4of6 + tcpMaxLen
	TaggedRoom = PlainRoom + maxTags*tagLen
)

// plainIPv4 returns where the packet ends whose link and IP headers these are, and its
// protocol. It is ok if it is untagged IPv4 without options, whole, and may go on.
func plainIPv4(head *[plainL4]byte) (end int, proto uint8, ok bool) {
	// EtherType, version, header length, total length; what tells a fragment, TTL, protocol.
	first, second := binary.BigEndian.Uint64(head[ethType:]), binary.BigEndian.Uint64(head[plainIP+6:])
	const (
		moreOrOffset = 0x3fff << 48
		ttlAbove1    = 0xfe << 40
	)
	ok = first>>40 == EtherTypeIPv4<<8|0x45 && second&moreOrOffset == 0 && second&ttlAbove1 != 0
	return plainIP + int(first>>16&0xffff), uint8(second >> 32), ok
}

// plainIPv6 returns where the packet ends whose link and IP headers these are, and its
// protocol. It is ok if it is untagged IPv6, with the transport behind the fixed header,
// and may go on. Addresses of which the upper half is zero, as that of IPv4-mapped ones
// is, are for Parse to judge.
func plainIPv6(head *[plainL4of6]byte) (end int, proto uint8, ok bool) {
	// EtherType, version, class and label, payload length.
	first := binary.BigEndian.Uint64(head[ethType:])
	ok = first>>48 == EtherTypeIPv6 && first>>44&0xf == 6 && head[plainIP+ipv6HopLimit] > 1 &&
		binary.BigEndian.Uint64(head[plainIP+ipv6Src:]) != 0 && binary.BigEndian.Uint64(head[plainIP+ipv6Dst:]) != 0
	return plainL4of6 + int(first&0xffff), head[plainIP+ipv6NextHeader], ok
}

// tagsLen returns the bytes of the VLAN tags of a frame, as far as fnatd knows them.
func tagsLen(frame *[TaggedRoom]byte) (n int) {
	for n < maxTags*tagLen && isTag(binary.BigEndian.Uint16(frame[ethType+n:])) {
		n += tagLen
	}
	return n
}

// ReadTagged is Read for a frame with VLAN tags; of one without it reports false.
func (p *Plain) ReadTagged(frame *[TaggedRoom]byte, size int) bool {
	tags := tagsLen(frame)
	if tags == 0 || !p.Read((*[PlainRoom]byte)(frame[tags:]), size-tags) {
		return false
	}
	p.tags = uint8(tags)
	return true
}

// Read makes p the packet in the first size bytes of what begins with head, which may
// be padded, and reports whether it is a plain one without VLAN tags. If it is, Parse
// keeps it too, and says the same of it.
func (p *Plain) Read(head *[PlainRoom]byte, size int) bool {
	end, proto, ok := plainIPv4((*[plainL4]byte)(head[:]))
	room, l4 := end-plainL4, (*[plainL4Room]byte)(head[plainL4:])
	p.six, p.tags = !ok, 0
	if !ok {
		end, proto, ok = plainIPv6((*[plainL4of6]byte)(head[:]))
		room, l4 = end-plainL4of6, (*[plainL4Room]byte)(head[plainL4of6:])
	}
	if !ok || end > size {
		return false
	}
	p.Addrs = binary.BigEndian.Uint64(head[plainIP+ipv4Src:])
	p.head, p.size = head, int32(end)
	p.Ports = binary.BigEndian.Uint32(l4[:])
	p.Proto = proto
	if p.Proto != ProtoTCP {
		p.header, p.Flags, p.simple = udpLen, 0, true
		n := int(binary.BigEndian.Uint16(l4[udpSize:]))
		return p.Proto == ProtoUDP && room >= udpLen && n >= udpLen && n <= room
	}
	// Offset, flags and window are one word.
	third := binary.BigEndian.Uint32(l4[tcpOffset:])
	p.header, p.Flags = uint8(third>>28*4), TCPFlags(third>>16)
	opens := p.Flags & (SYN | FIN | RST | ACK)
	if room < int(p.header) {
		return false
	}
	p.simple = opens&^FIN == ACK && (p.header == tcpMinLen ||
		p.header == plainStamps && binary.BigEndian.Uint32(l4[tcpMinLen:]) == onlyTimestampsHead)
	return p.simple || (opens&^FIN == ACK || opens&^ACK == SYN) && p.header >= tcpMinLen && optionsValid(l4[tcpMinLen:p.header])
}

// Simple reports whether Forward can do all that is to be done with the packet: of TCP
// that it is not a SYN and has no option but timestamps in their usual place.
func (p *Plain) Simple() bool { return p.simple }

// Answers reports whether the packet is a SYN-ACK.
func (p *Plain) Answers() bool { return p.Flags&(SYN|ACK) == SYN|ACK }

// Opens reports whether the packet begins a connection.
func (p *Plain) Opens() bool { return p.Flags&(SYN|ACK) == SYN }

// Is6 reports whether the packet is of IPv6.
func (e *Ends) Is6() bool { return e.six }

// l4 returns what begins with the transport header.
func (p *Plain) l4() *[plainL4Room]byte {
	if p.six {
		return (*[plainL4Room]byte)(p.head[plainL4of6:])
	}
	return (*[plainL4Room]byte)(p.head[plainL4:])
}

// at returns where that is in the frame.
func (p *Plain) at() int {
	if p.six {
		return plainL4of6
	}
	return plainL4
}

// Src6 and Dst6 return the addresses of a packet of IPv6, as its frame has them.
func (e *Ends) Src6() *Addr { return (*Addr)(e.head[plainIP+ipv6Src:]) }
func (e *Ends) Dst6() *Addr { return (*Addr)(e.head[plainIP+ipv6Dst:]) }

// IsBetween reports whether the packet is from src to dst.
func (e *Ends) IsBetween(src, dst *Addr) bool {
	if e.six {
		return e.isBetween6(src, dst)
	}
	return src.Equal4(uint32(e.Addrs>>32)) && dst.Equal4(uint32(e.Addrs))
}

// isBetween6 is apart so that IsBetween is short enough to be inlined.
func (e *Ends) isBetween6(src, dst *Addr) bool { return *src == *e.Src6() && *dst == *e.Dst6() }

// SetFlow makes f the flow of the packet, which is of this protocol.
func (e *Ends) SetFlow(f *Flow, proto uint8) {
	f.Set4(e.Addrs, e.Ports, proto)
	if e.six {
		f.Src, f.Dst = *e.Src6(), *e.Dst6()
	}
}

// Packet makes q what Parse would make of the frame, which begins at buf[start].
func (p *Plain) Packet(q *Packet, buf []byte, start int) {
	head := start + int(p.tags)
	q.Buf, q.Start, q.End, q.Tail = buf, start, head+int(p.size), 0
	q.L3, q.L4, q.Payload = head+plainIP, head+p.at(), head+p.at()+int(p.header)
	p.SetFlow(&q.Flow, p.Proto)
	q.Version, q.Flags = 4, p.Flags
	if p.Is6() {
		q.Version = 6
	}
}

// Set4 makes f the flow of a protocol with addresses and ports as a Plain has them.
func (f *Flow) Set4(addrs uint64, ports uint32, proto uint8) {
	f.Src.setNumber4(uint32(addrs >> 32))
	f.Dst.setNumber4(uint32(addrs))
	f.SrcPort, f.DstPort, f.Proto = uint16(ports>>16), uint16(ports), proto
}

// Untagged returns where in the packet's frame the one begins that Forward makes of it, and
// the bytes of that: those of its VLAN tags and its padding are not among them.
func (p *Plain) Untagged() (at, size int) { return int(p.tags), int(p.size) }

// IPLen returns the bytes of the IP datagram.
func (p *Plain) IPLen() int { return int(p.size) - plainIP }

// Numbers returns a segment's sequence number, that of what follows it, and what it
// acknowledges.
func (p *Plain) Numbers() (seq, next, ack uint32) {
	both := binary.BigEndian.Uint64(p.l4()[tcpSeq:])
	seq = uint32(both >> 32)
	next = seq + uint32(p.size) - uint32(p.at()) - uint32(p.header)
	if p.Flags&(SYN|FIN) != 0 {
		next++
	}
	return seq, next, uint32(both)
}

// A Course is what Forward changes in the headers of IP and the transport. Where two
// numbers are one field, the first is its upper half. What is added is added modulo
// 2^32, and to TCP segments.
type Course struct { // of four fields: more the compiler keeps in memory
	Addrs   uint64 // source and destination, as in a Plain; of IPv6 what SetAddrs6 returned
	Ports   uint32 // likewise
	Numbers uint64 // added to the sequence number and to what is acknowledged
	Stamps  uint64 // added to the sender's clock and to the echo, unless that is zero
}

// SetAddrs6 gives a packet of IPv6 its new addresses, and returns that change for the
// Course by which it is forwarded next.
func (p *Plain) SetAddrs6(src, dst *Addr) uint64 {
	h := p.head
	return uint64(delta(0).replaceAddr(h[plainIP+ipv6Src:], src).replaceAddr(h[plainIP+ipv6Dst:], dst))
}

// Forward changes the packet's frame in all the ways that DecrementTTL, AddSeq,
// AddAck, ShiftTimestamps, Translate and SetLink would one after another, but touches
// each checksum once: a sum that each of them reads back from where the last one has
// just put it costs a store's latency every time. What p says stays as it was read.
// VLAN tags are taken off, see Untagged.
func (p *Plain) Forward(dstMAC, srcMAC *[6]byte, c Course) {
	h := p.head
	*(*[6]byte)(h[ethDst:]) = *dstMAC
	*(*[6]byte)(h[ethSrc:]) = *srcMAC

	d := delta(c.Addrs)
	if p.six {
		h[plainIP+ipv6HopLimit]--
	} else {
		d = delta(0).replace(p.Addrs, c.Addrs)
		binary.BigEndian.PutUint64(h[plainIP+ipv4Src:], c.Addrs)
		// TTL, protocol and the sum are one word, of which the TTL is the top. One less in it
		// is for the sum, whose complement may hold it without a carry, 0xfeff more.
		word := binary.BigEndian.Uint32(h[plainIP+ipv4TTL:]) - 1<<24
		sum := ^fold(onesAdd(uint64(^uint16(word))+^uint64(1<<8)&0xffff, uint64(d)))
		binary.BigEndian.PutUint32(h[plainIP+ipv4TTL:], word&^0xffff|uint32(sum))
	}

	l4 := p.l4()
	d = d.replace(uint64(p.Ports), uint64(c.Ports))
	binary.BigEndian.PutUint32(l4[:], c.Ports)
	if p.Proto == ProtoUDP {
		sum := binary.BigEndian.Uint16(l4[udpSum:])
		binary.BigEndian.PutUint16(l4[udpSum:], uint16(Sum(sum).amendUDP(d)))
		return
	}
	old := binary.BigEndian.Uint64(l4[tcpSeq:])
	numbers := addHalves(old, c.Numbers)
	binary.BigEndian.PutUint64(l4[tcpSeq:], numbers)
	d = d.replace(old, numbers)
	if p.simple && p.header > tcpMinLen {
		stamps := shiftTimestamps(l4[plainStamps-8:], uint32(c.Stamps>>32), uint32(c.Stamps))
		d = delta(onesAdd(uint64(d), uint64(stamps)))
	}
	sum := Sum(binary.BigEndian.Uint16(l4[tcpSum:])).amend(d)
	binary.BigEndian.PutUint16(l4[tcpSum:], uint16(sum))
}

// addHalves adds the two numbers of 32 bits in b to those in a.
func addHalves(a, b uint64) uint64 {
	return (a>>32+b>>32)<<32 | uint64(uint32(a)+uint32(b))
}
