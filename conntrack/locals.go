package conntrack

import (
	"fmt"

	"github.com/fnatd/fnatd/internal/packet"
)

// AddLocal returns the ID of the local address of l, under the same rules as
// Bind; RemoveLocal is the match. If the address is there already with another
// range of ports, it gets the new one at once: connections on ports outside it
// keep them.
func (t *Table) AddLocal(l Local) (LocalID, error) {
	if err := t.checkRange(l); err != nil {
		return 0, err
	}
	r := &t.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.locals.hold(l.Addr)
	if !ok {
		if id, ok = r.locals.add(l.Addr, t.adopting.isRead(), t.localInUse); !ok {
			return 0, fmt.Errorf("local address %v: all %d places for local addresses are taken",
				l.Addr, maxLocals-1)
		}
	}
	entry := &t.locals[id]
	if entry.Local == l {
		return LocalID(id), nil
	}
	if entry.Addr != l.Addr { // else workers may be reading it
		entry.Addr, entry.sum = l.Addr, t.localSum(l.Addr)
	}
	entry.PortMin, entry.PortMax = l.PortMin, l.PortMax
	t.eachUnread(func(s *Shard) {
		s.makeRoom()
		s.setLocal(id, l)
	})
	return LocalID(id), nil
}

// RemoveLocal takes back one AddLocal, as Unbind does for Bind.
func (t *Table) RemoveLocal(id LocalID) {
	t.registry.mu.Lock()
	defer t.registry.mu.Unlock()
	t.registry.locals.release(int(id))
}

// Local returns what id stands for. It takes no lock. The address holds while
// the ID is in use; the range may be changed by AddLocal and is not for the
// packet path to read.
func (t *Table) Local(id LocalID) *Local { return &t.locals[id].Local }

// KnownLocals returns the local addresses that have an ID, held or not.
func (t *Table) KnownLocals() (all []packet.Addr) {
	r := &t.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	for a := range r.locals.byKey {
		all = append(all, a)
	}
	return all
}

// checkRange refuses a range that leaves a shard without ports: clients whose
// flows hash there would never be served.
func (t *Table) checkRange(l Local) error {
	if l.PortMin == 0 || l.PortMax < l.PortMin {
		return fmt.Errorf("local address %v: ports %d-%d: not a range", l.Addr, l.PortMin, l.PortMax)
	}
	if n := int(l.PortMax) - int(l.PortMin) + 1; n < len(t.shards) {
		return fmt.Errorf("local address %v: ports %d-%d: want at least %d ports, one for each shard of the table",
			l.Addr, l.PortMin, l.PortMax, len(t.shards))
	}
	return nil
}

func (t *Table) localInUse(id int) bool {
	conns := 0
	t.eachShard(func(s *Shard) { conns += int(s.ports[id].conns) })
	return conns > 0
}

// makeRoom gives the shard counts and ports for what the registry had when the table was
// adopted. Not before they are needed: of hundreds of addresses they are megabytes.
func (s *Shard) makeRoom() {
	a := &s.t.adopting
	if len(s.refs) < a.bindings {
		s.refs = append(s.refs, make([]uint32, a.bindings-len(s.refs))...)
	}
	for id := len(s.ports); id < len(a.locals); id++ {
		s.setLocal(id, a.locals[id])
	}
}

// setLocal gives the shard its share of the ports of l.
func (s *Shard) setLocal(id int, l Local) {
	for len(s.ports) <= id {
		s.ports = append(s.ports, newPortSet(1<<16>>s.bits))
	}
	shards, number := 1<<s.bits, int(s.number)
	first := func(port int) int { return (port - number + shards - 1) >> s.bits } // of the shard, from port on
	s.ports[id].setRange(first(int(l.PortMin)), first(int(l.PortMax)+1))
}
