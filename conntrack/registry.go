package conntrack

import (
	"fmt"
	"slices"
	"sync"

	"github.com/fnatd/fnatd/internal/packet"
)

// A BindingID stands for a Binding in connections. Zero is none.
type BindingID uint32

// A LocalID stands for a Local in connections. Zero is none.
type LocalID uint16

// A Binding is one real server as one service uses it.
type Binding struct {
	Proto         uint8
	Virtual, Real packet.Endpoint
}

// A Local is a local address and the range of its ports that connections may
// use. The address identifies it; the range may change, see AddLocal.
type Local struct {
	Addr             packet.Addr
	PortMin, PortMax uint16
}

// How many IDs there are, the unused zero included: our choice, 4 MiB and 128 KiB
// of which only what is used becomes real memory.
const (
	maxBindings = 1 << 16
	maxLocals   = 1 << 12
)

// A bindingEntry is one cache line and all that a rewrite needs besides the
// connection, in either direction.
type bindingEntry struct {
	Binding
	real uint64 // hash of protocol and real server, not zero: the same for all that share it
	sum  uint64 // checksum, not zero
	_    [8]byte
}

// A localEntry is a Local that does not cross a cache line.
type localEntry struct {
	Local
	sum uint64 // checksum of the address, not zero: the range may change
}

// A registry gives out the IDs. Its lock orders the calls of the control path
// among themselves; whoever holds it may lock shards, one at a time. The packet
// path never takes it.
type registry struct {
	mu       sync.Mutex
	bindings ids[Binding]
	locals   ids[packet.Addr]
}

func newRegistry() registry {
	return registry{bindings: newIDs[Binding](maxBindings), locals: newIDs[packet.Addr](maxLocals)}
}

// ids gives out small numbers for keys, 1 up to limit. A number returns to a new
// key when nobody holds it and no connection refers to it.
type ids[K comparable] struct {
	byKey map[K]int
	keys  []K   // by number
	holds []int // by number
	idle  []int // numbers that nobody holds, longest first
	limit int
}

func newIDs[K comparable](limit int) ids[K] {
	return ids[K]{byKey: map[K]int{}, keys: make([]K, 1), holds: make([]int, 1), limit: limit}
}

// hold returns the number of key k, if it has one, and counts one more holder.
func (d *ids[K]) hold(k K) (id int, ok bool) {
	id, ok = d.byKey[k]
	if !ok {
		return 0, false
	}
	if d.holds[id] == 0 {
		d.idle = slices.DeleteFunc(d.idle, func(i int) bool { return i == id })
	}
	d.holds[id]++
	return id, true
}

// add gives key k, which has none, a number, and counts its first holder. Unless reuse
// is wanted it is one that was never used, as long as there are such.
func (d *ids[K]) add(k K, reuse bool, inUse func(id int) bool) (id int, ok bool) {
	idle := d.idle
	if !reuse && len(d.keys) < d.limit {
		idle = nil
	}
	for i, old := range idle {
		if !inUse(old) {
			d.idle = slices.Delete(d.idle, i, i+1)
			delete(d.byKey, d.keys[old])
			d.byKey[k], d.keys[old], d.holds[old] = old, k, 1
			return old, true
		}
	}
	if len(d.keys) == d.limit {
		return 0, false
	}
	id = len(d.keys)
	d.byKey[k], d.keys, d.holds = id, append(d.keys, k), append(d.holds, 1)
	return id, true
}

// release counts one holder less.
func (d *ids[K]) release(id int) {
	if d.holds[id]--; d.holds[id] == 0 {
		d.idle = append(d.idle, id)
	}
}

