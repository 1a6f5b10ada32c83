package conntrack

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/fnatd/fnatd/internal/packet"
)

// A Fault is why a connection of an adopted table was not kept. Its String is its
// label in metrics.
type Fault uint8

// The faults.
const (
	Sound     Fault = iota
	Damaged         // its fields contradict each other, or lie in the wrong shard
	Unlisted        // the index does not lead to it
	NoBinding       // the registry does not have its real server
	NoLocal         // the registry does not have its local address
	Repeated        // another connection has the same flow
	NumFaults
)

var faultNames = [NumFaults]string{
	Sound: "sound", Damaged: "damaged", Unlisted: "unlisted", NoBinding: "no_real_server", NoLocal: "no_local_address", Repeated: "repeated",
}

func (f Fault) String() string { return faultNames[f] }

// An Adoption is what Adopt found.
type Adoption struct {
	Kept    int            // connections, and templates
	Undone  int            // changes that were under way, and were taken back
	Dropped [NumFaults]int // what was not kept, by why
	Entries int            // of the registry, damaged
}

// Lost returns the sum of what was not kept.
func (a *Adoption) Lost() (n int) {
	for _, dropped := range a.Dropped {
		n += dropped
	}
	return n
}

func (a *Adoption) add(b *Adoption) {
	a.Kept += b.Kept
	a.Undone += b.Undone
	for why, n := range b.Dropped {
		a.Dropped[why] += n
	}
}

// Adopt returns the table that another process has left in mem, which must be
// aligned to a cache line. The process may have ended at any instruction. What Conns
// and the registry say is believed as far as it agrees with itself and with the
// index; all else is made anew from them. An error says that there is no table in
// mem that can be read, and nothing has changed.
//
// Nothing of the table is held: all bindings and local addresses are as after the
// last Unbind and RemoveLocal.
func Adopt(mem []byte) (*Table, *Adoption, error) {
	t, err := Open(mem)
	if err != nil {
		return nil, nil, err
	}
	return t, t.Finish(runtime.NumCPU()), nil
}

// headerOf returns the header at the front of mem.
func headerOf(mem []byte) (*header, error) {
	if len(mem) < cacheLine {
		return nil, fmt.Errorf("connection table: %d bytes are too few", len(mem))
	}
	h, _ := carve[header](mem, 1)
	return &h[0], nil
}

// adopt makes the shard out of the connections that are in it. hashes is for its
// use.
func (s *Shard) adopt(now uint32, hashes [][2]uint64) (found Adoption) {
	found.Undone = s.undo()
	undone := s.mark.changing.Load()
	// What was made anew once had been judged before, and the index may be half made.
	judged := s.mark.rebuilding.Load() == 1
	for slot := range s.everUsed() {
		c := &s.conns[slot]
		if *c == (Conn{}) {
			continue
		}
		if c.bound&latchBit != 0 { // whoever had it is dead
			c.bound &^= latchBit
		}
		if c.State == None { // half inserted, or half removed
			*c = Conn{}
			continue
		}
		listed := !judged && uint32(slot)+1 != undone
		if why := s.judge(uint32(slot), &hashes[slot], listed); why != Sound {
			found.Dropped[why]++
			*c = Conn{}
		}
	}
	s.mark.rebuilding.Store(1)
	s.mark.changing.Store(0)
	found.Dropped[Repeated] += s.rebuild(now, hashes)
	s.mark.rebuilding.Store(0)
	found.Kept = s.live
	return found
}

// undo takes back the change that was under way.
func (s *Shard) undo() int {
	slot := s.mark.changing.Load()
	if slot == 0 {
		return 0
	}
	if int(slot) > len(s.conns) {
		s.mark.changing.Store(0)
		return 0
	}
	s.conns[slot-1] = s.mark.before
	return 1
}

// judge looks whether the connection in a slot can be believed, and sets the hashes of
// its flows. If it should be listed, the index must lead to it by both.
func (s *Shard) judge(slot uint32, hashes *[2]uint64, listed bool) Fault {
	c := &s.conns[slot]
	if c.State >= NumStates || c.Binding() == 0 || int(c.Binding()) >= len(s.bindings) {
		return Damaged
	}
	b := &s.bindings[c.Binding()]
	if b.real == 0 || int(c.Binding()) >= s.t.adopting.bindings {
		return NoBinding
	}
	if c.State == Template {
		k := s.t.TemplateKey(b.Proto, c.Client, b.Virtual)
		if hashes[0] = k.hash; k.shard != s.number || c.ClientPort != 0 || !c.isTemplate() {
			return Damaged
		}
		if listed && !s.index.leads(k.hash, slot) {
			return Unlisted
		}
		return Sound
	}
	if int(c.Local) >= len(s.t.adopting.locals) || s.locals[c.Local].sum == 0 {
		return NoLocal
	}
	if c.State.isUDP() != (b.Proto == packet.ProtoUDP) || c.Client.Is4() != b.Virtual.Addr.Is4() ||
		s.locals[c.Local].Addr.Is4() != b.Real.Addr.Is4() || uint32(c.LocalPort)&s.t.shardMask != s.number {
		return Damaged
	}
	in, out := s.t.InboundFlow(c), s.t.OutboundFlow(c)
	k := s.t.InboundKey(&in)
	hashes[0], hashes[1] = k.hash, s.t.hash(&out, outbound)
	if k.shard != s.number {
		return Damaged
	}
	if listed && !(s.index.leads(k.hash, slot) && s.index.leads(hashes[1], slot)) {
		return Unlisted
	}
	return Sound
}

