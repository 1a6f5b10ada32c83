package packet

import "encoding/binary"

// TCP option kinds: RFC 9293, section 3.2 (end, no operation, MSS), RFC 2018
// (SACK), RFC 7323 (timestamps).
const (
	optEnd        = 0
	optNOP        = 1
	optMSS        = 2
	optSACK       = 5
	optTimestamps = 8

	optMSSLen        = 4
	optTimestampsLen = 10

	// onlyTimestampsHead begins the option area of nearly every segment of an
	// established connection: NOP, NOP, timestamps (RFC 7323, appendix A). With
	// them it is 12 bytes long.
	onlyTimestampsHead = optNOP<<24 | optNOP<<16 | optTimestamps<<8 | optTimestampsLen
	onlyTimestampsLen  = 12
)

// minMSS is the least that LowerMSS leaves: below it a segment would be mostly
// header, and some stacks refuse to send such (Linux: under 48).
const minMSS = 64

// nextOption returns the offset and the length of the first option in o at or
// after offset i. Length 0 ends the walk: at the end of o, at an end-of-options
// mark, or at a malformed option.
//
//	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
func nextOption(o []byte, i int) (at, n int) {
	for i < len(o) && o[i] == optNOP {
		i++
	}
	if i+1 >= len(o) || o[i] == optEnd {
		return i, 0
	}
	n = int(o[i+1])
	if n < 2 || n > len(o)-i {
		return i, 0
	}
	return i, n
}

// onlyTimestamps reports whether o holds timestamps in the usual layout and
// nothing else.
func onlyTimestamps(o []byte) bool {
	return len(o) == onlyTimestampsLen && binary.BigEndian.Uint32(o) == onlyTimestampsHead
}

// optionsValid reports whether every option in o has a length that ends within o.
func optionsValid(o []byte) bool {
	if onlyTimestamps(o) {
		return true
	}
	i, n := nextOption(o, 0)
	for n > 0 {
		i, n = nextOption(o, i+n)
	}
	return i == len(o) || o[i] == optEnd
}

// MSS returns the maximum segment size that a SYN offers.
func (p *Packet) MSS() (mss uint16, ok bool) {
	o := p.TCP().Options()
	if i := findMSS(o); i >= 0 {
		return binary.BigEndian.Uint16(o[i+2:]), true
	}
	return 0, false
}

// findMSS returns the offset of the MSS option in o, or -1.
func findMSS(o []byte) int {
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		if o[i] == optMSS && n == optMSSLen {
			return i
		}
	}
	return -1
}

// LowerMSS takes by bytes from the MSS that a SYN offers, but does not take it
// below 64; a smaller one is left alone. A SYN without the option offers the
// default, small enough to leave room (RFC 9293, section 3.7.1), and stays as it is.
func (p *Packet) LowerMSS(by uint16) {
	t := p.TCP()
	o := t.Options()
	i := findMSS(o)
	if i < 0 {
		return
	}
	old := binary.BigEndian.Uint16(o[i+2:])
	mss := LoweredMSS(old, by)
	if mss == old {
		return
	}
	binary.BigEndian.PutUint16(o[i+2:], mss)
	t.setSum(t.Sum().amend(changeAt(i, delta(0).replace(uint64(old), uint64(mss)))))
}

// LoweredMSS returns mss less by, as LowerMSS does.
func LoweredMSS(mss, by uint16) uint16 {
	if mss <= minMSS {
		return mss
	}
	return uint16(max(int(mss)-int(by), minMSS))
}

// HasSACK reports whether a segment says what has come out of order (RFC 2018).
func (p *Packet) HasSACK() bool {
	o := p.TCP().Options()
	if onlyTimestamps(o) {
		return false
	}
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		if o[i] == optSACK {
			return true
		}
	}
	return false
}

// changeAt returns d as it counts for a field at offset i of the option area.
func changeAt(i int, d delta) delta {
	if i&1 != 0 {
		return d.odd()
	}
	return d
}

// ShiftSACK adds delta, modulo 2^32, to both edges of every SACK block (RFC
// 2018), a D-SACK's (RFC 2883) included.
func (p *Packet) ShiftSACK(delta uint32) {
	t := p.TCP()
	o := t.Options()
	if delta == 0 || len(o) == 0 || onlyTimestamps(o) {
		return
	}
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		if o[i] == optSACK {
			t.setSum(t.Sum().amend(changeAt(i, shiftEdges(o[i+2:i+n], delta))))
		}
	}
}

// shiftEdges adds by to the 32-bit numbers in b and returns the change.
func shiftEdges(b []byte, by uint32) (d delta) {
	for ; len(b) >= 4; b = b[4:] {
		old := binary.BigEndian.Uint32(b)
		binary.BigEndian.PutUint32(b, old+by)
		d = d.replace(uint64(old), uint64(old+by))
	}
	return d
}

// blank overwrites n bytes at offset i of the option area by NOPs.
func (t TCP) blank(i, n int) {
	o := t.Options()
	// The option area begins and ends at even offsets, so the whole words that
	// the n bytes touch lie within it.
	words := o[i&^1 : (i+n+1)&^1]
	old := onesSum(0, words)
	for j := range n {
		o[i+j] = optNOP
	}
	t.setSum(t.Sum().amend(delta(0).replace(old, onesSum(0, words))))
}
