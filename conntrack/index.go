package conntrack

import (
	"math/bits"
	"sync/atomic"
)

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

// A bucket has ten places, each of a tag of 16 bits and a slot of 32, the slot plus
// one to be exact. A place is empty while its tag is zero.
//
//	words 0, 1   tags of places 0 to 7
//	word 2       tags of places 8 and 9, then 32 bits: how many entries passed
//	words 3 - 7  slots, two to a word
//
// All tags are compared at once, and where among them the right one is takes no
// branch: that would be guessed wrong nearly every time.
type bucket [bucketWords]uint64

const (
	bucketWords   = 8 // 64 bytes, a cache line
	bucketEntries = 10
	firstSlots    = 3 // word
	passedWord    = 2
	onePassed     = 1 << 32 // in that word

	tagBits  = 16
	tagLanes = 1 | 1<<tagBits | 1<<(2*tagBits) | 1<<(3*tagBits) // the lowest bit of each tag of a word
	tagTops  = tagLanes << (tagBits - 1)
)

// home returns the bucket of hash h.
func (x index) home(h uint64) int { return int(homeOf(h, uint64(len(x)))) }

// homeOf returns which of so many buckets is that of hash h, by multiplication instead
// of division: Lemire, "Fast random integer generation in an interval".
func homeOf(h, buckets uint64) uint32 { return uint32(h >> 32 * buckets >> 32) }

// next returns the bucket after b.
func (x index) next(b int) int {
	if b++; b < len(x) {
		return b
	}
	return 0
}

// tagOf returns the tag of hash h, which is odd, so that it is not that of an empty
// place. It shares no bit with what chooses the bucket or, as there are at most
// maxShards, the shard.
func tagOf(h uint64) uint64 { return h>>tagBits&(1<<tagBits-1) | 1 }

// zeroLanes returns a word with the top bit of each lane of x that is zero.
func zeroLanes(x uint64) uint64 {
	return ^((x&^uint64(tagTops) + (tagTops - tagLanes)) | x) & tagTops
}

// places is a set of places of a bucket: bit 16*(i%4)+i/4 is that of place i.
type places uint64

// match returns the places whose tag is the given one.
func match(tag, word0, word1, word2 uint64) places {
	tags := tag * tagLanes
	return places(zeroLanes(word0^tags)>>15 | zeroLanes(word1^tags)>>14 | zeroLanes(word2^tags)&0xffff_ffff>>13)
}

// match returns the places of l whose tag is the given one.
func (l *bucket) match(tag uint64) places { return match(tag, l[0], l[1], l[2]) }

// first returns a place of p, which is not empty.
func (p places) first() int {
	at := uint(bits.TrailingZeros64(uint64(p)))
	return int(at/tagBits + at%tagBits*4)
}

// slot returns the slot of a place, plus one.
func (l *bucket) slot(place int) uint32 {
	at := uint(place)
	return uint32(l[firstSlots+at/2] >> (at % 2 * 32))
}

// change writes an entry into an empty place, or takes it out.
func (l *bucket) change(place int, tag, slot uint64) {
	atomic.StoreUint64(&l[firstSlots+place/2], l[firstSlots+place/2]^slot<<(place%2*32))
	atomic.StoreUint64(&l[place/4], l[place/4]^tag<<(place%4*tagBits))
}

// insert adds an entry. There must be room: the index is larger than all the
// connections of the shard can fill.
func (x index) insert(h uint64, slot uint32) {
	for b := x.home(h); ; b = x.next(b) {
		l := &x[b]
		if free := l.match(0); free != 0 {
			l.change(free.first(), tagOf(h), uint64(slot+1))
			return
		}
		atomic.StoreUint64(&l[passedWord], l[passedWord]+onePassed)
	}
}

// remove takes out an entry, which must be there.
func (x index) remove(h uint64, slot uint32) {
	for b := x.home(h); ; b = x.next(b) {
		l := &x[b]
		if place, ok := l.find(h, slot); ok {
			l.change(place, tagOf(h), uint64(slot+1))
			return
		}
		if l.passed() == 0 {
			panic("conntrack: index entry is missing")
		}
		atomic.StoreUint64(&l[passedWord], l[passedWord]-onePassed)
	}
}

// find returns the place of an entry.
func (l *bucket) find(h uint64, slot uint32) (place int, ok bool) {
	for at := l.match(tagOf(h)); at != 0; at &= at - 1 {
		if place = at.first(); l.slot(place) == slot+1 {
			return place, true
		}
	}
	return 0, false
}

// passed returns how many entries passed l.
func (l *bucket) passed() uint64 { return l[passedWord] >> 32 }
