package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
)

// How a connection is made: prepared with the batch that its SYN comes in, and then placed.

// prepare does for the SYNs among a batch's jobs what of place needs no connection yet:
// it chooses a real server, a local address and a port. Where the index will have these
// is then known for all of them, and loaded while the first is admitted.
func (w *Worker) prepare(order []uint8) {
	w.opening = false
	w.claimed = w.claims[:0]
	var to *packet.Flow // that was looked at last
	var svc *Service    // which it is for
	for _, i := range order {
		j := &w.jobs[i%batchSize]
		if !j.short || !j.plain.Opens() {
			continue
		}
		if !w.lookups.Absent(int(i)) {
			continue // it has a connection, or may have one
		}
		key := w.lookups.Key(i)
		w.lengthen(j, key)
		if f := &j.p.Flow; to == nil || to.Dst != f.Dst || to.DstPort != f.DstPort {
			to, svc = f, w.view.service(packet.ProtoTCP, f.Destination())
		}
		if svc == nil {
			continue
		}
		if server := w.pick(svc, &j.p.Flow); server != nil {
			server.Load.Opened()
			j.server = server
			j.claim = w.conns.Claim(key, svc.bindings[server.Index], svc.locals, w.aim(packet.ProtoTCP, &server.Real))
			w.claimed = append(w.claimed, j.claim)
		}
	}
	for range min(conntrack.Ahead, len(w.claimed)) {
		w.foreseeClaim()
	}
}

// foreseeClaim begins to load what inserting the next claim takes.
func (w *Worker) foreseeClaim() {
	if len(w.claimed) > 0 {
		w.conns.Foresee(w.claimed[0])
		w.claimed = w.claimed[1:]
	}
}

// forgo gives up what prepare has found for a connection that was not made after all.
func (w *Worker) forgo(j *job) {
	j.server.Load.Add(0, -1)
	w.conns.Disclaim(j.key, w.serviceOf(j).bindings[j.server.Index], j.claim)
	j.server = nil
}

// place makes the connection of a packet that has none, with a real server of svc,
// and returns it with its shard locked. If another worker was quicker, it is that
// one's, and made is false.
func (w *Worker) place(j *job, svc *Service) (s *conntrack.Shard, c *conntrack.Conn, made bool, why packet.Reason) {
	p, server := &j.p, j.server
	if server == nil {
		if server = w.pick(svc, &p.Flow); server == nil {
			return nil, nil, false, packet.NoServer
		}
	}
	if !w.reserve() {
		return nil, nil, false, packet.TableFull
	}
	s = w.conns.Lock(j.key)
	if c = s.Find(j.key, &p.Flow); c != nil {
		w.conns.Release()
		return s, c, false, packet.Kept
	}
	binding := svc.bindings[server.Index]
	if j.server != nil && j.claim.Held() {
		w.foreseeClaim()
		c = s.InsertClaimed(j.key, &p.Flow, binding, j.claim, w.now)
	}
	if c != nil {
		j.server = nil
	} else {
		c, why = s.Insert(j.key, &p.Flow, binding, svc.locals, w.aim(p.Flow.Proto, &server.Real), w.now)
		if why != packet.Kept {
			s.Unlock()
			w.conns.Release()
			return nil, nil, false, why
		}
		server.Load.Opened()
	}
	w.admitted = true
	w.ledger.row(binding).Connections++
	w.firstHops(c, j)
	return s, c, true, packet.Kept
}

// reserve takes one of max_connections, at the cost of the oldest half-open
// connection if there is none left.
func (w *Worker) reserve() bool {
	old, evicted, ok := w.conns.Reserve()
	if evicted {
		w.counts.Events[ConnEvicted]++
		w.ended(&old.Conn)
	}
	return ok
}
