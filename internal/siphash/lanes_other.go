//go:build !amd64

package siphash

const inLanes = false

func sums2(*Key, *uint64, *uint64, *uint64, int) { panic("siphash: no lanes") }
