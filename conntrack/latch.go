package conntrack

import (
	"runtime"
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/packet"
)

// A connection's latch is a bit of its own cache line. Whoever touches a connection has
// it: what goes by the shard, which locks the shard first, and a plain packet of an
// established connection, which needs nothing of the shard and does without its lock.
// Packets of one connection come to one worker, mostly, or to two, so the line is theirs;
// the shard's lock every worker writes, and it would go from one to the other with each
// packet. Who has only the latch never waits for anything, and holds it for well below a
// microsecond.

// latchBit is beyond every BindingID.
const latchBit = 1 << 31

// Binding returns the connection's BindingID.
func (c *Conn) Binding() BindingID { return BindingID(atomic.LoadUint32(&c.bound) &^ latchBit) }

// latch waits for the latch of c.
func (c *Conn) latch() {
	const spins = 100 // well over the time for which it is held, if its holder runs
	for i := 1; ; i++ {
		if bound := atomic.LoadUint32(&c.bound); bound&latchBit == 0 && atomic.CompareAndSwapUint32(&c.bound, bound, bound|latchBit) {
			return
		}
		if i%spins == 0 {
			runtime.Gosched()
		}
	}
}

// Release gives back the latch that catch has taken.
func (c *Conn) Release() { atomic.StoreUint32(&c.bound, uint32(c.Binding())) }

// Copy returns a copy of c, which is nobody's.
func (c *Conn) Copy() Conn {
	var d Conn
	d.become(c)
	d.bound &^= latchBit
	return d
}

// become makes c what d is, and latched if d is. The binding comes last, as it is what
// makes c worth a look for catch.
func (c *Conn) become(d *Conn) {
	c.Client, c.ClientPort, c.LocalPort = d.Client, d.ClientPort, d.LocalPort
	c.Local, c.State, c.Flags, c.Deadline = d.Local, d.State, d.Flags, d.Deadline
	c.SeqDelta, c.AckDelta, c.FirstData = d.SeqDelta, d.AckDelta, d.FirstData
	c.RealSeq, c.RealAck, c.TimestampDelta = d.RealSeq, d.RealAck, d.TimestampDelta
	c.HopGen, c.ToReal, c.ToClient, c.born = d.HopGen, d.ToReal, d.ToClient, d.born
	atomic.StoreUint32(&c.bound, atomic.LoadUint32(&d.bound))
}

// hold latches c until the shard is unlocked, or another connection is held. The caller
// has the shard locked.
func (s *Shard) hold(c *Conn) {
	if s.held != c {
		s.letGo()
		c.latch()
		s.held = c
	}
}

// letGo ends what hold began.
func (s *Shard) letGo() {
	if s.held != nil {
		s.held.Release()
		s.held = nil
	}
}

// CatchInbound returns the connection of a client's plain packet, latched, and its binding,
// if it is still where See saw it and nobody else has it: nil says nothing. Until
// Release the caller may use what of it is the packet path's, Extend, MoveOn and the table's
// Spare, but nothing that needs the shard: that may be had by Join, and its lock must not be
// taken otherwise.
func (t *Table) CatchInbound(at Hint, p *packet.Plain) (*Conn, *Binding) {
	c, b := t.catch(at)
	if c == nil {
		return nil, nil
	}
	ports, src, dst := uint32(c.ClientPort)<<16|uint32(b.Virtual.Port), &c.Client, &b.Virtual.Addr
	if p.Is6() && p.IsBetween6(src, dst) || !p.Is6() && p.IsBetween4(src, dst) {
		if ports == p.Ports && b.Proto == p.Proto && c.State != Template {
			return c, b
		}
	}
	c.Release()
	return nil, nil
}

// CatchOutbound is CatchInbound for a real server's packet. A template has no local
// address, so it is never returned.
func (t *Table) CatchOutbound(at Hint, p *packet.Plain) (*Conn, *Binding) {
	c, b := t.catch(at)
	if c == nil {
		return nil, nil
	}
	ports, src, dst := uint32(b.Real.Port)<<16|uint32(c.LocalPort), &b.Real.Addr, &t.locals[c.Local].Addr
	if p.Is6() && p.IsBetween6(src, dst) || !p.Is6() && p.IsBetween4(src, dst) {
		if ports == p.Ports && b.Proto == p.Proto {
			return c, b
		}
	}
	c.Release()
	return nil, nil
}

// catch returns the connection at a place, latched, and its binding, if there is one that
// nobody has. It must be inlined.
func (t *Table) catch(at Hint) (*Conn, *Binding) {
	if at == 0 {
		return nil, nil
	}
	c := &t.lines.conns[at]
	bound := atomic.LoadUint32(&c.bound) // an empty place has none
	if bound == 0 || bound&latchBit != 0 || !atomic.CompareAndSwapUint32(&c.bound, bound, bound|latchBit) {
		return nil, nil
	}
	return c, &t.bindings[bound].Binding
}

// Join locks the shard of c, which was caught by k, unless somebody has it
// locked: who has a latch does not wait. It returns nil then.
func (t *Table) Join(c *Conn, k Key) *Shard {
	s := &t.shards[k.shard]
	if !s.mu.TryLock() {
		return nil
	}
	s.held = c
	return s
}

// Leave ends what Join began. The connection stays the caller's until Release.
func (s *Shard) Leave() {
	s.held = nil
	s.mu.Unlock()
}

// Extend moves the deadline of c to timeout ms from now, unless that is earlier than it
// was, which is for the Shard's Touch to do.
func (c *Conn) Extend(timeout, now uint32) bool {
	deadline := now + timeout
	if before(deadline, c.Deadline) {
		return false
	}
	c.Deadline = deadline
	return true
}
