package packet

import "encoding/binary"

// OptionRoom returns how many bytes of options fit into the header of a TCP
// segment besides those it has.
func (p *Packet) OptionRoom() int { return tcpMaxLen - (p.Payload - p.L4) }

// InsertOption makes opt, a multiple of four bytes, the first option of a TCP
// segment. Ethernet, IP and fixed TCP header move towards lower addresses, into
// the headroom; the payload stays where it is. Lengths and checksums are
// repaired. It reports false, and changes nothing, if the TCP header would exceed
// 60 bytes, the datagram its 16-bit length, or the headroom is too small, and in a
// fragment, behind which the next one would no longer fit.
func (p *Packet) InsertOption(opt []byte) bool {
	n := len(opt)
	if n%4 != 0 || n > p.OptionRoom() || n > p.Start || p.IPLen()+n > 0xffff || p.isFragment() {
		return false
	}
	copy(p.Buf[p.Start-n:], p.Buf[p.Start:p.L4+tcpMinLen])
	p.Start -= n
	p.L3 -= n
	p.L4 -= n
	p.growDatagram(n)

	t := p.TCP()
	copy(t[tcpMinLen:], opt)
	old := binary.BigEndian.Uint16(t[tcpOffset:])
	t[tcpOffset] += uint8(n / 4 << 4)
	d := delta(0).replace(uint64(old), uint64(binary.BigEndian.Uint16(t[tcpOffset:])))
	// The pseudo-header counts the segment's length, which has grown by n.
	d = d.replace(0, uint64(n)).replace(0, onesSum(0, opt))
	t.setSum(t.Sum().amend(d))
	return true
}

// growDatagram adds n to the length in the IP header.
func (p *Packet) growDatagram(n int) {
	if p.Version == 6 {
		b := p.Buf[p.L3+ipv6PayloadLen:]
		binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)+uint16(n))
		return
	}
	h := p.IPv4()
	old := binary.BigEndian.Uint16(h[ipv4TotalLen:])
	binary.BigEndian.PutUint16(h[ipv4TotalLen:], old+uint16(n))
	h.setSum(h.Sum().Replace16(old, old+uint16(n)))
}
