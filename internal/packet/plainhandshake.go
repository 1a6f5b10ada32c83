package packet

import "encoding/binary"

// A Handshake is what the options of a plain SYN or SYN-ACK say, and where.
type Handshake struct {
	SYNOptions
	stampsAt int // offset of the two numbers in the transport header
}

// Handshake makes h, which is zero, what a SYN or a SYN-ACK says. It reports whether its
// options are as Linux has them: the MSS, timestamps and permission of selective
// acknowledgements, the window scale, aligned to words, each once or not at all. Others
// are for a Packet.
func (p *Plain) Handshake(h *Handshake) (ok bool) {
	l4, at := p.l4(), tcpMinLen
	h.Scale = NoScale
	word := func() uint32 { // at the end it is one that is no option's
		if at >= int(p.header) {
			return 0
		}
		return binary.BigEndian.Uint32(l4[at:])
	}
	if w := word(); w>>16 == headMSS {
		h.MSS = uint16(w)
		at += 4
	}
	switch word() {
	case headSACKStamp:
		h.SACK, h.Timestamps = true, true
	case onlyTimestampsHead:
		h.Timestamps = true
	case headSACK:
		h.SACK = true
		at += 4
	}
	if h.Timestamps {
		if at+onlyTimestampsLen > int(p.header) {
			return false
		}
		h.stampsAt = at + 4
		h.Val, h.Ecr = binary.BigEndian.Uint32(l4[at+4:]), binary.BigEndian.Uint32(l4[at+8:])
		at += onlyTimestampsLen
	}
	if w := word(); w>>8 == headScale {
		h.Scale = min(uint8(w), maxScale)
		at += 4
	}
	return at == int(p.header)
}

// Window returns a segment's window, as it stands there.
func (p *Plain) Window() uint16 { return binary.BigEndian.Uint16(p.l4()[tcpWindow:]) }

// ForwardHandshake is Forward for a SYN or a SYN-ACK of which h is known. Its MSS becomes
// mss, if it has one.
func (p *Plain) ForwardHandshake(dstMAC, srcMAC *[6]byte, c Course, h *Handshake, mss uint16) {
	l4, d := p.l4(), delta(0)
	if h.MSS != 0 {
		binary.BigEndian.PutUint16(l4[tcpMinLen+2:], mss)
		d = d.replace(uint64(h.MSS), uint64(mss))
	}
	if h.Timestamps {
		stamps := shiftTimestamps(l4[h.stampsAt:], uint32(c.Stamps>>32), uint32(c.Stamps))
		d = delta(onesAdd(uint64(d), uint64(stamps)))
	}
	if d != 0 {
		sum := Sum(binary.BigEndian.Uint16(l4[tcpSum:])).amend(d)
		binary.BigEndian.PutUint16(l4[tcpSum:], uint16(sum))
	}
	p.Forward(dstMAC, srcMAC, c)
}
