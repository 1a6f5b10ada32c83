//go:build amd64 || arm64

package prefetch

import "unsafe"

// They are assembler because a load in Go, even an unused one, holds up the instructions
// behind it when it misses, so that fewer misses overlap.

//go:noescape
func load(lines *uintptr, n int)

//go:noescape
func loadNumbers(base unsafe.Pointer, size uintptr, numbers *uint32, n int)

//go:noescape
func loadChosen(base unsafe.Pointer, size uintptr, numbers *uint32, which *uint8, n int)

//go:noescape
func loadOffsets(base unsafe.Pointer, first *uint64, stride uintptr, n int)
