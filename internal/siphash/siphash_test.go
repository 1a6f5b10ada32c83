package siphash

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// reference is SipHash-c-d written byte by byte after section 2 of the paper.
func reference(k Key, c, d int, msg []byte) uint64 {
	v := [4]uint64{
		k.K0 ^ 0x736f6d6570736575, k.K1 ^ 0x646f72616e646f6d,
		k.K0 ^ 0x6c7967656e657261, k.K1 ^ 0x7465646279746573,
	}
	sipRound := func() {
		v[0] += v[1]
		v[1] = bits.RotateLeft64(v[1], 13)
		v[1] ^= v[0]
		v[0] = bits.RotateLeft64(v[0], 32)
		v[2] += v[3]
		v[3] = bits.RotateLeft64(v[3], 16)
		v[3] ^= v[2]
		v[0] += v[3]
		v[3] = bits.RotateLeft64(v[3], 21)
		v[3] ^= v[0]
		v[2] += v[1]
		v[1] = bits.RotateLeft64(v[1], 17)
		v[1] ^= v[2]
		v[2] = bits.RotateLeft64(v[2], 32)
	}
	padded := append([]byte(nil), msg...)
	for len(padded)%8 != 7 {
		padded = append(padded, 0)
	}
	padded = append(padded, byte(len(msg)))
	for ; len(padded) > 0; padded = padded[8:] {
		m := binary.LittleEndian.Uint64(padded)
		v[3] ^= m
		for range c {
			sipRound()
		}
		v[0] ^= m
	}
	v[2] ^= 0xff
	for range d {
		sipRound()
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// counting returns the bytes 0, 1, … n-1, the paper's test input.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

var paperKey = Key{0x0706050403020100, 0x0f0e0d0c0b0a0908}

func TestReferenceGivesPublishedVectors(t *testing.T) {
	for _, v := range []struct {
		name string
		c, d int
		size int
		want uint64
	}{
		{"2-4 of 15 bytes, appendix A of the paper", 2, 4, 15, 0xa129ca6149be45e5},
		{"2-4 of nothing", 2, 4, 0, 0x726fdb47dd0e0e31},
		{"2-4 of 8 bytes", 2, 4, 8, 0x93f5f5799a932462},
		{"1-3 of nothing", 1, 3, 0, 0xabac0158050fc4dc},
	} {
		if got := reference(paperKey, v.c, v.d, counting(v.size)); got != v.want {
			t.Errorf("%s: got %#x, want %#x", v.name, got, v.want)
		}
	}
}

func TestSumsEqualReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		k := Key{rng.Uint64(), rng.Uint64()}
		var w [5]uint64
		var msg []byte
		for i := range w {
			w[i] = rng.Uint64()
			msg = binary.LittleEndian.AppendUint64(msg, w[i])
		}
		if got, want := k.Sum2(w[0], w[1]), reference(k, 1, 3, msg[:16]); got != want {
			t.Fatalf("Sum2(%x): got %#x, want %#x", w[:2], got, want)
		}
		if got, want := k.Sum5(w[0], w[1], w[2], w[3], w[4]), reference(k, 1, 3, msg); got != want {
			t.Fatalf("Sum5(%x): got %#x, want %#x", w, got, want)
		}
	}
}

// TestSumsAreSum has every number of inputs up to 40 hashed together.
func TestSumsAreSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 41 {
		k := Key{rng.Uint64(), rng.Uint64()}
		var w [5][]uint64
		for j := range w {
			w[j] = make([]uint64, n+j) // more is not looked at
			for i := range w[j] {
				w[j][i] = rng.Uint64()
			}
		}
		two, five := make([]uint64, n+1), make([]uint64, n+1)
		two[n], five[n] = 42, 42
		k.Sums2(two[:n], w[0], w[1])
		k.Sums5(five[:n], &w)
		for i := range n {
			if want := k.Sum2(w[0][i], w[1][i]); two[i] != want {
				t.Errorf("Sums2, %d of %d: got %#x, want %#x", i, n, two[i], want)
			}
			if want := k.Sum5(w[0][i], w[1][i], w[2][i], w[3][i], w[4][i]); five[i] != want {
				t.Errorf("Sums5, %d of %d: got %#x, want %#x", i, n, five[i], want)
			}
		}
		if two[n] != 42 || five[n] != 42 {
			t.Errorf("%d inputs: wrote beyond their hashes", n)
		}
	}
}

func TestRound(t *testing.T) {
	for n := range 65 {
		got := Round(n)
		if got < n || got > n && (n <= 1 || got%8 != 0 || got-n >= 8) {
			t.Errorf("Round(%d): got %d", n, got)
		}
	}
}

func TestSumsDoNotAllocate(t *testing.T) {
	var sink uint64
	if n := testing.AllocsPerRun(100, func() {
		sink += paperKey.Sum2(sink, 1)
		sink += paperKey.Sum5(sink, 1, 2, 3, 4)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSum2(b *testing.B) {
	var h uint64
	for b.Loop() {
		h = paperKey.Sum2(h, 1)
	}
}

// BenchmarkSums2 is the time of 64 hashes.
func BenchmarkSums2(b *testing.B) {
	var in [2][64]uint64
	for b.Loop() {
		paperKey.Sums2(in[0][:], in[0][:], in[1][:])
	}
}

// BenchmarkSums5 is the time of 64 hashes.
func BenchmarkSums5(b *testing.B) {
	var out [64]uint64
	var in [5][]uint64
	for i := range in {
		in[i] = make([]uint64, len(out))
	}
	for b.Loop() {
		paperKey.Sums5(out[:], &in)
	}
}

func BenchmarkSum5(b *testing.B) {
	var h uint64
	for b.Loop() {
		h = paperKey.Sum5(h, 1, 2, 3, 4)
	}
}
