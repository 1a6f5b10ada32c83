package packet

import "encoding/binary"

// Option kinds that only SYNs carry: RFC 7323, section 2.2, and RFC 2018, section 2.
const (
	optScale         = 3
	optSACKPermitted = 4

	optScaleLen         = 3
	optSACKPermittedLen = 2
)

// What the words begin with in which Linux puts the options of a SYN.
const (
	headMSS       = optMSS<<8 | optMSSLen                                                                // of 16 bits
	headSACKStamp = optSACKPermitted<<24 | optSACKPermittedLen<<16 | optTimestamps<<8 | optTimestampsLen // of 32
	headSACK      = optNOP<<24 | optNOP<<16 | optSACKPermitted<<8 | optSACKPermittedLen                  // of 32
	headScale     = optNOP<<16 | optScale<<8 | optScaleLen                                               // of 24
)

// NoScale stands for the window scale of a SYN that offers none.
const NoScale = 15

// maxScale is the largest window scale: RFC 7323, section 2.3, has a larger one
// taken for 14.
const maxScale = 14

// SYNOptions are what the options of a SYN or a SYN-ACK say.
type SYNOptions struct {
	MSS        uint16 // 0: not said
	Scale      uint8  // window scale, at most 14, or NoScale
	SACK       bool   // selective acknowledgements are permitted
	Timestamps bool
	Val, Ecr   uint32 // of the timestamps
}

// SYNOptions returns what the options of a SYN say. Of an option that comes twice
// the last one counts, as it does in Linux.
func (p *Packet) SYNOptions() SYNOptions { return synOptions(p.TCP().Options()) }

// synOptions is SYNOptions for the option area o.
func synOptions(o []byte) SYNOptions {
	s := SYNOptions{Scale: NoScale}
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		switch kind := o[i]; {
		case kind == optMSS && n == optMSSLen:
			s.MSS = binary.BigEndian.Uint16(o[i+2:])
		case kind == optScale && n == optScaleLen:
			s.Scale = min(o[i+2], maxScale)
		case kind == optSACKPermitted && n == optSACKPermittedLen:
			s.SACK = true
		case kind == optTimestamps && n == optTimestampsLen:
			s.Timestamps = true
			s.Val = binary.BigEndian.Uint32(o[i+timestampsVal:])
			s.Ecr = binary.BigEndian.Uint32(o[i+timestampsEcr:])
		}
	}
	return s
}

// put writes o to b in the order and the alignment that Linux has. It returns how many
// bytes that took, a multiple of four and at most 20, and the sum of them as words.
func (o *SYNOptions) put(b []byte) (n int, sum uint64) {
	word := func(w uint32) {
		binary.BigEndian.PutUint32(b[n:], w)
		n += 4
		sum += uint64(w)
	}
	if o.MSS != 0 {
		word(headMSS<<16 | uint32(o.MSS))
	}
	switch {
	case o.Timestamps && o.SACK:
		word(headSACKStamp)
	case o.Timestamps:
		word(onlyTimestampsHead)
	case o.SACK:
		word(headSACK)
	}
	if o.Timestamps {
		word(o.Val)
		word(o.Ecr)
	}
	if o.Scale != NoScale {
		word(headScale<<8 | uint32(o.Scale))
	}
	return n, sum
}

// A Segment describes a TCP segment without payload, as those of a handshake are.
type Segment struct {
	Src, Dst Endpoint // of one address family
	Seq, Ack uint32
	Flags    TCPFlags
	Window   uint16
	Option   []byte // comes first; a multiple of four bytes, at most 20
	Options  SYNOptions
}

// SegmentLen is the most bytes that Build writes.
const SegmentLen = ethLen + ipv6Len + tcpMaxLen

