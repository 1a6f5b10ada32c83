// Package siphash is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast
// short-input PRF") over whole 64-bit words: the keyed hash of the connection
// table, of sequence numbers and of cookies. It hashes two or five words, which
// is what flows need, and nothing else; it is not a general hash.Hash.
//
// One compression and three finalisation rounds instead of two and four: the
// output never leaves the host in full, and it saves a third of the time.
package siphash

import (
	"encoding/binary"
	"math/bits"
)

// A Key is the secret of the hash. It must be random where an outsider could
// profit from collisions. The zero Key works, but hides nothing.
type Key struct{ K0, K1 uint64 }

// KeyFrom returns the key that b is.
func KeyFrom(b [16]byte) Key {
	return Key{K0: binary.LittleEndian.Uint64(b[:8]), K1: binary.LittleEndian.Uint64(b[8:])}
}

// The initial state: "somepseudorandomlygeneratedbytes" in ASCII.
const (
	init0 = 0x736f6d6570736575
	init1 = 0x646f72616e646f6d
	init2 = 0x6c7967656e657261
	init3 = 0x7465646279746573
)

// The last block holds the message's length in bytes, modulo 256, in its top byte.
const (
	length2 = 2 * 8 << 56
	length5 = 5 * 8 << 56
)

// Sum2 returns the hash of the 16 bytes that a and b are in little-endian order.
func (k Key) Sum2(a, b uint64) uint64 {
	v0, v1, v2, v3 := k.K0^init0, k.K1^init1, k.K0^init2, k.K1^init3
	v3 ^= a
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= a
	v3 ^= b
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= b
	// What finish does. A call of it is a fifth of the time here.
	v3 ^= length2
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= length2
	v2 ^= 0xff
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	return v0 ^ v1 ^ v2 ^ v3
}

// Sum5 returns the hash of the 40 bytes that a to e are in little-endian order.
func (k Key) Sum5(a, b, c, d, e uint64) uint64 {
	v0, v1, v2, v3 := k.K0^init0, k.K1^init1, k.K0^init2, k.K1^init3
	v3 ^= a
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= a
	v3 ^= b
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= b
	v3 ^= c
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= c
	v3 ^= d
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= d
	v3 ^= e
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= e
	return finish(v0, v1, v2, v3, length5)
}

// finish takes in the last block and runs the finalisation.
func finish(v0, v1, v2, v3, last uint64) uint64 {
	v3 ^= last
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= last
	v2 ^= 0xff
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	return v0 ^ v1 ^ v2 ^ v3
}

// round is SipRound. It must stay small enough to be inlined: called, the hash
// costs twice as much.
func round(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32) + v3
	v2 += v1
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
