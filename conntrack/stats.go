package conntrack

// Stats is what a table holds, counted shard after shard: under traffic the sums
// are of slightly different moments.
type Stats struct {
	Capacity    int // max_connections
	Connections int // templates not included
	HalfOpen    int // of the connections
	Templates   int
	Bindings    int // real servers held or in use
	Locals      []LocalStats
}

// LocalStats is what one local address serves.
type LocalStats struct {
	ID LocalID
	Local
	Connections int
	InUse       int    // ports with at least one connection
	Free        int    // ports of the range with none
	Conflicts   uint64 // ports passed over, as in use toward the same real server
}

// Stats counts what the table holds. It locks one shard at a time.
func (t *Table) Stats() Stats {
	r := &t.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Stats{Capacity: int(t.max), Bindings: len(r.bindings.byKey)}
	locals := make([]LocalStats, len(r.locals.keys))
	t.eachShard(func(s *Shard) {
		st.Connections += s.live - s.templates
		st.HalfOpen += s.halfOpen
		st.Templates += s.templates
		for id, p := range s.ports[1:] {
			l := &locals[id+1]
			l.Connections += int(p.conns)
			l.InUse += int(p.inUse)
			l.Free += p.free
			l.Conflicts += p.conflicts
		}
	})
	for id := 1; id < len(locals); id++ {
		l := &locals[id]
		if r.locals.holds[id] > 0 || l.Connections > 0 {
			l.ID, l.Local = LocalID(id), t.locals[id].Local
			st.Locals = append(st.Locals, *l)
		}
	}
	return st
}

// Capacity returns max_connections.
func (t *Table) Capacity() int { return int(t.max) }

// walkSlots bounds how many places Walk looks at under one lock.
const walkSlots = 1024

// Shards returns the number of shards, for Expire and Walk.
func (t *Table) Shards() int { return len(t.shards) }

// Walk copies connections of a shard to out, from position from on, which is 0
// at first. It returns how many it copied and the position to go on from, or 0
// at the end. It holds the lock for a bounded time, so n may be short of len(out)
// before the end.
func (t *Table) Walk(shard, from int, out []Conn) (n, next int) {
	s := &t.shards[shard]
	s.lock()
	defer s.Unlock()
	end := min(from+walkSlots, int(s.fresh))
	for i := from; i < end; i++ {
		if !s.conns[i].isUsed() {
			continue
		}
		if n == len(out) {
			return n, i
		}
		s.hold(&s.conns[i])
		out[n] = s.conns[i].Copy()
		n++
	}
	if end >= int(s.fresh) {
		return n, 0
	}
	return n, end
}
