// Package synproxy answers SYNs without keeping anything of them: the cookie that
// stands in a SYN-ACK as its initial sequence number proves, when it comes back in
// an acknowledgement, that there is somebody at the client's address, and says what
// the client had offered. The package computes and checks cookies and negotiates
// options. It keeps no table and sends nothing; dataplane does that, and its XDP
// program computes the same cookies.
package synproxy

import (
	"encoding/binary"
	"slices"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
)

// A cookie has 32 bits:
//
//	31      parity of the epoch whose key made it
//	30-28   MSS, as an index into a table of its family
//	27-24   window scale, noScale if the client offered none
//	23      SACK permitted
//	22      timestamps
//	21-0    zero
//
// of which all but the first are covered by (xor) as many bits of the keyed hash of
// the flow and the client's initial sequence number. So a cookie looks random but
// for its first bit, as an initial sequence number should (RFC 6528), and whoever
// has not seen one guesses right once in 2^22 times: when the cover is taken off,
// the low 22 bits must be zero. Other options than were asked for can be had by
// changing bits 30 to 22, but only by whom the cookie was sent to, and that one
// could have asked for them.
const (
	parityShift = 31
	coverMask   = 1<<parityShift - 1
	checkBits   = 22
	checkMask   = 1<<checkBits - 1

	mssShift      = 28
	mssMask       = 7
	scaleShift    = 24
	scaleMask     = 15
	sackBit       = 1 << 23
	timestampsBit = 1 << 22
)

// MSSes are the segment sizes that a cookie can tell of, for each family: those that
// are met on today's paths, and one below all that is sensible, so that nobody is
// sent more than was asked for.
var (
	mss4 = [mssMask + 1]uint16{64, 536, 1220, 1360, 1400, 1440, 1460, 8960}
	mss6 = [mssMask + 1]uint16{64, 1220, 1280, 1340, 1380, 1420, 1440, 8940}
)

// What a SYN without an MSS option stands for: RFC 9293, section 3.7.1.
const (
	defaultMSS4 = 536
	defaultMSS6 = 1220
)

// NoScale is the window scale of a SYN that offers none.
const NoScale = packet.NoScale

// Options are what a client offers in its SYN.
type Options struct {
	MSS        uint16 // largest segment that the client takes; 0: not said
	Scale      uint8  // window scale, at most 14, or NoScale
	SACK       bool
	Timestamps bool
}

// A Key makes and checks the cookies of one epoch.
type Key = siphash.Key

// Keys are those in use at one time: of the current epoch, which makes cookies, and
// of the other one whose cookies are still, or already, good. They are found by the
// parity of the epoch.
type Keys struct {
	ByParity [2]Key
	Current  uint32 // parity of the current epoch
}

// Cookie returns the cookie for a SYN of flow f with initial sequence number isn that
// offers o. What the cookie cannot say of o it says less of: a smaller MSS.
func (k *Keys) Cookie(f *packet.Flow, isn uint32, o *Options) uint32 {
	return k.Current<<parityShift | cover(&k.ByParity[k.Current], f, isn) ^ o.bits(is4(f))
}

// Check returns what the client offered in the SYN that cookie answered, whose flow
// and initial sequence number these are, or not ok if the cookie is not one of ours
// or is too old.
func (k *Keys) Check(f *packet.Flow, isn, cookie uint32) (o Options, ok bool) {
	said := cover(&k.ByParity[cookie>>parityShift], f, isn) ^ cookie&coverMask
	if said&checkMask != 0 {
		return Options{}, false
	}
	return optionsOf(said, is4(f)), true
}

// cover returns the 31 bits that cover a cookie: the low ones of a hash of the flow
// and the client's initial sequence number.
func cover(k *Key, f *packet.Flow, isn uint32) uint32 {
	rest := uint64(f.SrcPort)<<48 | uint64(f.DstPort)<<32 | uint64(isn)
	if is4(f) {
		return uint32(k.Sum2(uint64(binary.LittleEndian.Uint32(f.Src[12:]))<<32|
			uint64(binary.LittleEndian.Uint32(f.Dst[12:])), rest)) & coverMask
	}
	return uint32(k.Sum5(
		binary.LittleEndian.Uint64(f.Src[0:]), binary.LittleEndian.Uint64(f.Src[8:]),
		binary.LittleEndian.Uint64(f.Dst[0:]), binary.LittleEndian.Uint64(f.Dst[8:]),
		rest)) & coverMask
}

func is4(f *packet.Flow) bool { return f.Dst.Is4() }

// Pack returns o in 9 bits, as a cookie to a client of that family says it.
func (o *Options) Pack(is4 bool) uint16 { return uint16(o.bits(is4) >> checkBits) }

// Unpack is the inverse of Pack.
func Unpack(b uint16, is4 bool) Options { return optionsOf(uint32(b)<<checkBits, is4) }

// Parity returns the parity of the epoch that a cookie was made in.
func Parity(cookie uint32) uint32 { return cookie >> parityShift }

// bits returns o as it stands in a cookie without its cover.
func (o *Options) bits(is4 bool) uint32 {
	b := mssIndex(o.MSS, is4)<<mssShift | uint32(min(o.Scale, NoScale))<<scaleShift
	if o.SACK {
		b |= sackBit
	}
	if o.Timestamps {
		b |= timestampsBit
	}
	return b
}

// optionsOf is the inverse of bits.
func optionsOf(b uint32, is4 bool) Options {
	sizes := &mss6
	if is4 {
		sizes = &mss4
	}
	return Options{
		MSS:        sizes[b>>mssShift&mssMask],
		Scale:      uint8(b >> scaleShift & scaleMask),
		SACK:       b&sackBit != 0,
		Timestamps: b&timestampsBit != 0,
	}
}

// mssIndex returns the index of the largest MSS of the family's table that is at most
// mss, or the smallest.
func mssIndex(mss uint16, is4 bool) uint32 {
	sizes, unsaid := &mss6, uint16(defaultMSS6)
	if is4 {
		sizes, unsaid = &mss4, defaultMSS4
	}
	if mss == 0 {
		mss = unsaid
	}
	for i, size := range slices.Backward(sizes[1:]) {
		if size <= mss {
			return uint32(i + 1)
		}
	}
	return 0
}