// maxPassed bounds how far from its home an entry is looked for in an index that may
// be damaged; in a sound one none is nearly so far away.
const maxPassed = 64

// leads reports whether x has an entry.
func (x index) leads(h uint64, slot uint32) bool {
	b := x.home(h)
	for range min(maxPassed, len(x)) {
		if _, ok := x[b].find(h, slot); ok {
			return true
		}
		if x[b].passed() == 0 {
			return false
		}
		b = x.next(b)
	}
	return false
}

// rebuild makes everything of the shard but its connections, all of which are sound. It
// removes those whose flow another has, and returns how many.
func (s *Shard) rebuild(now uint32, hashes [][2]uint64) (repeated int) {
	for b := range s.index { // what is empty stays untouched, and its page clean
		if l := &s.index[b]; *l != (bucket{}) {
			*l = bucket{}
		}
	}
	s.resetHeads()
	s.cursor = now &^ (tick - 1)
	var half []uint32
	fresh := uint32(0)
	for slot := range s.everUsed() {
		c := &s.conns[slot]
		if c.State == None {
			continue
		}
		if !s.enlist(uint32(slot), &hashes[slot], now) {
			*c = Conn{}
			repeated++
			continue
		}
		c.HopGen, c.ToReal, c.ToClient = 0, 0, 0 // of another process's routes
		if c.State.HalfOpen() {
			half = append(half, uint32(slot))
		}
		fresh = uint32(slot) + 1
	}
	s.setFresh(fresh)
	s.linkHalfOpen(half, now)
	for slot := int(s.fresh) - 1; slot >= 0; slot-- {
		if s.conns[slot].State == None {
			s.nodes[wheelNode(uint32(slot))].next = s.free
			s.free = uint32(slot) + 1
		}
	}
	return repeated
}

// timely reports whether a time can be a deadline. What is half round the clock away
// is neither before nor after now, and a timer of it would never be done.
func timely(at, now uint32) bool {
	const slack = 1 << 26 // 18 hours
	return at-now+slack < 1<<31
}

// enlist puts the connection in a slot into the index and the wheel, and counts it. It
// reports false if another one has one of its flows.
func (s *Shard) enlist(slot uint32, hashes *[2]uint64, now uint32) bool {
	c := &s.conns[slot]
	if c.State == Template {
		b := &s.bindings[c.Binding()]
		f := packet.Flow{Src: c.Client, Dst: b.Virtual.Addr, DstPort: b.Virtual.Port, Proto: b.Proto}
		if s.find(Key{hashes[0], s.number, template}, &f) != nil {
			return false
		}
		s.index.insert(hashes[0], slot)
		s.templates++
	} else {
		in, out := s.t.InboundFlow(c), s.t.OutboundFlow(c)
		if s.find(Key{hashes[0], s.number, inbound}, &in) != nil || s.find(Key{hashes[1], s.number, outbound}, &out) != nil {
			return false
		}
		s.index.insert(hashes[0], slot)
		s.index.insert(hashes[1], slot)
		s.ports[c.Local].keep(s.portIndex(c.LocalPort))
	}
	s.live++
	s.refs[c.Binding()]++
	if !timely(c.Deadline, now) {
		c.Deadline = now
	}
	if c.State.isUDP() && c.SeqDelta != 0 && !timely(c.SeqDelta, now) {
		c.SeqDelta = max(now, 1)
	}
	if c.born &^= lingers; c.State.HalfOpen() && ticksFrom(c.born, ticksOf(now)) < 0 { // ages compare no more: see oldestShard
		c.born = ticksOf(now)
	}
	s.nodes.reset(wheelNode(slot))
	s.schedule(slot)
	return true
}

// linkHalfOpen makes the list of the half-open connections, which are in these slots.
func (s *Shard) linkHalfOpen(slots []uint32, now uint32) {
	age := func(slot uint32) int32 { return ticksFrom(s.conns[slot].born, ticksOf(now)) }
	slices.SortStableFunc(slots, func(a, b uint32) int { return int(age(b)) - int(age(a)) })
	for _, slot := range slots {
		s.nodes.reset(halfNode(slot))
		s.nodes.pushBack(s.halfHead(), halfNode(slot))
	}
	s.halfOpen = len(slots)
	s.tellOldest()
}
