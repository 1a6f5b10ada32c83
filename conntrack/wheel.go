package conntrack

// The timer wheel is lazy: a connection lies in the slice of time in which it
// was due when it was put there. Packets move its deadline without touching the
// wheel; when the wheel comes round to it, it is put where it is due by then.
// Only a deadline that comes nearer moves it at once.
//
// Of a new connection the wheel is to take no notice before it has closed, if it is a
// short one: so it is looked at once before its deadline, at firstLook, and if it has
// closed by then it is where it should be, give or take patience.

// Our choices. 1024 ticks of 128 ms are 131 s, longer than most timeouts, so
// that most idle connections are looked at once; a tick is well under the
// shortest timeout of 2 s, and power-of-two sizes need no division.
const (
	wheelSize = 1024
	tickShift = 7
	tick      = 1 << tickShift // ms
	horizon   = wheelSize*tick - 1

	// firstLook, after which a new connection is looked at, is the 7 s for which one that
	// has closed is kept, and a little for it to close in: then it goes at the first look.
	// Longer, and the table would be larger by what is to go: 1 s costs 8 ns a SYN.
	firstLook = 57 // ticks
	// patience is by how much one that closes may outlive its timeout, so that it need not
	// be moved. None of these timeouts serves a purpose that minds half a second.
	patience = 4 * tick // ms
)

// wheelHead returns the head of the list of connections due at a time.
func (s *Shard) wheelHead(at uint32) uint32 {
	return uint32(2*len(s.conns)) + at>>tickShift%wheelSize
}

// schedule puts the connection in a slot, which is not in the wheel, where it is due, or
// for its first look.
func (s *Shard) schedule(slot uint32) {
	c := &s.conns[slot]
	at := c.due()
	if !c.State.HalfOpen() {
		s.unlist(c)
		c.born = ticksOf(s.seat(slot, at))
		return
	}
	if first := c.firstLook(s.cursor); before(s.cursor, first) && before(first, at) {
		at = first
	}
	s.seat(slot, at)
}

// seat puts the connection in a slot, which is not in the wheel, into a tick: overdue, the
// next one; beyond the horizon, the last. It returns a time in that tick.
func (s *Shard) seat(slot, at uint32) uint32 {
	wait := max(0, int32(at-s.cursor))
	at = s.cursor + uint32(min(wait, horizon))
	s.nodes.pushBack(s.wheelHead(at), wheelNode(slot))
	return at
}

// lingers, in a Conn's born, says that it stands in the half-open list still.
const lingers = 1 << 15

// ticksOf returns a time in ticks, modulo 2^15.
func ticksOf(at uint32) uint16 { return uint16(at>>tickShift) &^ lingers }

// ticksFrom returns how many ticks it is from b to a, of which the highest bit does not
// count. What is more than half of 2^15 apart, 35 minutes, it takes for the other way round.
func ticksFrom(b, a uint16) int32 { return int32(int16((a-b)<<1) >> 1) }

// timeOf returns the time that is a number of ticks, by one that is near.
func timeOf(ticks uint16, near uint32) uint32 {
	return near&^(tick-1) + uint32(ticksFrom(ticksOf(near), ticks))<<tickShift
}

// firstLook returns when the wheel came, or will come, to a half-open connection first.
func (c *Conn) firstLook(near uint32) uint32 { return timeOf(c.born+firstLook, near) }

// seat returns when the wheel comes to c, which is not half-open, at the latest.
func (c *Conn) seat(near uint32) uint32 {
	if c.born&lingers != 0 {
		return c.firstLook(near)
	}
	return timeOf(c.born, near)
}

// latest returns when the wheel comes to c, which is due at due, at the latest.
func (s *Shard) latest(c *Conn, due uint32) uint32 {
	if !c.State.HalfOpen() {
		return c.seat(s.cursor)
	}
	if first := c.firstLook(s.cursor); before(s.cursor, first) && before(first, due) {
		return first
	}
	return due
}

// reschedule moves c within the wheel to where it is due.
func (s *Shard) reschedule(c *Conn) {
	slot := s.slot(c)
	s.nodes.unlink(wheelNode(slot))
	s.schedule(slot)
}

// hasten sets a deadline earlier than c has.
func (s *Shard) hasten(c *Conn, deadline uint32) {
	latest := s.latest(c, c.due())
	c.Deadline = deadline
	if before(c.due(), latest) {
		s.reschedule(c)
	}
}

// SetAlarm makes Expire call for c, a UDP connection, at time at even if its
// deadline is later. It replaces an earlier alarm.
func (s *Shard) SetAlarm(c *Conn, at uint32) {
	latest := s.latest(c, c.due())
	c.SeqDelta = max(at, 1) // zero is no alarm; a millisecond does not matter
	if before(c.due(), latest) {
		s.reschedule(c)
	}
}

// ClearAlarm takes back the alarm of c.
func (s *Shard) ClearAlarm(c *Conn) { c.SeqDelta = 0 }

// Expire calls due for the connections of a shard whose deadline or alarm has
// come, up to one tick late. It looks at no more than limit connections and
// returns at how many it looked; if that is limit, there may be more.
//
// due is called with the shard locked. If it returns 0, the connection is
// removed; it must not remove any itself. Else the connection lives on: due has
// set its new deadline or alarm, and what it left in the past moves to again ms
// from now.
func (t *Table) Expire(shard int, now uint32, limit int, due func(s *Shard, c *Conn) (again uint32)) int {
	t.setClock(now)
	s := &t.shards[shard]
	// Nothing of it is due before it is read. Whoever reads it has it locked, and a worker that
	// waited would come to the next ones just when they are read: 10 to 40 ms without a packet.
	if s.unread.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.Unlock()
	var ends ends
	seen, removed := 0, 0
	defer s.tellOldest()
	for int32(now-s.cursor) >= tick {
		head := s.wheelHead(s.cursor)
		for !s.nodes.alone(head) {
			if seen == limit {
				t.used.Add(-int64(removed))
				return seen
			}
			ends.foresee(s, head, limit-seen)
			for i := range ends.n {
				ends.ask(s, i+endsAhead)
				if s.expire(ends.slots[i], ends.of(i), now, due) {
					removed++
				}
			}
			seen += ends.n
		}
		s.cursor += tick
	}
	t.used.Add(-int64(removed))
	return seen
}

// expire looks at the connection in a slot, which is found by h, and reports whether it is
// gone. One that lives on is then due after now, so it leaves the current tick.
func (s *Shard) expire(slot uint32, h hashes, now uint32, due func(*Shard, *Conn) uint32) (removed bool) {
	c := &s.conns[slot]
	s.hold(c)
	s.nodes.unlink(wheelNode(slot))
	if before(now, c.due()) {
		s.schedule(slot)
		return false
	}
	binding, local, port := c.Binding(), c.Local, c.LocalPort
	again := due(s, c)
	if again == 0 {
		if c.Binding() != binding || c.Local != local || c.LocalPort != port { // by Rebind
			h = s.hashes(c)
		}
		s.forget(c, h)
		return true
	}
	if !before(now, c.Deadline) {
		c.Deadline = now + again
	}
	if !before(now, c.due()) {
		c.SeqDelta = max(now+again, 1)
	}
	s.reschedule(c)
	return false
}
