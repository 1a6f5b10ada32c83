package conntrack

import "sync/atomic"

// A lookup of an old connection misses the cache twice, one after the other: for
// its bucket and for itself. A worker that prepares its whole batch first, in two
// passes, has these misses overlap. Both passes run without a lock; what they
// find may be gone when the lock is taken, which costs time and nothing else.

// Prefetch begins to load the bucket that k leads to.
func (t *Table) Prefetch(k Key) {
	x := t.shards[k.shard].index
	prefetch(firstByte(&x[x.home(k.hash)]))
}

// PrefetchConn begins to load the connection that k leads to. It reads the
// bucket, so Prefetch must have gone well before.
func (t *Table) PrefetchConn(k Key) {
	s := &t.shards[k.shard]
	line := &s.index[s.index.home(k.hash)]
	for i := 1; i < bucketWords; i++ {
		e := atomic.LoadUint64(&line[i])
		if uint32(e>>32) == uint32(k.hash) && uint32(e) != 0 {
			prefetch(firstByte(&s.conns[uint32(e)-1]))
			return
		}
	}
}
