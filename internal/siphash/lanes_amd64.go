package siphash

import "golang.org/x/sys/cpu"

var (
	inLanes = cpu.X86.HasAVX2
	rotates = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL // words, by one instruction
)

// sums2 sets out to Sum2 of each of a and b, so many times eight of them, of which
// there is at least one.
func sums2(k *Key, out, a, b *uint64, eights int) {
	if rotates {
		sums2AVX512(k, out, a, b, eights)
		return
	}
	sums2AVX2(k, out, a, b, eights)
}

// sums5 sets out to Sum5 of each of a to e likewise.
func sums5(k *Key, out, a, b, c, d, e *uint64, eights int) {
	if rotates {
		sums5AVX512(k, out, a, b, c, d, e, eights)
		return
	}
	sums5AVX2(k, out, a, b, c, d, e, eights)
}

//go:noescape
func sums2AVX2(k *Key, out, a, b *uint64, eights int)

//go:noescape
func sums5AVX2(k *Key, out, a, b, c, d, e *uint64, eights int)

//go:noescape
func sums2AVX512(k *Key, out, a, b *uint64, eights int)

//go:noescape
func sums5AVX512(k *Key, out, a, b, c, d, e *uint64, eights int)
