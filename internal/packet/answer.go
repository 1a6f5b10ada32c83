package packet

import "encoding/binary"

// An Answer is what the options of a plain SYN-ACK say, and where.
type Answer struct {
	SYNOptions
	stampsAt int // offset of the two numbers in the transport header
}

// Answer returns what the SYN-ACK says, if its options are as Linux has them: the MSS,
// timestamps and permission of selective acknowledgements, the window scale, aligned to
// words, each once or not at all. Others are for a Packet.
func (p *Plain) Answer() (a Answer, ok bool) {
	l4, at := p.l4(), tcpMinLen
	a.Scale = NoScale
	word := func() uint32 { // at the end it is one that is no option's
		if at >= int(p.header) {
			return 0
		}
		return binary.BigEndian.Uint32(l4[at:])
	}
	if w := word(); w>>16 == optMSS<<8|optMSSLen {
		a.MSS = uint16(w)
		at += 4
	}
	switch word() {
	case optSACKPermitted<<24 | optSACKPermittedLen<<16 | optTimestamps<<8 | optTimestampsLen:
		a.SACK, a.Timestamps = true, true
	case onlyTimestampsHead:
		a.Timestamps = true
	case optNOP<<24 | optNOP<<16 | optSACKPermitted<<8 | optSACKPermittedLen:
		a.SACK = true
		at += 4
	}
	if a.Timestamps {
		if at+onlyTimestampsLen > int(p.header) {
			return a, false
		}
		a.stampsAt = at + 4
		a.Val, a.Ecr = binary.BigEndian.Uint32(l4[at+4:]), binary.BigEndian.Uint32(l4[at+8:])
		at += onlyTimestampsLen
	}
	if w := word(); w>>8 == optNOP<<16|optScale<<8|optScaleLen {
		a.Scale = min(uint8(w), maxScale)
		at += 4
	}
	return a, at == int(p.header)
}

// Window returns a segment's window, as it stands there.
func (p *Plain) Window() uint16 { return binary.BigEndian.Uint16(p.l4()[tcpWindow:]) }

// ForwardAnswer is Forward for a SYN-ACK of which a is known. Its MSS becomes mss, if it
// has one.
func (p *Plain) ForwardAnswer(dstMAC, srcMAC *[6]byte, c Course, a *Answer, mss uint16) {
	l4, d := p.l4(), delta(0)
	if a.MSS != 0 {
		binary.BigEndian.PutUint16(l4[tcpMinLen+2:], mss)
		d = d.replace(uint64(a.MSS), uint64(mss))
	}
	if a.Timestamps {
		stamps := shiftTimestamps(l4[a.stampsAt:], uint32(c.Stamps>>32), uint32(c.Stamps))
		d = delta(onesAdd(uint64(d), uint64(stamps)))
	}
	if d != 0 {
		sum := Sum(binary.BigEndian.Uint16(l4[tcpSum:])).amend(d)
		binary.BigEndian.PutUint16(l4[tcpSum:], uint16(sum))
	}
	p.Forward(dstMAC, srcMAC, c)
}
