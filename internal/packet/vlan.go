package packet

import "encoding/binary"

// A VLAN is what a VLAN tag says about where a frame belongs. The zero VLAN is none.
type VLAN struct {
	Type uint16 // the tag's: EtherTypeVLAN or EtherTypeQinQ; 0 is no tag
	ID   uint16 // 0 to 4095
}

// VLANs are the VLANs that a frame is in, that of the outermost tag first. The
// zero VLANs are those of a frame without a tag.
type VLANs [maxTags]VLAN

// Len returns how many there are.
func (v *VLANs) Len() (n int) {
	for n < maxTags && v[n].Type != 0 {
		n++
	}
	return n
}

// With returns v with one more inside, as when a VLAN interface stands on
// another. It reports false if a frame cannot carry as many tags.
func (v VLANs) With(inner VLAN) (VLANs, bool) {
	n := v.Len()
	if n == maxTags {
		return v, false
	}
	v[n] = inner
	return v, true
}

// SetLink gives the packet's frame other MAC addresses and VLANs, none that it
// does not have in v. It reports false, and changes nothing, if more tags need
// more headroom than there is.
//
// Between tagged frames priority and drop eligibility are kept (IEEE 802.1Q,
// section 6.9): the tag that goes outside has those of the one that came outside,
// and a tag that has no counterpart those of the innermost.
func (p *Packet) SetLink(dst, src [6]byte, v *VLANs) bool {
	if p.L3-p.Start == ethLen && v[0].Type == 0 { // as most frames are
		p.Ethernet().SetMACs(dst, src)
		return true
	}
	start, ok := ReplaceLink(p.Buf, p.Start, p.L3, dst, src, v)
	p.Start = start
	return ok
}

// AnswerLink gives the packet's frame the link header of one of its IP version that it
// answers: its MAC addresses exchanged and its VLAN tags as they are. There is headroom
// for them.
func (p *Packet) AnswerLink(to Ethernet) {
	p.Start = p.L3 - len(to)
	e := p.Ethernet()
	copy(e, to)
	e.SetMACs(to.Src(), to.Dst())
}

// ReplaceLink is SetLink for the frame whose link header is buf[start:l3]. It
// returns where the frame starts now: the header grows and shrinks at its front.
func ReplaceLink(buf []byte, start, l3 int, dst, src [6]byte, v *VLANs) (newStart int, ok bool) {
	tags := v.Len()
	newStart = l3 - ethLen - tags*tagLen
	if newStart < 0 {
		return start, false
	}
	old := Ethernet(buf[start:l3])
	kind := old.Type()
	var priority [maxTags]uint16
	if had := old.Tags(); had > 0 {
		for i := range tags {
			priority[i] = uint16(old.Tag(min(i, had-1))) & tagPriority
		}
	}
	e := Ethernet(buf[newStart:l3])
	e.SetMACs(dst, src)
	for i := range tags {
		at := ethType + i*tagLen
		binary.BigEndian.PutUint16(e[at:], v[i].Type)
		binary.BigEndian.PutUint16(e[at+2:], priority[i]|v[i].ID&tagID)
	}
	binary.BigEndian.PutUint16(e[len(e)-2:], kind)
	return newStart, true
}
