package sched

import (
	"fmt"
	"net/netip"
	"strings"
)

// Explain returns what Pick would for c's next connection, and says why. It takes
// nobody's turn: it may be asked at any time, and changes nothing.
func (s *Scheduler) Explain(c Client) (server int, why string) {
	switch a := s.algorithm.(type) {
	case *roundRobin:
		return a.explain()
	case *least:
		return a.pick(c), a.explain()
	case *hashed:
		return a.explain(c)
	case *fixed:
		return a.pick(c), "a hash of the virtual address, which is the same for all clients"
	case *failover:
		return a.pick(c), "the highest weight of those that are available"
	case *overflow:
		return a.pick(c), "the highest weight of those with fewer active connections than their weight"
	}
	return s.Pick(c), s.spec.Name
}

// explain says whose the next turn is; whoever comes first has it.
func (r *roundRobin) explain() (int, string) {
	if r.total == 0 {
		return -1, "all weights are 0"
	}
	i := r.holder(r.cursors.next.Load())
	if r.servers[i].Available() {
		return i, "its is the next turn"
	}
	why := fmt.Sprintf("the next turn is that of %s, which is overloaded, and goes to another by weight", r.servers[i].name())
	turn, last := r.cursors.spill.Load(), -1
	var total uint64
	for i := range r.servers {
		if r.servers[i].Available() {
			total, last = total+r.weight(i), i
		}
	}
	if total == 0 {
		return -1, why
	}
	turn %= total
	for i := range r.servers {
		if !r.servers[i].Available() {
			continue
		}
		if turn < r.weight(i) {
			return i, why
		}
		turn -= r.weight(i)
	}
	return last, why
}

// maxCosts is how many servers' costs are shown.
const maxCosts = 8

// explain shows the costs that are compared.
func (l *least) explain() string {
	rule := "the lowest connections"
	switch {
	case l.idle:
		rule = "the first without active connections, or else the lowest (active + 1)"
	case l.expected:
		rule = "the lowest (active + 1)"
	case l.weighted:
		rule = "the lowest (256 active + inactive)"
	}
	if l.weighted {
		rule += " / weight"
	}
	var costs []string
	for i := range l.servers {
		s := &l.servers[i]
		if len(costs) == maxCosts {
			costs = append(costs, "…")
			break
		}
		if !s.Available() {
			continue
		}
		cost := fmt.Sprintf("%s %d", s.name(), l.cost(s.Load))
		if l.weighted {
			cost += fmt.Sprintf("/%d", s.Weight)
		}
		costs = append(costs, cost)
	}
	return rule + " of " + strings.Join(costs, ", ")
}

func (h *hashed) explain(c Client) (int, string) {
	if len(h.slots) == 0 {
		return -1, "all weights are 0"
	}
	what := "the client's address"
	if h.port {
		what += " and port"
	}
	own := h.slot(h.hash(c))
	why := fmt.Sprintf("a hash of %s", what)
	if h.servers[own].Available() {
		return own, why
	}
	why += fmt.Sprintf(" leads to %s, which is overloaded", h.servers[own].name())
	if !h.fallback {
		return -1, why + "; without fallback no other takes its place"
	}
	return h.pick(c), why + "; the hash of that leads on"
}

func (s *Server) name() string {
	return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), s.Port).String()
}
