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
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.refersTo(set) {
		return 0, 0
	}
	end := min(from+walkSlots, int(s.fresh))
	i := from
	for ; i < end && removed < limit; i++ {
		c := &s.conns[i]
		if c.State != None && set.contains(c.Binding) && cull(s, c) {
			s.drop(c)
			removed++
		}
	}
	t.used.Add(-int64(removed))
	if i >= int(s.fresh) {
		return removed, 0
	}
	return removed, i
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
