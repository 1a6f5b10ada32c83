package siphash

import "golang.org/x/sys/cpu"

var inLanes = cpu.X86.HasAVX2

// sums2 sets out to Sum2 of each of a and b, so many times eight of them, of which
// there is at least one.
//
//go:noescape
func sums2(k *Key, out, a, b *uint64, eights int)

// sums5 sets out to Sum5 of each of a to e likewise.
//
//go:noescape
func sums5(k *Key, out, a, b, c, d, e *uint64, eights int)
