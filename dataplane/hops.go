package dataplane

import (
	"bytes"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
)

// A Router answers where packets go next. It is a *route.Resolver, or a fake.
type Router interface {
	Table() *route.Table
	Want(packet.Addr)
	Use(route.HopID)
	Reflect(port int, mac [6]byte, vlans packet.VLANs) route.HopID
}

// firstHops gives a new connection its next hops. Towards the client the route
// is taken, unless the operator wants the client's MAC address reflected; while
// the route's neighbour is still being resolved, the MAC that the first packet
// came from is the best guess there is, and saves the client a retransmission.
func (w *Worker) firstHops(c *conntrack.Conn, j *job) {
	w.lookUpHops(c)
	if id := route.HopID(c.ToClient); w.reflect || id != 0 && !w.hops.Hop(id).Resolved {
		w.router.Want(c.Client)
		w.reflectClient(c, j)
	}
}

// lookUpHops takes both next hops of c from the routing table. One that reflects
// the client stays: it does not depend on routes.
func (w *Worker) lookUpHops(c *conntrack.Conn) {
	c.HopGen = w.hops.Generation()
	c.ToReal = uint16(w.realHop(c.Binding()))
	if !route.HopID(c.ToClient).Reflected() {
		c.ToClient = uint16(w.hops.Lookup(c.Client))
	}
}

// realHops are hops towards real servers, of whom there are few and to whom connections
// go all the time: what a routing table says of them. In another view a binding may be
// another's.
type realHops struct {
	table *route.Table
	view  *View
	hops  []route.HopID // by BindingID; 0 is not known, or none
}

// realHop returns what the routing table says of the real server of b.
func (w *Worker) realHop(b conntrack.BindingID) route.HopID {
	r := &w.realHops
	if r.table != w.hops || r.view != w.view {
		r.table, r.view = w.hops, w.view
		clear(r.hops)
	}
	if more := int(b) + 1 - len(r.hops); more > 0 {
		r.hops = append(r.hops, make([]route.HopID, more)...)
	}
	if r.hops[b] == 0 {
		r.hops[b] = w.hops.Lookup(w.conns.Binding(b).Real.Addr)
	}
	return r.hops[b]
}

func (w *Worker) reflectClient(c *conntrack.Conn, j *job) {
	e := j.p.Ethernet()
	if id := w.router.Reflect(j.port, e.Src(), e.VLANs()); id != 0 {
		c.ToClient = uint16(id)
	}
}

// followClient keeps a reflected hop pointed at where the client's packets come
// from.
func (w *Worker) followClient(c *conntrack.Conn, j *job) {
	if id := route.HopID(c.ToClient); id.Reflected() || w.reflect {
		hop, e := w.hops.Hop(id), j.p.Ethernet()
		if hop.Dst != e.Src() || hop.Port != j.port || hop.VLANs != e.VLANs() {
			w.reflectClient(c, j)
		}
	}
}

// toReal returns the next hop of c towards its real server, or why there is none.
func (w *Worker) toReal(c *conntrack.Conn) (*route.Hop, packet.Reason) {
	return w.hop(c, &c.ToReal, &w.conns.Binding(c.Binding()).Real.Addr)
}

// toClient returns the next hop of c towards its client, or why there is none.
func (w *Worker) toClient(c *conntrack.Conn) (*route.Hop, packet.Reason) {
	return w.hop(c, &c.ToClient, &c.Client)
}

// hop returns the hop that id, one of c's, stands for. When routes have changed
// since c looked, or the neighbour towards dst was not known then, it looks again, in
// the newest table that there is.
func (w *Worker) hop(c *conntrack.Conn, id *uint16, dst *packet.Addr) (*route.Hop, packet.Reason) {
	if c.HopGen != w.hops.Generation() {
		w.lookUpHops(c)
	}
	hop := w.hops.Hop(route.HopID(*id))
	if !hop.Resolved {
		// The worker that made c may have known the neighbour already, by a newer table.
		if newest := w.router.Table(); newest != w.hops {
			w.hops = newest
			w.lookUpHops(c)
		}
		*id = uint16(w.hops.Lookup(*dst))
		hop = w.hops.Hop(route.HopID(*id))
	}
	switch {
	case *id == 0:
		return nil, packet.NoRoute
	case !hop.Resolved:
		w.router.Want(*dst)
		return nil, packet.NoNeighbour
	}
	w.usedHops[*id] = 1
	return hop, packet.Kept
}

// reportHops tells the router which hops carry traffic, which keeps their neighbours' entries
// from going stale unseen.
func (w *Worker) reportHops() {
	rest := w.usedHops[:]
	for at := bytes.IndexByte(rest, 1); at >= 0; at = bytes.IndexByte(rest, 1) {
		w.router.Use(route.HopID(len(w.usedHops) - len(rest) + at))
		rest[at] = 0
		rest = rest[at+1:]
	}
}
