package conntrack

// Resized returns a table of another size, in mem, which is zeroed, with the
// connections of t; t must not be used after. What there is no room for is left behind
// and counted: half-open connections first.
func (t *Table) Resized(capacity int, mem []byte) (n *Table, left int, err error) {
	c := Config{MaxConnections: capacity, Shards: len(t.shards), HashKey: t.key}
	if err := c.validate(); err != nil {
		return nil, 0, err
	}
	n = newTable(c, mem)
	copy(n.bindings, t.bindings)
	copy(n.locals, t.locals)
	n.setClock(t.Clock())
	n.adoptRegistry()
	hashes := make([][2]uint64, len(n.shards[0].conns))
	for _, halfOpen := range []bool{false, true} {
		for i := range t.shards {
			left += n.shards[i].copyFrom(&t.shards[i], halfOpen)
		}
	}
	for i := range n.shards {
		s := &n.shards[i]
		for slot := range s.fresh {
			s.judge(slot, &hashes[slot], false)
		}
		s.makeRoom()
		s.live, s.fresh = 0, 0 // the mark still tells
		s.rebuild(n.Clock(), hashes)
	}
	return n, left, nil
}

// copyFrom copies the connections of the same shard of another table, those that are
// half-open or the others, as far as there is room, and returns how many there was none
// for.
func (s *Shard) copyFrom(from *Shard, halfOpen bool) (left int) {
	for slot := range from.conns[:from.fresh] {
		c := &from.conns[slot]
		switch {
		case c.State == None || c.State.HalfOpen() != halfOpen:
		case s.full() || s.t.used.Load() == s.t.max:
			left++
		default:
			at := s.takeSlot()
			s.conns[at] = *c
			s.nodes[halfNode(at)] = from.nodes[halfNode(uint32(slot))] // the spare bits
			s.t.used.Add(1)
		}
	}
	return left
}
