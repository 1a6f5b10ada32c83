package conntrack

import "fmt"

// checkWheel sees that each connection is in the wheel once, and not later than
// it is due.
func (s *Shard) checkWheel() error {
	seen := 0
	for i := uint32(0); i < wheelSize; i++ {
		at := s.cursor + i*tick
		head := s.wheelHead(at)
		for n := s.nodes[head].next; n != head; n = s.nodes[n].next {
			c := &s.conns[slotOf(n)]
			if seen++; seen > s.live || c.State == None || n != wheelNode(slotOf(n)) {
				return fmt.Errorf("wheel: node %d does not belong there", n)
			}
			if i == 0 {
				continue // overdue, it may be
			}
			if before(c.due()+patience, at) {
				return fmt.Errorf("wheel: slot %d is due at %d, but lies at %d", slotOf(n), c.due(), at)
			}
			if latest := s.latest(c, c.due()); before(latest, at) {
				return fmt.Errorf("wheel: slot %d is believed to lie at %d or before, but lies at %d", slotOf(n), latest, at)
			}
		}
	}
	if seen != s.live {
		return fmt.Errorf("wheel: holds %d connections of %d", seen, s.live)
	}
	return nil
}

// clockSkew, in ticks, is how far one worker's time may be behind another's, as
// each reads the clock once a batch.
const clockSkew = 8

// checkHalfOpen sees that the half-open list holds the half-open connections, and those that
// linger, in the order of their age, and that none is older than is told.
func (s *Shard) checkHalfOpen() error {
	halfOpen, want := 0, 0
	for i := range s.conns[:s.fresh] {
		c := &s.conns[i]
		if c.State.HalfOpen() {
			halfOpen++
		}
		if c.State.HalfOpen() || c.born&lingers != 0 {
			want++
		}
	}
	seen, head := 0, s.halfHead()
	for n := s.nodes[head].next; n != head; n = s.nodes[n].next {
		c := &s.conns[slotOf(n)]
		if seen++; seen > want || c.State.HalfOpen() == (c.born&lingers != 0) || n != halfNode(slotOf(n)) {
			return fmt.Errorf("half-open list: node %d does not belong there", n)
		}
		if next := s.nodes[n].next; next != head && ticksFrom(c.born, s.conns[slotOf(next)].born) < -clockSkew {
			return fmt.Errorf("half-open list: slot %d is younger than the next", slotOf(n))
		}
	}
	if seen != want || s.halfOpen != halfOpen {
		return fmt.Errorf("half-open: %d connections, but %d counted, and %d with those that linger, but %d in the list",
			halfOpen, s.halfOpen, want, seen)
	}
	told := s.t.oldest[s.number].Load()
	if c := s.oldestListed(); c != nil && (told == bornNone || ticksFrom(uint16(told), c.born) < -clockSkew) {
		return fmt.Errorf("half-open: oldest told as %#x, is of %#x", told, c.born)
	}
	return nil
}

// A use is one connection's claim on a local port.
type use struct {
	local LocalID
	port  int
	real  uint64
}

// checkPorts compares every count and bit of the port sets with the connections.
func (s *Shard) checkPorts() error {
	uses := map[use]bool{}
	counts := make([][]uint16, len(s.ports))
	for id, p := range s.ports[1:] {
		counts[id+1] = make([]uint16, len(p.more))
	}
	for i := range s.conns[:s.fresh] {
		c := &s.conns[i]
		if c.State == None || c.State == Template {
			continue
		}
		if c.Local == 0 || int(c.Local) >= len(counts) {
			return fmt.Errorf("slot %d: no local address %d", i, c.Local)
		}
		u := use{c.Local, s.portIndex(c.LocalPort), s.bindings[c.Binding()].real}
		if uses[u] {
			return fmt.Errorf("slot %d: local port %d is used twice toward one real server", i, c.LocalPort)
		}
		uses[u] = true
		counts[c.Local][u.port]++
	}
	for id := 1; id < len(s.ports); id++ {
		if err := s.ports[id].check(LocalID(id), counts[id], uses); err != nil {
			return fmt.Errorf("local %v: %w", s.locals[id].Addr, err)
		}
	}
	return nil
}

// check compares p, the ports of local id, with the counts of connections by
// port and with all claims.
func (p *portSet) check(id LocalID, counts []uint16, uses map[use]bool) error {
	var conns, inUse int32
	free := 0
	for i, n := range counts {
		used := p.used[i/64]>>(i%64)&1 == 1
		switch idle := n == 0 && p.lo <= i && i < p.hi; {
		case used != (n > 0):
			return fmt.Errorf("port number %d: %d connections, but marked otherwise", i, n)
		case p.more[i] != max(n, 1)-1:
			return fmt.Errorf("port number %d: %d connections beyond the first, but counted %d", i, n-1, p.more[i])
		case idle != (p.idle(i/64)>>(i%64)&1 == 1):
			return fmt.Errorf("port number %d: idle is %v, but told otherwise", i, idle)
		case idle:
			free++
		case used:
			conns += int32(n)
			inUse++
		}
	}
	if conns != p.conns || inUse != p.inUse || free != p.free {
		return fmt.Errorf("%d connections, %d ports in use, %d free, but counted %d, %d, %d",
			conns, inUse, free, p.conns, p.inUse, p.free)
	}
	for _, real := range p.full {
		for i := p.lo; real != 0 && i < p.hi; i++ {
			if !uses[use{id, i, real}] {
				return fmt.Errorf("port number %d is usable toward a server thought full", i)
			}
		}
	}
	return nil
}
