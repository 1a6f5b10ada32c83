package conntrack

import (
	"github.com/fnatd/fnatd/internal/prefetch"
	"github.com/fnatd/fnatd/internal/siphash"
)

// foreseen is how many connections are removed together. Our choice: few enough for what
// is loaded for them to stay in the first-level cache.
const foreseen = 16

// ends are connections whose time has come most likely. Nothing of them has been touched
// for as long as they waited, so what it takes to remove one is loaded while the others
// are looked at, and what leads to them is hashed for all of them together.
type ends struct {
	n           int
	slots       [foreseen]uint32
	addrs, rest [2 * foreseen]uint64 // of both flows of each, see Table.hash
	hash        [2 * foreseen]uint64
	lines       prefetch.Lines
}

// of returns what the i-th connection is found by.
func (e *ends) of(i int) hashes { return hashes{e.hash[2*i], e.hash[2*i+1]} }

// foresee makes e the first connections of a list of s, limit of them at most.
func (e *ends) foresee(s *Shard, head uint32, limit int) {
	e.n = 0
	for at := s.nodes[head].next; at != head && e.n < min(foreseen, limit); at = s.nodes[at].next {
		e.slots[e.n] = slotOf(at)
		prefetch.Add(&e.lines, &s.conns[slotOf(at)])
		e.n++
	}
	e.lines.Load()
	others := 0 // bits of those that are not of IPv4
	for i, slot := range e.slots[:e.n] {
		c := &s.conns[slot]
		b := &s.bindings[c.Binding()]
		e.rest[2*i] = restOf(c.ClientPort, b.Virtual.Port, b.Proto, inbound)
		e.rest[2*i+1] = restOf(b.Real.Port, c.LocalPort, b.Proto, outbound)
		var in4, out4 bool
		e.addrs[2*i], in4 = addrsOf(&c.Client, &b.Virtual.Addr)
		e.addrs[2*i+1], out4 = addrsOf(&b.Real.Addr, &s.locals[c.Local].Addr)
		if !in4 || !out4 || c.isTemplate() {
			others |= 1 << i
		}
		s.ports[c.Local].foresee(&e.lines) // a template has none
	}
	e.lines.Load()
	all := siphash.Round(2 * e.n) // of which the last may be of nobody any more
	s.t.key.Sums2(e.hash[:all], e.addrs[:all], e.rest[:all])
	for i, slot := range e.slots[:e.n] {
		c := &s.conns[slot]
		if others>>i&1 != 0 {
			h := s.hashes(c)
			e.hash[2*i], e.hash[2*i+1] = h.in, h.out
		}
	}
	for i := range min(e.n, endsAhead) {
		e.ask(s, i)
	}
}

// endsAhead is Ahead for connections that are removed: each takes several lines.
const endsAhead = 6

// ask begins to load what removing the i-th connection takes, if there is one.
func (e *ends) ask(s *Shard, i int) {
	if i < e.n {
		c := &s.conns[e.slots[i]]
		prefetch.Add(&e.lines, &s.index[s.index.home(e.hash[2*i])])
		if !c.isTemplate() {
			prefetch.Add(&e.lines, &s.index[s.index.home(e.hash[2*i+1])])
			s.ports[c.Local].foreseePort(&e.lines, s.portIndex(c.LocalPort))
			if s.counts(c.Binding()) {
				prefetch.Line(s.place(e.hash[2*i]))
			}
		}
		e.lines.Load()
	}
}

// hashes are what a connection is found by: those of its two flows, or a template's of
// its key.
type hashes struct{ in, out uint64 }

// hashes returns those of c.
func (s *Shard) hashes(c *Conn) hashes {
	if c.isTemplate() {
		b := &s.bindings[c.Binding()]
		return hashes{in: s.t.TemplateKey(b.Proto, c.Client, b.Virtual).hash}
	}
	out := s.t.OutboundFlow(c)
	return hashes{s.inboundHash(c), s.t.hash(&out, outbound)}
}
