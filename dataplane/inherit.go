package dataplane

import (
	"math"

	"github.com/fnatd/fnatd/conntrack"
)

// A process that goes on with another one's connection table has to make the view of
// its own configuration know the connections that are there.

// Inherit counts the connections that the table had before the engine was made for
// their real servers, and removes those whose real server is not among the engine's
// services; it returns how many. No worker may run.
func (e *Engine) Inherit() (strangers int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, t := e.view.Load(), e.cfg.Conns
	var unknown conntrack.BindingSet
	t.Each(func(c *conntrack.Conn) {
		target := v.Target(c.Binding)
		switch {
		case target == nil:
			unknown.Add(c.Binding)
		case c.State != conntrack.Template:
			target.Server.Load.Opened()
			if active(c.State) {
				target.Server.Load.Activated()
			}
		}
	})
	for shard := range t.Shards() {
		for from := 0; ; {
			n, next := t.Cull(shard, from, math.MaxInt, &unknown, func(*conntrack.Shard, *conntrack.Conn) bool { return true })
			strangers += n
			if from = next; from == 0 {
				break
			}
		}
	}
	return strangers
}

// keepLocals has the local addresses that carry connections already live on in them,
// whether or not the first table has them.
func (e *Engine) keepLocals() {
	for _, l := range e.cfg.Conns.Stats().Locals {
		e.retired[l.Addr] = true
	}
}
