// Package prefetch asks the processor for memory that will be needed soon, where there
// is an instruction for that; elsewhere it does nothing.
//
// It never reads what it asks for: that may be gone, or be no memory at all.
package prefetch

import "unsafe"

// Max is how many lines there may be in Lines.
const Max = 64

// Lines are cache lines to be loaded together. An instruction that misses the TLB is not
// done before the address is translated, and holds up those behind it when there are more
// of them than the processor looks ahead. So addresses are gathered first, and then
// asked for with nothing in between: only then do all the misses overlap.
type Lines struct {
	at [Max]uintptr
	n  int
}

// Add adds the line in which v begins. It does not keep v alive.
func Add[T any](l *Lines, v *T) {
	l.at[l.n] = uintptr(unsafe.Pointer(v))
	l.n++
}

// Load begins to load all lines that were added since the last Load.
func (l *Lines) Load() {
	load(&l.at[0], l.n)
	l.n = 0
}

// Line begins to load the line in which v begins, as Add and Load do.
func Line[T any](v *T) {
	at := uintptr(unsafe.Pointer(v))
	load(&at, 1)
}

// Numbers begins to load the lines in which the elements of s with these numbers begin.
func Numbers[T any](s []T, numbers []uint32) {
	var zero T
	loadNumbers(unsafe.Pointer(unsafe.SliceData(s)), unsafe.Sizeof(zero), unsafe.SliceData(numbers), len(numbers))
}

// Chosen does so for those whose numbers stand at these places, which are below Max.
func Chosen[T any](s []T, numbers *[Max]uint32, which []uint8) {
	var zero T
	loadChosen(unsafe.Pointer(unsafe.SliceData(s)), unsafe.Sizeof(zero), &numbers[0], unsafe.SliceData(which), len(which))
}

// Offsets begins to load the lines of mem at n offsets: the first, and those that follow it
// in so many bytes each.
func Offsets(mem []byte, first *uint64, stride uintptr, n int) {
	loadOffsets(unsafe.Pointer(unsafe.SliceData(mem)), first, stride, n)
}
