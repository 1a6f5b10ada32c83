package packet

import "encoding/binary"

// Offsets in a timestamps option (RFC 7323, section 3.2).
const (
	timestampsVal = 2
	timestampsEcr = 6
)

// Timestamps returns the two numbers of a segment's timestamps option (RFC 7323):
// the sender's clock, and the number that it echoes, which means something only if
// ACK is set. ok is false if there is no such option.
func (p *Packet) Timestamps() (val, ecr uint32, ok bool) {
	o := p.TCP().Options()
	if onlyTimestamps(o) {
		both := binary.BigEndian.Uint64(o[onlyTimestampsLen-8:])
		return uint32(both >> 32), uint32(both), true
	}
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		if o[i] == optTimestamps && n == optTimestampsLen {
			return binary.BigEndian.Uint32(o[i+timestampsVal:]), binary.BigEndian.Uint32(o[i+timestampsEcr:]), true
		}
	}
	return 0, 0, false
}

// ShiftTimestamps adds valDelta, modulo 2^32, to the sender's clock and ecrDelta
// to the number that it echoes, unless that is zero or ACK is not set: then it
// echoes nothing (RFC 7323, section 3.2).
func (p *Packet) ShiftTimestamps(valDelta, ecrDelta uint32) {
	if p.Flags&ACK == 0 {
		ecrDelta = 0
	}
	t := p.TCP()
	if o := t.Options(); onlyTimestamps(o) {
		t.setSum(t.Sum().amend(shiftTimestamps(o[onlyTimestampsLen-8:], valDelta, ecrDelta)))
	} else if len(o) > 0 {
		t.shiftTimestamps(valDelta, ecrDelta)
	}
}

// shiftTimestamps is ShiftTimestamps for any layout of the options.
func (t TCP) shiftTimestamps(valDelta, ecrDelta uint32) {
	o := t.Options()
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		if o[i] == optTimestamps && n == optTimestampsLen {
			d := shiftTimestamps(o[i+timestampsVal:], valDelta, ecrDelta)
			t.setSum(t.Sum().amend(changeAt(i, d)))
		}
	}
}

// shiftTimestamps adds to the two numbers at the head of b, an echo of zero
// excepted, and returns the change.
func shiftTimestamps(b []byte, valDelta, ecrDelta uint32) delta {
	old := binary.BigEndian.Uint64(b)
	val, ecr := uint32(old>>32)+valDelta, uint32(old)
	if ecr != 0 {
		ecr += ecrDelta
	}
	both := uint64(val)<<32 | uint64(ecr)
	binary.BigEndian.PutUint64(b, both)
	return delta(0).replace(old, both)
}

// BlankTimestamps overwrites the timestamps option of a SYN by NOPs, so that the
// two ends do not negotiate it: clients that share a local address have clocks of
// their own, which PAWS (RFC 7323, section 5) would take for one that runs back.
func (p *Packet) BlankTimestamps() {
	t := p.TCP()
	o := t.Options()
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		if o[i] == optTimestamps && n == optTimestampsLen {
			t.blank(i, n)
		}
	}
}
