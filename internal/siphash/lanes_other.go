//go:build !amd64

package siphash

const inLanes = false

func sums2(k *Key, out, a, b *uint64, eights int)          { panic("siphash: no lanes") }
func sums5(k *Key, out, a, b, c, d, e *uint64, eights int) { panic("siphash: no lanes") }
