package packet

import "encoding/binary"

// Option kinds that only SYNs carry: RFC 7323, section 2.2, and RFC 2018, section 2.
const (
	optScale         = 3
	optSACKPermitted = 4

	optScaleLen         = 3
	optSACKPermittedLen = 2
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
func (p *Packet) SYNOptions() SYNOptions {
	s := SYNOptions{Scale: NoScale}
	o := p.TCP().Options()
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

// put writes o to b in the order and the alignment that Linux has, and returns how
// many bytes that took: a multiple of four, at most 20.
func (o *SYNOptions) put(b []byte) (n int) {
	word := func(k1, k2, k3, k4 uint8) {
		b[n], b[n+1], b[n+2], b[n+3] = k1, k2, k3, k4
		n += 4
	}
	if o.MSS != 0 {
		word(optMSS, optMSSLen, uint8(o.MSS>>8), uint8(o.MSS))
	}
	switch {
	case o.Timestamps && o.SACK:
		word(optSACKPermitted, optSACKPermittedLen, optTimestamps, optTimestampsLen)
	case o.Timestamps:
		word(optNOP, optNOP, optTimestamps, optTimestampsLen)
	case o.SACK:
		word(optNOP, optNOP, optSACKPermitted, optSACKPermittedLen)
	}
	if o.Timestamps {
		binary.BigEndian.PutUint32(b[n:], o.Val)
		binary.BigEndian.PutUint32(b[n+4:], o.Ecr)
		n += 8
	}
	if o.Scale != NoScale {
		word(optNOP, optScale, optScaleLen, o.Scale)
	}
	return n
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
func (p *Packet) Build(buf []byte, start int, s *Segment) {
	var options [tcpMaxLen - tcpMinLen]byte
	n := copy(options[:], s.Option)
	n += s.Options.put(options[n:])

	p.buildIP(buf, start, s.Src.Addr, s.Dst.Addr, ProtoTCP, defaultTTL, tcpMinLen+n)
	p.Payload, p.Tail, p.Flags = p.End, 0, s.Flags
	p.Flow.SrcPort, p.Flow.DstPort = s.Src.Port, s.Dst.Port
	t := p.TCP()
	binary.BigEndian.PutUint16(t, s.Src.Port)
	binary.BigEndian.PutUint16(t[2:], s.Dst.Port)
	binary.BigEndian.PutUint32(t[tcpSeq:], s.Seq)
	binary.BigEndian.PutUint32(t[tcpAck:], s.Ack)
	t[tcpOffset] = uint8((tcpMinLen + n) / 4 << 4)
	t[tcpFlags] = uint8(s.Flags)
	binary.BigEndian.PutUint16(t[tcpWindow:], s.Window)
	copy(t[tcpMinLen:], options[:n])
	t.setSum(p.transportSum())
}

// ScaleWindow multiplies the window of a segment by 2^by, which by may make less
// than one, as far as the field allows: a window that was scaled by one shift is
// then right for a receiver that knows of another.
func (p *Packet) ScaleWindow(by int) {
	t := p.TCP()
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
