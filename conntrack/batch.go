package conntrack

import (
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/prefetch"
)

// A lookup of an old connection misses the cache twice, one after the other: for
// its bucket and for itself. A worker that prepares its whole batch first, in two
// passes, has these misses overlap. Both passes run without a lock; what they
// find may be gone when the lock is taken, which costs time and nothing else.

// Prefetch begins to load the bucket that k leads to.
func (t *Table) Prefetch(k Key) {
	x := t.shards[k.shard].index
	prefetch.Line(&x[x.home(k.hash)])
}

// A Hint is where a connection was seen; the zero Hint is nowhere.
type Hint uint32

// PrefetchConn begins to load the connection that k leads to, and returns where it
// is. It reads the bucket, so Prefetch must have gone well before.
func (t *Table) PrefetchConn(k Key) Hint {
	s := &t.shards[k.shard]
	l := &s.index[s.index.home(k.hash)]
	at := match(tagOf(k.hash), atomic.LoadUint64(&l[0]), atomic.LoadUint64(&l[1]), atomic.LoadUint64(&l[2]))
	if at == 0 {
		return 0
	}
	place := uint(at.first())
	slot := uint32(atomic.LoadUint64(&l[firstSlots+place/2]) >> (place % 2 * 32))
	if slot != 0 { // it may have gone in between
		prefetch.Line(&s.conns[slot-1])
	}
	return Hint(slot)
}
