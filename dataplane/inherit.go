package dataplane

import (
	"encoding/json"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/lb"
)

// A process that goes on with another one's connection table has to make the view of
// its own configuration know the connections that are there.

// Inherit counts the connections that the table had before the engine was made for
// their real servers, and removes those whose real server is not among the engine's
// services. It is called once, before any worker runs; shards that are not read yet
// follow when they are.
func (e *Engine) Inherit() { e.cfg.Conns.WhenRead(e.inherit) }

// Strangers returns how many connections Inherit has removed.
func (e *Engine) Strangers() int { return int(e.strangers.Load()) }

// inherit is Inherit for one shard, which is locked.
func (e *Engine) inherit(s *conntrack.Shard) {
	v := e.view.Load()
	// Counted here first: two atomic additions for each of a million connections would
	// be 40 ms.
	var counts []struct{ has, active, inactive int32 } // by BindingID
	s.Each(func(c *conntrack.Conn) {
		for int(c.Binding()) >= len(counts) {
			counts = append(counts, struct{ has, active, inactive int32 }{})
		}
		n := &counts[c.Binding()]
		n.has++
		switch {
		case active(c.State):
			n.active++
		case c.State != conntrack.Template:
			n.inactive++
		}
	})
	var unknown conntrack.BindingSet
	for id, n := range counts {
		if n.has == 0 {
			continue
		}
		if target := v.Target(conntrack.BindingID(id)); target != nil {
			target.Server.Load.Inherited(n.active, n.inactive)
		} else {
			unknown.Add(conntrack.BindingID(id))
		}
	}
	e.strangers.Add(int64(s.RemoveOf(&unknown)))
}

// keepLocals has the local addresses that connections may be on already live on in
// them, whether or not the first table has them.
func (e *Engine) keepLocals() {
	for _, a := range e.cfg.Conns.KnownLocals() {
		e.retired[a] = true
	}
}

// Remember has m begin with what an earlier process has counted, and with what it had
// seen the real server offer.
func (m *Meter) Remember(t *Traffic, offer uint64) {
	m.publish(0, t)
	m.seen.Store(offer)
}

// Seen returns what the real server was seen to offer, see synproxy.Offer.Pack; 0 is
// nothing yet.
func (m *Meter) Seen() uint64 { return m.seen.Load() }

// A GuardMemory is what a Guard knows that its service's configuration does not say.
type GuardMemory struct {
	On     bool      // SYNs are answered by cookies
	LastOn time.Time // the last time that they were
	Offers [2]uint64 // what SYN-ACKs said, by the parity of the epoch; see synproxy.Offer.Pack
	Counts GuardCounts
}

// Memory returns what g would forget with its process.
func (e *Engine) Memory(g *Guard) GuardMemory {
	e.mu.Lock()
	defer e.mu.Unlock()
	return GuardMemory{
		On: g.On(), LastOn: g.lastOn, Counts: g.Counts(),
		Offers: [2]uint64{g.offers[0].Load(), g.offers[1].Load()},
	}
}

// Remember has g go on with what another process has left. No worker may run.
func (e *Engine) Remember(g *Guard, m *GuardMemory) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if g.mode == lb.Adaptive {
		g.on.Store(m.On)
	}
	g.lastOn = m.LastOn
	for parity, offer := range m.Offers {
		g.offers[parity].Store(offer)
	}
	for event, n := range m.Counts {
		g.cells[0].counters[event].Add(n)
	}
	g.settle(time.Now())
}

// MarshalJSON writes the counts by their labels, since another process may number them
// differently.
func (c GuardCounts) MarshalJSON() ([]byte, error) {
	by := map[string]uint64{}
	for e, n := range c {
		if n > 0 {
			by[GuardEvent(e).String()] = n
		}
	}
	return json.Marshal(by)
}

// UnmarshalJSON is the inverse of MarshalJSON; labels that it does not know are passed
// over.
func (c *GuardCounts) UnmarshalJSON(b []byte) error {
	var by map[string]uint64
	if err := json.Unmarshal(b, &by); err != nil {
		return err
	}
	for e := range c {
		c[e] = by[GuardEvent(e).String()]
	}
	return nil
}
