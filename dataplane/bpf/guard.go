package bpf

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/synproxy"
)

// A Guard protects a TCP service from a flood of SYNs. One that neither answers
// nor limits still bounds how many SYNs may wait in a ring, see SYNBudget.
type Guard struct {
	Offers [2]synproxy.Offer // what SYN-ACKs say, by the parity of the epoch
	Answer bool              // answer with a cookie on the spot, where that can be done
	Limit  uint16            // SYNs a second that one source (IPv6: its /64) may send; 0: any number
	Known  bool              // all its connections are counted: drop what is of none, see CountFlows
}

// bpf returns g as the program reads it.
func (g *Guard) bpf() (b xdpGuard) {
	for i, o := range g.Offers {
		half := &b.ByParity[i]
		half.Mss, half.Window, half.Scale, half.Limit = o.MSS, o.Window, o.Scale, g.Limit
		if g.Answer {
			half.Flags |= xdpGuardFlagGUARD_ANSWER
		}
		if g.Known {
			half.Flags |= xdpGuardFlagGUARD_KNOWN
		}
		if o.SACK {
			half.Flags |= xdpGuardFlagGUARD_SACK
		}
		if o.Timestamps {
			half.Flags |= xdpGuardFlagGUARD_TIMESTAMPS
		}
	}
	return b
}

// GuardCounts are what became of the SYNs to a guarded service, since it is. Those
// that were not answered, limited or shed were redirected.
type GuardCounts struct {
	SYNs     uint64 // all that came while somebody served their queues
	Answered uint64 // made a SYN-ACK
	Limited  uint64 // dropped: their source sends too many
	Shed     uint64 // dropped: too many wait in the ring
	BadACKs  uint64 // segments of no connection and without a good cookie, dropped
}

// guardSlots gives out the slots of the guards: a service keeps its own for as long
// as it is guarded. Slot 0 means no guard.
type guardSlots struct {
	of   map[ServiceKey]uint32
	idle []uint32 // the one that is idle for longest first
}

func newGuardSlots(room uint32) guardSlots {
	s := guardSlots{of: make(map[ServiceKey]uint32)}
	for slot := uint32(1); slot < room; slot++ {
		s.idle = append(s.idle, slot)
	}
	return s
}

// firstLook returns the slot where the program looks first for a service's guard: its
// first_look.
func firstLook(key ServiceKey) uint32 {
	const factor, shift = 0x9e3779b1, 20
	x := uint32(key.Virtual.Port)
	for word := range slices.Chunk(key.Virtual.Addr[:], 4) {
		x ^= binary.LittleEndian.Uint32(word)
	}
	return x * factor >> shift
}

// take returns the slot of the service's guard, or 0 if all are in use. One that has none
// gets that of its first look, if that is idle.
func (s *guardSlots) take(key ServiceKey) (slot uint32, fresh bool) {
	if slot := s.of[key]; slot != 0 {
		return slot, false
	}
	if len(s.idle) == 0 {
		return 0, false
	}
	at := max(slices.Index(s.idle, firstLook(key)), 0)
	slot = s.idle[at]
	s.idle = slices.Delete(s.idle, at, at+1)
	s.of[key] = slot
	return slot, true
}

// setGuardLocked writes the guard of a service, and returns its slot. The counters
// of a slot begin at zero when it is taken.
func (p *Program) setGuardLocked(key ServiceKey, g *Guard) (uint32, error) {
	if key.Proto != packet.ProtoTCP {
		return 0, fmt.Errorf("%s: only TCP has SYNs", key.Virtual)
	}
	slot, fresh := p.guards.take(key)
	if slot == 0 {
		return 0, fmt.Errorf("%s: the program has room for %d guards", key.Virtual, p.objs.Guards.MaxEntries()-1)
	}
	if fresh {
		cpus, err := ebpf.PossibleCPU()
		if err != nil {
			return 0, err
		}
		if err := p.objs.GuardCounts.Put(slot, make([]xdpGuardCounters, cpus)); err != nil {
			return 0, err
		}
	}
	b := g.bpf()
	if p.services.have[key.bpf()] == slot { // else that of no service yet
		b.At = key.bpf()
	}
	return slot, p.objs.Guards.Put(slot, b)
}

// keepGuardsLocked takes off the guards of services that have none any more.
func (p *Program) keepGuardsLocked(services map[ServiceKey]*Guard) error {
	for key, slot := range p.guards.of {
		if services[key] != nil {
			continue
		}
		if err := p.objs.Guards.Put(slot, xdpGuard{}); err != nil {
			return err
		}
		delete(p.guards.of, key)
		p.guards.idle = append(p.guards.idle, slot)
	}
	return nil
}

// SetGuard changes the guard of a service that has one. Its counters go on.
func (p *Program) SetGuard(key ServiceKey, g *Guard) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.guards.of[key] == 0 {
		return fmt.Errorf("xdp program: guard of %s: the service has none", key.Virtual)
	}
	if _, err := p.setGuardLocked(key, g); err != nil {
		return fmt.Errorf("xdp program: guard of %w", err)
	}
	return nil
}

// GuardCounts returns the counters of a service's guard, summed over all CPUs; zero
// if it has none.
func (p *Program) GuardCounts(key ServiceKey) (sum GuardCounts, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := p.guards.of[key]
	if slot == 0 {
		return sum, nil
	}
	var perCPU []xdpGuardCounters
	if err := p.objs.GuardCounts.Lookup(slot, &perCPU); err != nil {
		return sum, fmt.Errorf("xdp program: counters of the guard of %s: %w", key.Virtual, err)
	}
	for _, n := range perCPU {
		sum.SYNs += n.Syns
		sum.Answered += n.Answered
		sum.Limited += n.Limited
		sum.Shed += n.Shed
		sum.BadACKs += n.BadAcks
	}
	return sum, nil
}
