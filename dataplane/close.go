package dataplane

import (
	"context"
	"sync"

	"github.com/fnatd/fnatd/conntrack"
)

// Ending connections before their time, because their real server is gone or
// down. Workers do it between two batches, a slice each time, as only they can
// send the RSTs.

// A CloseMode says which connections of a real server Close ends.
type CloseMode uint8

const (
	// CloseAll ends all of them.
	CloseAll CloseMode = iota
	// CloseUnanswered ends those on which the real server has sent nothing, so
	// that what their clients send again reaches another one.
	CloseUnanswered
)

// closeLimit is how many connections one slice ends: with two RSTs each it makes
// as many frames as a batch brings.
const closeLimit = batchSize / 2

// A closing is one order to end connections, cut into slices. Any worker takes
// any slice, so that none is left behind when the number of workers changes.
type closing struct {
	set  conntrack.BindingSet
	mode CloseMode

	mu        sync.Mutex
	slices    []slice // that no worker has in hand
	taken     int     // that one has
	closed    int     // connections
	abandoned bool
	ended     bool
	done      chan struct{} // closed when ended
}

// A slice is a position of Table.Cull.
type slice struct{ shard, from int }

// Close ends the connections of some real servers and returns how many there
// were: of TCP both ends get a RST, UDP flows are forgotten, so that their next
// datagram is given a server anew. So is a TCP connection whose SYN nobody has
// answered, as its client will send that again. Templates go with the rest.
//
// It returns when the workers have been through the whole table, or ctx ends,
// which also ends the work. New connections are none of its business: the caller
// has first put a table in force by which these servers get none. Of several
// calls at a time one waits for the other.
func (e *Engine) Close(ctx context.Context, servers []conntrack.Binding, mode CloseMode) (int, error) {
	select {
	case e.closes <- struct{}{}:
		defer func() { <-e.closes }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	c := &closing{mode: mode, done: make(chan struct{})}
	for _, b := range servers {
		id, err := e.cfg.Conns.Bind(b) // keeps the ID from passing to another meanwhile
		if err != nil {
			continue // the registry is full without it: no connection has it
		}
		defer e.cfg.Conns.Unbind(id)
		c.set.Add(id)
	}
	for shard := range e.cfg.Conns.Shards() {
		c.slices = append(c.slices, slice{shard, 0})
	}
	e.closing.Store(c)
	defer e.closing.Store(nil)
	select {
	case <-c.done:
		return c.closed, nil
	case <-ctx.Done():
		c.abandon()
		<-c.done
		return c.closed, ctx.Err()
	}
}

// take gives a worker a slice to do; ok is false if there is none left.
func (c *closing) take() (s slice, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.slices) - 1
	if last < 0 {
		return slice{}, false
	}
	s, c.slices = c.slices[last], c.slices[:last]
	c.taken++
	return s, true
}

// give takes back a slice with what is left of it, which begins at 0 if that is
// nothing.
func (c *closing) give(rest slice, closed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed += closed
	c.taken--
	if rest.from != 0 && !c.abandoned {
		c.slices = append(c.slices, rest)
	}
	c.endIfDoneLocked()
}

// abandon has no more slices done.
func (c *closing) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned, c.slices = true, nil
	c.endIfDoneLocked()
}

func (c *closing) endIfDoneLocked() {
	if len(c.slices) == 0 && c.taken == 0 && !c.ended {
		c.ended = true
		close(c.done)
	}
}

// closeSome does one slice of what is to be closed, and reports whether there
// was any.
func (w *Worker) closeSome() bool {
	c := w.shared.closing.Load()
	if c == nil {
		return false
	}
	s, ok := c.take()
	if !ok {
		return false
	}
	closed, next := w.conns.Cull(s.shard, s.from, closeLimit, &c.set, func(_ *conntrack.Shard, conn *conntrack.Conn) bool {
		return w.closes(c.mode, conn)
	})
	c.give(slice{s.shard, next}, closed)
	return true
}

// closes ends connection c if mode wants it to: it does everything but remove
// it, and reports whether that is to be done.
func (w *Worker) closes(mode CloseMode, c *conntrack.Conn) bool {
	if w.view.Target(c.Binding()) == nil { // made by a newer view than this batch's, so not what is meant
		return false
	}
	if mode == CloseUnanswered && (heardReal(c) || connecting(c)) { // the latter is moved to another one, see retry
		return false
	}
	switch c.State {
	case conntrack.Template:
		return true
	case conntrack.UDP, conntrack.UDPOneWay, conntrack.TimeWait, conntrack.Closed:
	case conntrack.SynReceived:
		if heardReal(c) {
			w.sendResets(c)
		}
	default:
		w.sendResets(c)
	}
	w.ended(c)
	w.counts.Events[ConnClosed]++
	return true
}

// heardReal reports whether the real server has sent anything on c. For a
// template, which keeps what it may yet need, it has.
func heardReal(c *conntrack.Conn) bool {
	switch c.State {
	case conntrack.UDP, conntrack.Template:
		return true
	case conntrack.UDPOneWay:
		return false
	}
	return c.RealSeq != 0 && !connecting(c)
}
