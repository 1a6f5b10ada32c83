package packet

import (
	"encoding/binary"
	"math/bits"
)

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
	Addrs uint64           // IPv4 source and destination: eight bytes of the header, the first the lowest; of IPv6 nothing
	Ports uint32           // of either, the source in the upper half
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
	// EtherType, version, header length; what tells a fragment, TTL, protocol: the first byte
	// the lowest.
	first, second := binary.LittleEndian.Uint32(head[ethType:]), binary.LittleEndian.Uint32(head[plainIP+6:])
	const (
		start        = EtherTypeIPv4&0xff<<8 | EtherTypeIPv4>>8 | 0x45<<16
		moreOrOffset = 0xff3f
		ttlAbove1    = 0xfe << 16
	)
	if first&0xff_ffff != start || second&moreOrOffset != 0 || second&ttlAbove1 == 0 {
		return 0, 0, false
	}
	return plainIP + int(binary.BigEndian.Uint16(head[plainIP+ipv4TotalLen:])), uint8(second >> 24), true
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
	p.head = head
	end, proto, ok := plainIPv4((*[plainL4]byte)(head[:]))
	if !ok {
		end, proto, ok = plainIPv6((*[plainL4of6]byte)(head[:]))
		p.six, p.tags = true, 0
		return ok && p.readTransport((*[plainL4Room]byte)(head[plainL4of6:]), plainL4of6, end, size, proto)
	}
	p.six, p.tags = false, 0
	p.Addrs = binary.LittleEndian.Uint64(head[plainIP+ipv4Src:])
	return p.readTransport((*[plainL4Room]byte)(head[plainL4:]), plainL4, end, size, proto)
}

// ReadSimple6 is Read for packets of IPv6 that are Simple. Of any other it says nothing.
func (p *Plain) ReadSimple6(head *[PlainRoom]byte, size int) bool {
	end, proto, ok := plainIPv6((*[plainL4of6]byte)(head[:]))
	if !ok {
		return false
	}
	p.head, p.six, p.tags = head, true, 0
	return p.readTransport((*[plainL4Room]byte)(head[plainL4of6:]), plainL4of6, end, size, proto) && p.simple
}

// ReadSimple4 is Read for what nearly all packets are: IPv4, and Simple. Of any other it says
// nothing.
func (p *Plain) ReadSimple4(head *[PlainRoom]byte, size int) bool {
	end, proto, ok := plainIPv4((*[plainL4]byte)(head[:]))
	if !ok || end > size {
		return false
	}
	l4, room, header, flags := (*[plainL4Room]byte)(head[plainL4:]), end-plainL4, udpLen, TCPFlags(0)
	if proto == ProtoTCP {
		header, flags = int(l4[tcpOffset]>>4)*4, TCPFlags(l4[tcpFlags])
		if flags&(SYN|RST|ACK) != ACK ||
			header != tcpMinLen && (header != plainStamps || binary.BigEndian.Uint32(l4[tcpMinLen:]) != onlyTimestampsHead) {
			return false
		}
	} else if n := int(binary.BigEndian.Uint16(l4[udpSize:])); proto != ProtoUDP || n < udpLen || n > room {
		return false
	}
	if room < header {
		return false
	}
	p.six, p.tags, p.head, p.size = false, 0, head, int32(end)
	p.Addrs, p.Ports = binary.LittleEndian.Uint64(head[plainIP+ipv4Src:]), binary.BigEndian.Uint32(l4[:])
	p.Proto, p.header, p.Flags, p.simple = proto, uint8(header), flags, true
	return true
}

