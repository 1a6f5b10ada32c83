package packet

import (
	"encoding/binary"
	"math/bits"
)

// A Sum is an Internet checksum as it stands in a header: the complement of the
// one's complement sum of the 16-bit words it covers (RFC 1071).
type Sum uint16

// Checksum returns the Sum of b. An odd last byte counts as the high byte of a
// word (RFC 1071, section 4.1).
func Checksum(b []byte) Sum { return Sum(^fold(onesSum(0, b))) }

// Replace16 returns s after a covered word changed from old to new, by RFC 1624
// equation 3: HC' = ~(~HC + ~m + m').
func (s Sum) Replace16(old, new uint16) Sum {
	return s.amend(delta(0).replace(uint64(old), uint64(new)))
}

// Replace32 returns s after two covered words, which stand at an even offset,
// changed from old to new.
func (s Sum) Replace32(old, new uint32) Sum {
	return s.amend(delta(0).replace(uint64(old), uint64(new)))
}

// amend returns s after all the changes gathered in d.
func (s Sum) amend(d delta) Sum { return Sum(^fold(onesAdd(uint64(^s), uint64(d)))) }

// A delta gathers changes of covered words, to be applied to a Sum in one step.
// It is a one's complement number of 64 bits: 2^64-1 is a multiple of 2^16-1, so
// words of up to 64 bits may be added whole and folded once at the end.
type delta uint64

// replace returns d with the change of a covered field from old to new. The
// field ends at an even offset; a shorter one is zero-extended.
func (d delta) replace(old, new uint64) delta {
	s, c := bits.Add64(uint64(d), new, 0)
	s, c = bits.Add64(s, ^old, c)
	return delta(s + c)
}

// odd returns d as it counts when its fields stood at odd offsets: each byte
// then falls into the other half of its word, a rotation by 8 (RFC 1071,
// section 2, "byte order independence").
func (d delta) odd() delta { return delta(bits.RotateLeft64(uint64(d), 8)) }

// onesAdd returns a + b with end-around carry.
func onesAdd(a, b uint64) uint64 {
	s, c := bits.Add64(a, b, 0)
	return s + c
}

// onesSum adds the words of b to the one's complement number acc.
func onesSum(acc uint64, b []byte) uint64 {
	var c uint64
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b), c)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(last[:]), c)
	}
	return onesAdd(acc, c)
}

// fold reduces a one's complement number of 64 bits to 16. Adding a number to
// itself with its halves exchanged leaves their sum, end-around carry included, in
// the upper half.
func fold(x uint64) uint16 {
	y := uint32((x + bits.RotateLeft64(x, 32)) >> 32)
	return uint16((y + bits.RotateLeft32(y, 16)) >> 16)
}

// pseudoSum adds the pseudo-header of RFC 9293, section 3.1 (IPv4) or RFC 8200,
// section 8.1 (IPv6), for size bytes of transport header and payload. For an
// IPv4-mapped address the prefix ::ffff counts as the word 0xffff, which is zero
// in one's complement, so both families are summed alike.
func pseudoSum(src, dst *Addr, proto uint8, size int) uint64 {
	acc := onesSum(0, src[:])
	acc = onesSum(acc, dst[:])
	return onesAdd(acc, uint64(proto)+uint64(size))
}
