// Package prefetch asks the processor for memory that will be needed soon, where there
// is an instruction for that; elsewhere it does nothing.
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

// Add adds the line in which v begins. It does not keep v alive: what Load asks for may
// be gone.
func Add[T any](l *Lines, v *T) {
	l.at[l.n] = uintptr(unsafe.Pointer(v))
	l.n++
}

// Put makes the i-th line the one in which v begins, for LoadFirst, which does not count
// what was put: that would be a store which the next line waits for.
func Put[T any](l *Lines, i int, v *T) { l.at[uint(i)%Max] = uintptr(unsafe.Pointer(v)) }

// LoadFirst begins to load the first n lines.
func (l *Lines) LoadFirst(n int) { load(&l.at[0], n) }

// Line begins to load the line in which v begins, as Add and Load do.
func Line[T any](v *T) {
	at := uintptr(unsafe.Pointer(v))
	load(&at, 1)
}

// Load begins to load all lines that were added since the last Load.
func (l *Lines) Load() {
	load(&l.at[0], l.n)
	l.n = 0
}
