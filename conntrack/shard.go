package conntrack

import (
	"sync"
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/packet"
)

// A Shard is a whole connection table: connections, their index, their timers
// and its share of the local ports. Its lock guards all of them, but that of a
// connection a plain packet touches what is the packet path's without it: see CatchInbound.
// The packet path holds no other lock beside it.
type Shard struct {
	// What does not change: where every packet looks, apart from what is written.
	index    index
	conns    []Conn         // arena memory, one cache line each
	bindings []bindingEntry // the table's
	locals   []localEntry   // the table's
	t        *Table
	mark     *mark // arena memory
	nodes    nodes // arena memory: wheel and half-open list
	number   uint32
	bits     uint8       // number of shards = 1 << bits
	unread   atomic.Bool // what another process has left in it is not looked at yet, see lock

	_ [cacheLine]byte

	// What new and ending connections need.
	mu     sync.Mutex
	held   *Conn      // latched until the shard is unlocked, or nil
	cursor uint32     // ms: the next tick of the wheel to be looked at
	fresh  uint32     // slots below have been used before
	free   uint32     // slot+1 of the first free one below fresh, linked by its wheel node
	turn   turn       // which of a pool's local addresses is tried first
	ports  []*portSet // by LocalID
	refs   []uint32   // by BindingID: connections of this shard that refer to it
	known  known

	live      int // connections and templates
	halfOpen  int
	templates int

	_ [cacheLine]byte // neighbours' locks are others' business
}

// Lock locks the shard that k leads to and returns it.
func (t *Table) Lock(k Key) *Shard {
	s := &t.shards[k.shard]
	s.lock()
	return s
}

// Unlock ends what Lock began. Conns of the shard must not be used after it.
func (s *Shard) Unlock() {
	s.letGo()
	s.mu.Unlock()
}

// Find returns the connection that has f as its inbound or outbound flow,
// depending on what k was made by, or nil. The caller holds the lock; the connection
// is the caller's until it finds another, or unlocks.
func (s *Shard) Find(k Key, f *packet.Flow) *Conn {
	c := s.find(k, f)
	if c != nil {
		s.hold(c)
	}
	return c
}

// find is Find for who does not touch the connection.
func (s *Shard) find(k Key, f *packet.Flow) *Conn {
	tag := tagOf(k.hash)
	for b := s.index.home(k.hash); ; b = s.index.next(b) {
		line := &s.index[b]
		for at := line.match(tag); at != 0; at &= at - 1 {
			if c := &s.conns[line.slot(at.first())-1]; s.has(c, k.kind, f) {
				return c
			}
		}
		if line.passed() == 0 {
			return nil
		}
	}
}

// has reports whether f is c's flow of kind d. That the tags agree is not
// enough: two flows of a bucket in 2^15 have the same.
func (s *Shard) has(c *Conn, d kind, f *packet.Flow) bool {
	b := &s.bindings[c.Binding()]
	if b.Proto != f.Proto {
		return false
	}
	if d == outbound { // a template has no local address, so it never matches
		return c.LocalPort == f.DstPort && s.locals[c.Local].Addr == f.Dst &&
			b.Real.Port == f.SrcPort && b.Real.Addr == f.Src
	}
	return c.ClientPort == f.SrcPort && c.Client == f.Src &&
		b.Virtual.Port == f.DstPort && b.Virtual.Addr == f.Dst &&
		c.isTemplate() == (d == template)
}

// SetState moves c to another state, and its deadline to timeout ms from now.
func (s *Shard) SetState(c *Conn, to State, timeout, now uint32) {
	latest := s.latest(c, c.due())
	was, is := c.State.HalfOpen(), to.HalfOpen()
	switch {
	case was && !is:
		s.leaveHalfOpen(c, latest)
	case is && !was:
		s.enterHalfOpen(c, now)
	}
	c.State = to
	c.Deadline = now + timeout
	at := c.due()
	if is {
		at = s.latest(c, at)
	}
	if before(at, latest) {
		s.reschedule(c)
	}
}

// MoveOn is SetState for who has only the latch of c, if nothing but c is concerned: it
// reports whether that is so.
func (c *Conn) MoveOn(to State, timeout, now uint32) bool {
	halfOpen := c.State.HalfOpen()
	if halfOpen != to.HalfOpen() {
		return false
	}
	if !c.Extend(timeout, now) {
		deadline := now + timeout
		if halfOpen || before(deadline+patience, c.seat(now)) {
			return false
		}
		c.Deadline = deadline
	}
	c.State = to
	return true
}

// Touch moves the deadline of c to timeout ms from now. Unless that is earlier
// than it was, it is one store.
func (s *Shard) Touch(c *Conn, timeout, now uint32) {
	if !c.Extend(timeout, now) {
		s.hasten(c, now+timeout)
	}
}

// Restart makes c a new connection of the same client, with the same real
// server and local port, in state to. What the packet path noted of the old one
// is cleared, except the next hops.
func (s *Shard) Restart(c *Conn, to State, timeout, now uint32) {
	if c.State.HalfOpen() {
		s.leaveHalfOpen(c, s.latest(c, c.due()))
		c.State = None
	}
	c.Flags = 0
	c.FirstData, c.RealSeq, c.RealAck = 0, 0, 0
	c.SeqDelta, c.AckDelta, c.TimestampDelta = 0, 0, 0
	s.SetState(c, to, timeout, now)
}

// Remove takes c out of the table and frees its port and its place. It returns
// a copy; c itself must not be used after.
func (s *Shard) Remove(c *Conn) Ended {
	e := s.drop(c)
	s.t.used.Add(-1)
	return e
}

// drop is Remove without giving the reservation back.
func (s *Shard) drop(c *Conn) Ended {
	e := Ended{c.Copy()}
	s.forget(c, s.hashes(c))
	return e
}

// forget is drop for a connection that is found by h, and of which no copy is wanted.
func (s *Shard) forget(c *Conn, h hashes) {
	slot, state := s.slot(c), c.State
	if state.HalfOpen() {
		s.leaveHalfOpen(c, 0)
	}
	s.unlist(c)
	c.State = None // first, as it is what makes a slot a connection: half removed is removed
	s.index.remove(h.in, slot)
	if state == Template {
		s.templates--
	} else {
		s.disclaim(c, slot, h.out)
		if s.counts(c.Binding()) {
			s.lower(h.in)
		}
	}
	s.refs[c.Binding()]--
	s.nodes.unlink(wheelNode(slot))
	c.become(&Conn{})
	if s.held == c {
		s.held = nil
	}
	s.freeSlot(slot)
}

// takeSlot returns an unused place. There must be one.
func (s *Shard) takeSlot() uint32 {
	s.live++
	if s.free == 0 {
		s.setFresh(s.fresh + 1)
		return s.fresh - 1
	}
	slot := s.free - 1
	s.free = s.nodes[wheelNode(slot)].next
	return slot
}

// freeSlot is the inverse of takeSlot. The place last freed is the first to be
// used again, as it is most likely still in the cache.
func (s *Shard) freeSlot(slot uint32) {
	s.live--
	s.nodes[wheelNode(slot)].next = s.free
	s.free = slot + 1
}

// full reports whether no place is unused.
func (s *Shard) full() bool { return s.live == len(s.conns) }
