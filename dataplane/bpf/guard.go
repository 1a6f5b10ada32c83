package bpf

import (
	"fmt"

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
	free []uint32 // given back, the one that is idle for longest first
	next uint32   // the first that was never used
}

// take returns the slot of the service's guard, fresh if it had none, or 0 if all are
// in use.
func (s *guardSlots) take(key ServiceKey, room uint32) (slot uint32, fresh bool) {
	if slot := s.of[key]; slot != 0 {
		return slot, false
	}
	switch {
	case s.next < room: // before any is used again
		slot = s.next
		s.next++
	case len(s.free) > 0:
		slot, s.free = s.free[0], s.free[1:]
	default:
		return 0, false
	}
	s.of[key] = slot
	return slot, true
}

// keep gives back the slots of services that are not guarded any more.
func (s *guardSlots) keep(services map[ServiceKey]*Guard) {
	for key, slot := range s.of {
		if services[key] == nil {
			delete(s.of, key)
			s.free = append(s.free, slot)
		}
	}
}

// setGuardLocked writes the guard of a service, and returns its slot. The counters
// of a slot begin at zero when it is taken, which is long after the last packet that
// could count for its former service.
func (p *Program) setGuardLocked(key ServiceKey, g *Guard) (uint32, error) {
	if key.Proto != packet.ProtoTCP {
		return 0, fmt.Errorf("%s: only TCP has SYNs", key.Virtual)
	}
	slot, fresh := p.guards.take(key, p.objs.Guards.MaxEntries())
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
	return slot, p.objs.Guards.Put(slot, g.bpf())
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
