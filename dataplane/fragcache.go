package dataplane

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
)

// Our choices. 1024 datagrams under way at a time are 64 MB of the largest ones;
// who sends more loses some. Ten seconds is longer than any network holds a
// fragment back, and shorter than an identification takes to come round.
const (
	fragmentSets = 256
	fragmentWays = 4 // datagrams that share a set; the oldest makes room
	fragmentLife = 10_000
)

// fragmentUnit is the unit of fragment offsets (RFC 791, section 3.1).
const fragmentUnit = 8

// A datagramID is what the fragments of a datagram have in common (RFC 791,
// section 3.2; RFC 8200, section 4.5).
type datagramID struct {
	src, dst packet.Addr
	id       uint32
	proto    uint8
}

// A way is where the fragments of a datagram go: what its first one, which alone
// has ports, has been rewritten to.
type way struct {
	src, dst  packet.Endpoint
	hop       route.Hop
	binding   conntrack.BindingID
	direction direction
}

// A fragCache ties the fragments of datagrams together, whichever worker meets
// them. Its size is fixed, and a flood of fragments harms other fragments only.
type fragCache struct {
	mu   sync.Mutex
	key  siphash.Key
	sets [fragmentSets][fragmentWays]datagram
}

// A datagram is a datagram of which a fragment has been seen.
type datagram struct {
	datagramID
	born  uint32 // ms, when its first-seen fragment came
	used  bool
	known bool // way is
	bad   bool // fragments overlap: RFC 5722 has them all dropped
	way   way
	seen  [1 << 16 / fragmentUnit / 64]uint64 // a bit for each 8 bytes that have come
}

// note enters the bytes from to to of a datagram, and says whether they fit what
// has come before: a fragment that overlaps another makes the whole datagram bad
// (RFC 5722), but one that merely came twice is dropped alone.
func (f *fragCache) note(id *datagramID, from, to int, now uint32) packet.Reason {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.find(id, now)
	if d == nil {
		d = f.enter(id, now)
	}
	if d.bad {
		return packet.FragmentOverlap
	}
	first, last := from/fragmentUnit, (to-1)/fragmentUnit
	switch known := d.count(first, last); {
	case known == last-first+1:
		return packet.FragmentOverlap
	case known > 0:
		d.bad = true
		return packet.FragmentOverlap
	}
	d.mark(first, last)
	return packet.Kept
}

// learn enters the way of a datagram.
func (f *fragCache) learn(id *datagramID, w *way, now uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.find(id, now); d != nil {
		d.known, d.way = true, *w
	}
}

// lookUp returns the way of a datagram, if its first fragment has come.
func (f *fragCache) lookUp(id *datagramID, now uint32) (w way, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.find(id, now); d != nil && d.known && !d.bad {
		return d.way, true
	}
	return way{}, false
}

// find returns the datagram, if it is there and young enough.
func (f *fragCache) find(id *datagramID, now uint32) *datagram {
	set := f.set(id)
	for i := range set {
		if d := &set[i]; d.used && d.datagramID == *id && now-d.born < fragmentLife {
			return d
		}
	}
	return nil
}

// enter gives a datagram that is not there the place of the oldest in its set.
func (f *fragCache) enter(id *datagramID, now uint32) *datagram {
	set := f.set(id)
	oldest := &set[0]
	for i := range set {
		d := &set[i]
		if !d.used {
			oldest = d
			break
		}
		if now-d.born > now-oldest.born {
			oldest = d
		}
	}
	*oldest = datagram{datagramID: *id, born: now, used: true}
	return oldest
}

func (f *fragCache) set(id *datagramID) *[fragmentWays]datagram {
	h := f.key.Sum5(
		binary.LittleEndian.Uint64(id.src[:8]), binary.LittleEndian.Uint64(id.src[8:]),
		binary.LittleEndian.Uint64(id.dst[:8]), binary.LittleEndian.Uint64(id.dst[8:]),
		uint64(id.id)<<8|uint64(id.proto))
	return &f.sets[h%fragmentSets]
}

// count returns how many of the units from first to last have come.
func (d *datagram) count(first, last int) (n int) {
	for w := first / 64; w <= last/64; w++ {
		n += bits.OnesCount64(d.seen[w] & span(w, first, last))
	}
	return n
}

// mark notes that the units from first to last have come.
func (d *datagram) mark(first, last int) {
	for w := first / 64; w <= last/64; w++ {
		d.seen[w] |= span(w, first, last)
	}
}

// span returns the bits of word w that stand for units from first to last.
func span(w, first, last int) uint64 {
	mask := ^uint64(0)
	if low := first - 64*w; low > 0 {
		mask <<= low
	}
	if high := last - 64*w; high < 63 {
		mask &= 1<<(high+1) - 1
	}
	return mask
}