// readTransport is what Read does with l4, which begins at and ends before these bytes of
// the frame.
func (p *Plain) readTransport(l4 *[plainL4Room]byte, at, end, size int, proto uint8) bool {
	if end > size {
		return false
	}
	room := end - at
	p.size, p.Proto = int32(end), proto
	p.Ports = binary.BigEndian.Uint32(l4[:])
	if proto != ProtoTCP {
		p.header, p.Flags, p.simple = udpLen, 0, true
		n := int(binary.BigEndian.Uint16(l4[udpSize:]))
		return proto == ProtoUDP && room >= udpLen && n >= udpLen && n <= room
	}
	header, flags := int(l4[tcpOffset]>>4)*4, TCPFlags(l4[tcpFlags])
	p.header, p.Flags = uint8(header), flags
	if room < header {
		return false
	}
	opens := flags & (SYN | FIN | RST | ACK)
	if opens&^FIN == ACK && (header == tcpMinLen ||
		header == plainStamps && binary.BigEndian.Uint32(l4[tcpMinLen:]) == onlyTimestampsHead) {
		p.simple = true
		return true
	}
	p.simple = false
	return (opens&^FIN == ACK || opens&^ACK == SYN) && header >= tcpMinLen && optionsValid(l4[tcpMinLen:header])
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

// IsBetween6 reports whether a packet of IPv6 is from src to dst.
func (e *Ends) IsBetween6(src, dst *Addr) bool { return *src == *e.Src6() && *dst == *e.Dst6() }

// IsBetween4 reports whether a packet of IPv4 is from src to dst.
func (e *Ends) IsBetween4(src, dst *Addr) bool {
	differ := binary.LittleEndian.Uint64(src[8:]) ^ (mapped | e.Addrs<<32)
	differ |= binary.LittleEndian.Uint64(dst[8:]) ^ (mapped | e.Addrs>>32<<32)
	return differ|binary.LittleEndian.Uint64(src[:8])|binary.LittleEndian.Uint64(dst[:8]) == 0
}

// Dst4 returns the IPv4 address that the packet is to, the first byte the lowest.
func (e *Ends) Dst4() uint32 { return uint32(e.Addrs >> 32) }

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
	f.Src.setNumber4(bits.ReverseBytes32(uint32(addrs)))
	f.Dst.setNumber4(bits.ReverseBytes32(uint32(addrs >> 32)))
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
	b := (*[2 * len(Addr{})]byte)(p.head[plainIP+ipv6Src:])
	src0, src1 := binary.LittleEndian.Uint64(src[0:]), binary.LittleEndian.Uint64(src[8:])
	dst0, dst1 := binary.LittleEndian.Uint64(dst[0:]), binary.LittleEndian.Uint64(dst[8:])
	sum, c := bits.Add64(src0, ^binary.LittleEndian.Uint64(b[0:]), 0)
	sum, c = bits.Add64(sum, src1, c)
	sum, c = bits.Add64(sum, ^binary.LittleEndian.Uint64(b[8:]), c)
	sum, c = bits.Add64(sum, dst0, c)
	sum, c = bits.Add64(sum, ^binary.LittleEndian.Uint64(b[16:]), c)
	sum, c = bits.Add64(sum, dst1, c)
	sum, c = bits.Add64(sum, ^binary.LittleEndian.Uint64(b[24:]), c)
	binary.LittleEndian.PutUint64(b[0:], src0)
	binary.LittleEndian.PutUint64(b[8:], src1)
	binary.LittleEndian.PutUint64(b[16:], dst0)
	binary.LittleEndian.PutUint64(b[24:], dst1)
	return onesAdd(sum, c)
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

	// Sums are gathered with the first byte of each word the lowest, as they are loaded: they are
	// the same then, but for the order of their own bytes (RFC 1071, section 2).
	d, l4 := delta(c.Addrs), (*[plainL4Room]byte)(h[plainL4of6:])
	if p.six {
		h[plainIP+ipv6HopLimit]--
	} else {
		l4 = (*[plainL4Room]byte)(h[plainL4:])
		d = delta(0).replace(p.Addrs, c.Addrs)
		binary.LittleEndian.PutUint64(h[plainIP+ipv4Src:], c.Addrs)
		// TTL, protocol and the sum are one word. One less of it is one less of the TTL, and in
		// the sum, whose complement may hold it without a carry, 0xfffe more.
		word := binary.LittleEndian.Uint32(h[plainIP+ipv4TTL:]) - 1
		sum := ^fold(onesAdd(uint64(^word>>16)+0xfffe, uint64(d)))
		binary.LittleEndian.PutUint32(h[plainIP+ipv4TTL:], word&0xffff|uint32(sum)<<16)
	}

	ports := bits.ReverseBytes32(c.Ports)
	d = d.replace(uint64(binary.LittleEndian.Uint32(l4[:])), uint64(ports))
	binary.LittleEndian.PutUint32(l4[:], ports)
	if p.Proto == ProtoUDP {
		sum := binary.LittleEndian.Uint16(l4[udpSum:])
		binary.LittleEndian.PutUint16(l4[udpSum:], uint16(Sum(sum).amendUDP(d)))
		return
	}
	old := binary.LittleEndian.Uint64(l4[tcpSeq:])
	numbers := bits.ReverseBytes64(addHalves(bits.ReverseBytes64(old), c.Numbers))
	binary.LittleEndian.PutUint64(l4[tcpSeq:], numbers)
	d = d.replace(old, numbers)
	if p.simple && p.header > tcpMinLen {
		stamps := shiftTimestamps(l4[plainStamps-8:], uint32(c.Stamps>>32), uint32(c.Stamps))
		d = delta(onesAdd(uint64(d), uint64(stamps.odd())))
	}
	sum := Sum(binary.LittleEndian.Uint16(l4[tcpSum:])).amend(d)
	binary.LittleEndian.PutUint16(l4[tcpSum:], uint16(sum))
}

// addHalves adds the two numbers of 32 bits in b to those in a.
func addHalves(a, b uint64) uint64 {
	return (a>>32+b>>32)<<32 | uint64(uint32(a)+uint32(b))
}
