package conntrack

import "sync/atomic"

// An index finds connections by the hash of their flows. It is an array of
// buckets of one cache line each. A flow's home is the bucket that its hash
// points to; if that is full the entry goes to the next bucket that is not,
// and every bucket passed on the way counts it. So a lookup goes on to the next
// bucket only if something that passed this one is really there, and a removal
// leaves nothing behind.
//
// The number of buckets need not be a power of two. Entries are written
// atomically because prefetching reads them without the shard's lock.
type index []bucket

// A bucket's first word counts the entries that passed it. The others are
// entries: the flow's tag in the upper half, the connection's slot plus one in
// the lower; zero is an empty place.
type bucket [bucketWords]uint64

const (
	bucketWords   = 8 // 64 bytes, a cache line
	bucketEntries = bucketWords - 1
)

// home returns the bucket of hash h, by multiplication instead of division:
// Lemire, "Fast random integer generation in an interval".
func (x index) home(h uint64) int { return int(h >> 32 * uint64(len(x)) >> 32) }

// next returns the bucket after b.
func (x index) next(b int) int {
	if b++; b < len(x) {
		return b
	}
	return 0
}

// entry returns the entry of hash h for a slot.
func entry(h uint64, slot uint32) uint64 { return h<<32 | uint64(slot+1) }

// insert adds an entry. There must be room: the index is larger than all the
// connections of the shard can fill.
func (x index) insert(h uint64, slot uint32) {
	for b := x.home(h); ; b = x.next(b) {
		line := &x[b]
		for i := 1; i < bucketWords; i++ {
			if line[i] == 0 {
				atomic.StoreUint64(&line[i], entry(h, slot))
				return
			}
		}
		line[0]++
	}
}

// remove takes out an entry, which must be there.
func (x index) remove(h uint64, slot uint32) {
	e := entry(h, slot)
	for b := x.home(h); ; b = x.next(b) {
		line := &x[b]
		for i := 1; i < bucketWords; i++ {
			if line[i] == e {
				atomic.StoreUint64(&line[i], 0)
				return
			}
		}
		if line[0] == 0 {
			panic("conntrack: index entry is missing")
		}
		line[0]--
	}
}
