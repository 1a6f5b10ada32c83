// Package prefetch asks the processor for memory that will be needed soon, where there
// is an instruction for that; elsewhere it does nothing.
//
// An instruction that misses the TLB is not done before the address is translated, and
// holds up those behind it when there are more of them than the processor looks ahead.
// So let loops that prefetch do little else: then their misses overlap.
package prefetch

import "unsafe"

// Line begins to load the cache line in which v begins. v may be any address: one that
// is not mapped is passed over.
func Line[T any](v *T) { load((*byte)(unsafe.Pointer(v))) }
