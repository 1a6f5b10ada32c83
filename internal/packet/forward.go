package packet

import "encoding/binary"

// Plain reports whether Forward can carry a packet that Parse has Kept: IPv4
// without VLAN tags, in one buffer, and of TCP a segment that opens and closes
// nothing and has no option but timestamps in their usual place. Nearly every
// packet is.
func (p *Packet) Plain() bool {
	if p.Version != 4 || p.L3-p.Start != ethLen || p.Tail != 0 {
		return false
	}
	switch p.Flow.Proto {
	case ProtoTCP:
		o := p.TCP().Options()
		return p.Flags&(SYN|FIN|RST|ACK) == ACK && (len(o) == 0 || onlyTimestamps(o))
	case ProtoUDP:
		return true
	}
	return false
}

// A Course is all that Forward changes in a packet. What it adds, it adds modulo
// 2^32, and to TCP segments.
type Course struct {
	DstMAC, SrcMAC   [6]byte
	Src, Dst         *Addr // IPv4
	SrcPort, DstPort uint16
	Seq, Ack         uint32 // added to the numbers
	TimestampVal     uint32 // added to the sender's clock
	TimestampEcr     uint32 // added to the echo, unless that is zero
}

// Forward changes a packet that is Plain and whose TTL is above 1 in all the ways
// that DecrementTTL, AddSeq, AddAck, ShiftTimestamps, Translate and SetLink would
// one after another, but touches each checksum once: a sum that each of them reads
// back from where the last one has just put it costs a store's latency every time.
func (p *Packet) Forward(c *Course) {
	h := p.Buf[p.L3:][:ipv4MinLen]
	addrs := uint64(binary.BigEndian.Uint32(c.Src[12:]))<<32 | uint64(binary.BigEndian.Uint32(c.Dst[12:]))
	d := delta(0).replace(binary.BigEndian.Uint64(h[ipv4Src:]), addrs)
	binary.BigEndian.PutUint64(h[ipv4Src:], addrs)
	// TTL, protocol and the sum are one word, of which the TTL is the top.
	word := binary.BigEndian.Uint32(h[ipv4TTL:]) - 1<<24
	sum := Sum(word).amend(d.replace(1<<8, 0))
	binary.BigEndian.PutUint32(h[ipv4TTL:], word&^0xffff|uint32(sum))

	t := p.Buf[p.L4:p.Payload]
	ports := uint32(c.SrcPort)<<16 | uint32(c.DstPort)
	d = d.replace(uint64(binary.BigEndian.Uint32(t)), uint64(ports))
	binary.BigEndian.PutUint32(t, ports)
	if p.Flow.Proto == ProtoUDP {
		UDP(t).amend(d)
	} else {
		TCP(t).forward(c, d)
	}

	e := p.Buf[p.Start:][:ethLen]
	copy(e[ethDst:], c.DstMAC[:])
	copy(e[ethSrc:], c.SrcMAC[:])
	copy(p.Flow.Src[12:], c.Src[12:])
	copy(p.Flow.Dst[12:], c.Dst[12:])
	p.Flow.SrcPort, p.Flow.DstPort = c.SrcPort, c.DstPort
}

// forward is what Forward changes in a TCP header besides the ports; d is the
// change so far.
func (t TCP) forward(c *Course, d delta) {
	old := binary.BigEndian.Uint64(t[tcpSeq:])
	numbers := uint64(uint32(old>>32)+c.Seq)<<32 | uint64(uint32(old)+c.Ack)
	binary.BigEndian.PutUint64(t[tcpSeq:], numbers)
	d = d.replace(old, numbers)
	if len(t) > tcpMinLen {
		stamps := shiftTimestamps(t[tcpMinLen+onlyTimestampsLen-8:], c.TimestampVal, c.TimestampEcr)
		d = delta(onesAdd(uint64(d), uint64(stamps)))
	}
	t.setSum(t.Sum().amend(d))
}
