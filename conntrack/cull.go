package conntrack

// A BindingSet is a set of bindings, for Cull.
type BindingSet struct {
	ids []BindingID
	has []bool // by BindingID
}

// Add puts id into the set, which it need not be in yet.
func (b *BindingSet) Add(id BindingID) {
	if b.contains(id) {
		return
	}
	if int(id) >= len(b.has) {
		b.has = append(b.has, make([]bool, int(id)+1-len(b.has))...)
	}
	b.ids, b.has[id] = append(b.ids, id), true
}

func (b *BindingSet) contains(id BindingID) bool { return int(id) < len(b.has) && b.has[id] }

// Cull calls cull for the connections and templates of a shard whose binding is
// in set, and removes those for which it returns true. It begins at position
// from, which is 0 at first, and returns the position to go on from, or 0 at the
// end. It looks at a bounded number of places, and removes no more than limit.
//
// cull is called with the shard locked, and must not remove the connection itself.
func (t *Table) Cull(shard, from, limit int, set *BindingSet, cull func(*Shard, *Conn) bool) (removed, next int) {
	s := &t.shards[shard]
	s.lock()
	defer s.Unlock()
	if !s.refersTo(set) {
		return 0, 0
	}
	i, removed := s.cull(from, min(from+walkSlots, int(s.fresh)), limit, set, cull)
	if i >= int(s.fresh) {
		return removed, 0
	}
	return removed, i
}

// cull is Cull from one position to another, and returns the position that it came to.
func (s *Shard) cull(i, end, limit int, set *BindingSet, cull func(*Shard, *Conn) bool) (at, removed int) {
	for ; i < end && removed < limit; i++ {
		c := &s.conns[i]
		if !c.isUsed() || !set.contains(c.Binding()) {
			continue
		}
		s.hold(c)
		if cull(s, c) {
			s.drop(c)
			removed++
		}
	}
	s.t.used.Add(-int64(removed))
	return i, removed
}

// Each calls f with every connection and template of the shard. f must not keep what it
// gets. The caller holds the lock.
func (s *Shard) Each(f func(*Conn)) {
	for i := range s.conns[:s.fresh] {
		if c := &s.conns[i]; c.isUsed() {
			s.hold(c)
			f(c)
		}
	}
}

// RemoveOf removes the connections and templates whose binding is in set, and returns
// how many. The caller holds the lock.
func (s *Shard) RemoveOf(set *BindingSet) (removed int) {
	if s.refersTo(set) {
		_, removed = s.cull(0, int(s.fresh), len(s.conns), set, func(*Shard, *Conn) bool { return true })
	}
	return removed
}

// refersTo reports whether any connection of the shard has a binding in set.
func (s *Shard) refersTo(set *BindingSet) bool {
	for _, id := range set.ids {
		if int(id) < len(s.refs) && s.refs[id] > 0 {
			return true
		}
	}
	return false
}
