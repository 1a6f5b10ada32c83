//go:build !amd64 && !arm64

package prefetch

import "unsafe"

func load(*uintptr, int) {}

func loadNumbers(unsafe.Pointer, uintptr, *uint32, int) {}

func loadChosen(unsafe.Pointer, uintptr, *uint32, *uint8, int) {}

func loadOffsets(unsafe.Pointer, *uint64, uintptr, int) {}