// Build writes the frame of s to buf at start, which has room for SegmentLen bytes,
// and makes p that frame. Both MAC addresses are zero.
//
// The checksums are computed from the numbers and not from the header: to read back in
// other widths what has just been written stalls the processor, and an answer to a SYN
// would take twice as long.
func (p *Packet) Build(buf []byte, start int, s *Segment) {
	p.Version = 6
	ipLen := ipv6Len
	if s.Src.Addr.Is4() {
		p.Version, ipLen = 4, ipv4MinLen
	}
	p.Buf, p.Start, p.L3, p.L4 = buf, start, start+ethLen, start+ethLen+ipLen
	t := TCP(buf[p.L4 : p.L4+tcpMaxLen])
	n := copy(t[tcpMinLen:], s.Option)
	size, sum := s.Options.put(t[tcpMinLen+n:])
	size += tcpMinLen + n
	p.Payload = p.L4 + size
	p.End, p.Tail, p.Flags = p.Payload, 0, s.Flags
	p.Flow = Flow{Src: s.Src.Addr, Dst: s.Dst.Addr, SrcPort: s.Src.Port, DstPort: s.Dst.Port, Proto: ProtoTCP}

	ports := uint32(s.Src.Port)<<16 | uint32(s.Dst.Port)
	rest := uint32(size/4)<<28 | uint32(s.Flags)<<16 | uint32(s.Window)
	sum = onesSum(sum, s.Option)
	sum = onesAdd(sum, uint64(ports)+uint64(s.Seq)+uint64(s.Ack)+uint64(rest)+ProtoTCP+uint64(size))
	sum = onesAdd(sum, p.putIP(size))
	binary.BigEndian.PutUint32(t, ports)
	binary.BigEndian.PutUint32(t[tcpSeq:], s.Seq)
	binary.BigEndian.PutUint32(t[tcpAck:], s.Ack)
	binary.BigEndian.PutUint32(t[tcpOffset:], rest)
	binary.BigEndian.PutUint32(t[tcpSum:], uint32(^fold(sum))<<16)
}

// putIP writes the Ethernet and the IP header of a segment of size bytes, which is as
// buildIP has it, and returns the sum of both addresses.
func (p *Packet) putIP(size int) (addrs uint64) {
	src, dst := &p.Flow.Src, &p.Flow.Dst
	link := p.Buf[p.Start:p.L3]
	binary.BigEndian.PutUint64(link, 0)
	binary.BigEndian.PutUint32(link[8:], 0)
	if p.Version == 4 {
		binary.BigEndian.PutUint16(link[ethType:], EtherTypeIPv4)
		h := p.Buf[p.L3:][:ipv4MinLen]
		from, to := binary.BigEndian.Uint32(src[12:]), binary.BigEndian.Uint32(dst[12:])
		addrs = uint64(from) + uint64(to)
		first := uint32(4<<4|ipv4MinLen/4)<<24 | uint32(ipv4MinLen+size)
		third := uint32(defaultTTL)<<24 | ProtoTCP<<16
		sum := ^fold(uint64(first) + ipv4DF + uint64(third) + addrs)
		binary.BigEndian.PutUint64(h, uint64(first)<<32|ipv4DF)
		binary.BigEndian.PutUint64(h[ipv4TTL:], uint64(third|uint32(sum))<<32|uint64(from))
		binary.BigEndian.PutUint32(h[ipv4Dst:], to)
		return addrs
	}
	binary.BigEndian.PutUint16(link[ethType:], EtherTypeIPv6)
	h := p.Buf[p.L3:][:ipv6Len]
	binary.BigEndian.PutUint64(h, 6<<60|uint64(size)<<16|ProtoTCP<<8|defaultTTL)
	for i := 0; i < 16; i += 8 {
		from, to := binary.BigEndian.Uint64(src[i:]), binary.BigEndian.Uint64(dst[i:])
		binary.BigEndian.PutUint64(h[ipv6Src+i:], from)
		binary.BigEndian.PutUint64(h[ipv6Dst+i:], to)
		addrs = onesAdd(onesAdd(addrs, from), to)
	}
	return addrs
}

// ScaleWindow multiplies the window of a segment by 2^by, which by may make less
// than one, as far as the field allows: a window that was scaled by one shift is
// then right for a receiver that knows of another.
func (p *Packet) ScaleWindow(by int) { p.TCP().scaleWindow(by) }

// ScaleWindow is the same of a plain segment.
func (p *Plain) ScaleWindow(by int) {
	if by != 0 {
		TCP(p.l4()[:]).scaleWindow(by)
	}
}

func (t TCP) scaleWindow(by int) {
	old := t.Window()
	scaled := ScaleWindow(old, by)
	if scaled != old {
		binary.BigEndian.PutUint16(t[tcpWindow:], scaled)
		t.setSum(t.Sum().Replace16(old, scaled))
	}
}

// ScaleWindow returns window times 2^by, at most 65,535. One that is not zero does
// not become so: it would stop the sender for nothing.
func ScaleWindow(window uint16, by int) uint16 {
	if by >= 0 {
		return uint16(min(uint64(window)<<by, 0xffff))
	}
	if window == 0 {
		return 0
	}
	return max(window>>-by, 1)
}