// Bind returns the ID of b, always the same while anyone holds it or a
// connection refers to it. Each Bind is to be matched by an Unbind.
func (t *Table) Bind(b Binding) (BindingID, error) {
	r := &t.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if id, ok := r.bindings.hold(b); ok {
		return BindingID(id), nil
	}
	id, ok := r.bindings.add(b, t.adopting.isRead(), t.bindingInUse)
	if !ok {
		return 0, fmt.Errorf("real server %v of %v: all %d places for real servers are taken",
			b.Real, b.Virtual, maxBindings-1)
	}
	t.bindings[id] = t.bindingEntry(b)
	t.eachUnread(func(s *Shard) {
		for len(s.refs) <= id {
			s.refs = append(s.refs, 0)
		}
	})
	return BindingID(id), nil
}

// Unbind takes back one Bind. When all are, no new connection may be inserted
// with id, and it may stand for another Binding once the last one has ended; so
// the caller first waits until no worker can see a Table that has it.
func (t *Table) Unbind(id BindingID) {
	t.registry.mu.Lock()
	defer t.registry.mu.Unlock()
	t.registry.bindings.release(int(id))
}

// Binding returns what id stands for. It takes no lock. The result is not to be
// changed, and holds while the ID is in use.
func (t *Table) Binding(id BindingID) *Binding { return &t.bindings[id].Binding }

func (t *Table) bindingInUse(id int) bool {
	refs := 0
	t.eachShard(func(s *Shard) { refs += int(s.refs[id]) })
	return refs > 0
}

// eachShard calls f with each shard, locked.
func (t *Table) eachShard(f func(*Shard)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.lock()
		f(s)
		s.Unlock()
	}
}

// eachUnread is eachShard that does not have the shards read; see Open.
func (t *Table) eachUnread(f func(*Shard)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		f(s)
		s.Unlock()
	}
}

func (t *Table) bindingEntry(b Binding) bindingEntry {
	real := packet.Flow{Src: b.Real.Addr, SrcPort: b.Real.Port, Proto: b.Proto}
	all := packet.Flow{Src: b.Real.Addr, SrcPort: b.Real.Port, Dst: b.Virtual.Addr, DstPort: b.Virtual.Port, Proto: b.Proto}
	return bindingEntry{Binding: b, real: t.hash(&real, outbound) | 1, sum: t.hash(&all, entry) | 1}
}

func (t *Table) localSum(a packet.Addr) uint64 {
	return t.hash(&packet.Flow{Src: a, Dst: a}, entry) | 1
}

// adoptRegistry takes over the entries that another process has made, none of them
// held, and clears those that are damaged, whose number it returns.
func (t *Table) adoptRegistry() (damaged int) {
	r := &t.registry
	for id := 1; id < maxBindings; id++ {
		b := &t.bindings[id]
		if b.empty() {
			continue
		}
		switch sound := t.bindingEntry(b.Binding); {
		case b.sum != sound.sum || !r.bindings.adopt(id, b.Binding):
			*b = bindingEntry{}
			damaged++
		case b.real != sound.real:
			*b = sound
		}
	}
	for id := 1; id < maxLocals; id++ {
		switch l := &t.locals[id]; {
		case *l == localEntry{}:
		case l.sum != t.localSum(l.Addr) || !r.locals.adopt(id, l.Addr):
			*l = localEntry{}
			damaged++
		default:
			if t.checkRange(l.Local) != nil {
				l.PortMin, l.PortMax = 1, 65535 // until AddLocal says what it is
			}
		}
	}
	t.adopting.bindings = len(r.bindings.keys)
	t.adopting.locals = make([]Local, len(r.locals.keys))
	for id := range t.adopting.locals {
		t.adopting.locals[id] = t.locals[id].Local
	}
	return damaged
}

// adopt gives key k, which must have none, the number id, with no holder. Numbers that
// are passed over can be given out like any that nobody holds.
func (d *ids[K]) adopt(id int, k K) bool {
	if _, twice := d.byKey[k]; twice {
		return false
	}
	for len(d.keys) <= id {
		d.idle = append(d.idle, len(d.keys))
		d.keys, d.holds = append(d.keys, *new(K)), append(d.holds, 0)
	}
	d.byKey[k], d.keys[id] = id, k
	return true
}
