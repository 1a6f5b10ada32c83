package conntrack

// Half-open connections stand in a list of their shard in the order in which
// they became so. Each shard tells the age of its oldest to all, so that the
// table's oldest is found without a lock. What is told is put right when timers are looked
// at, and when somebody goes by it: the oldest that there is may be younger, but not older.
//
// One that is established lingers in the list until the wheel comes to it or somebody looks
// for the oldest: its nodes have left the cache since its SYN, and to wait for them was a
// fifth of what the last ACK of a handshake took.

// bornNone is what a shard without half-open connections tells. With one it is
// bornSome plus the oldest's born.
const (
	bornNone = 0
	bornSome = 1 << 16
)

// halfHead returns the head of the half-open list.
func (s *Shard) halfHead() uint32 { return uint32(len(s.nodes) - 1) }

// enterHalfOpen puts c at the end of the half-open list.
func (s *Shard) enterHalfOpen(c *Conn, now uint32) {
	s.unlist(c)
	c.born = ticksOf(now)
	s.nodes.pushBack(s.halfHead(), halfNode(s.slot(c)))
	if s.halfOpen++; s.halfOpen == 1 && s.t.oldest[s.number].Load() == bornNone {
		s.tellOldest()
	}
}

// leaveHalfOpen makes c, to which the wheel comes at latest, one that is not half-open.
func (s *Shard) leaveHalfOpen(c *Conn, latest uint32) {
	s.halfOpen--
	// SYNPROXY keeps other things in the node, see Spare.
	if c.State == SynReceived && before(s.cursor, c.firstLook(s.cursor)) {
		c.born |= lingers
		return
	}
	s.nodes.unlink(halfNode(s.slot(c)))
	c.born = ticksOf(latest)
}

// unlist takes c out of the half-open list if it lingers there.
func (s *Shard) unlist(c *Conn) {
	if c.born&lingers != 0 {
		s.nodes.unlink(halfNode(s.slot(c)))
		c.born = ticksOf(c.seat(s.cursor))
	}
}

// unlistOldest does so with the first ones of the list, but not with all if they are many.
func (s *Shard) unlistOldest() {
	for range unlistLimit {
		c := s.oldestListed()
		if c == nil || c.born&lingers == 0 {
			return
		}
		s.hold(c)
		s.unlist(c)
	}
}

// unlistLimit bounds how long the shard is locked for it. Our choice: some microseconds.
const unlistLimit = 64

// oldestListed returns the first of the half-open list, or nil.
func (s *Shard) oldestListed() *Conn {
	first := s.nodes[s.halfHead()].next
	if first == s.halfHead() {
		return nil
	}
	return &s.conns[slotOf(first)]
}

// tellOldest tells the age of the oldest in the list, and reports whether all knew it.
func (s *Shard) tellOldest() (known bool) {
	age := uint32(bornNone)
	if c := s.oldestListed(); c != nil {
		age = bornSome | uint32(c.born&^lingers)
	}
	told := &s.t.oldest[s.number]
	if told.Load() == age {
		return true
	}
	told.Store(age)
	return false
}

// oldestShard returns the shard whose oldest half-open connection is told to be the oldest,
// or nil if there is none. Ages are compared modulo 2^15 ticks, 70 minutes: past
// half of that the choice between shards is arbitrary, which harms nothing.
func (t *Table) oldestShard() *Shard {
	best, found := 0, uint32(bornNone)
	for i := range t.oldest {
		told := t.oldest[i].Load()
		if told != bornNone && (found == bornNone || ticksFrom(uint16(found), uint16(told)) < 0) {
			best, found = i, told
		}
	}
	if found == bornNone {
		return nil
	}
	return &t.shards[best]
}

// Reserve takes one of the table's places for a connection that the caller is
// about to insert; it must not hold a shard's lock. If all are taken, the oldest
// half-open connection is removed to make room and returned as evicted. It is
// not ok if there is none: connections that both ends have spoken on are never
// removed for new ones.
func (t *Table) Reserve() (evicted Ended, wasEvicted, ok bool) {
	for n := t.used.Load(); n < t.max; n = t.used.Load() {
		if t.used.CompareAndSwap(n, n+1) {
			return Ended{}, false, true
		}
	}
	if t.finish() { // what was not read yet was counted as full
		return t.Reserve()
	}
	for range evictTries * len(t.shards) {
		s := t.oldestShard()
		if s == nil {
			break
		}
		s.lock()
		s.unlistOldest()
		if c := s.oldestListed(); s.tellOldest() && c != nil && c.born&lingers == 0 {
			s.hold(c)
			evicted = s.drop(c) // its place passes to the caller
			s.tellOldest()
			s.Unlock()
			return evicted, true, true
		}
		s.Unlock() // what was told was out of date; now another shard may have the oldest
	}
	return Ended{}, false, false
}

// ReserveAll takes n of the table's places if so many are left, and reports whether they are.
func (t *Table) ReserveAll(n int) bool {
	if t.used.Add(int64(n)) <= t.max {
		return true
	}
	t.used.Add(-int64(n))
	return false
}

// evictTries bounds how often Reserve looks at each shard, in the mean, whose oldest has
// changed: once because nobody has told it, and again because other workers are faster.
const evictTries = 4

// Release gives back a reservation that no connection was inserted for, ReleaseAll n of them.
func (t *Table) Release()         { t.used.Add(-1) }
func (t *Table) ReleaseAll(n int) { t.used.Add(-int64(n)) }
