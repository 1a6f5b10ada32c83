package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
)

// How a connection is made: prepared with the batch that its SYN comes in, and then placed.

// prepare does for the SYNs among a batch's jobs what needs no connection yet: it chooses a
// real server, a local address and a port. Where the index will have these is then known for
// all of them, and loaded while the first is admitted.
func (w *Worker) prepare(order []uint8) {
	w.opening = false
	o := &w.openings
	o.claims.Reset()
	for _, i := range order {
		j := &w.jobs[i%batchSize]
		if !j.short || !j.plain.Opens() {
			continue
		}
		if !w.lookups.Absent(int(i)) {
			continue // it has a connection, or may have one
		}
		key := w.lookups.Key(i)
		f := &j.p.Flow
		j.plain.SetFlow(f, packet.ProtoTCP)
		svc := w.tcpServiceTo(&j.plain.Ends)
		if svc == nil {
			continue
		}
		server := w.pick(svc, f)
		if server == nil {
			continue
		}
		n, id := o.claims.Len(), svc.bindings[server.Index]
		if w.conns.Claim(&o.claims, key, id, svc.locals, w.aim(packet.ProtoTCP, &server.Real)) {
			server.Load.Opened()
			j.short, j.key, j.server, j.opening = false, key, server, uint8(n)
			claim := o.claims.At(n)
			o.ends.set(n, claim.Port(), &w.conns.Local(claim.Local()).Addr, &w.conns.Binding(id).Real)
			o.of[n%batchSize] = i
		}
	}
	n := o.claims.Len()
	o.hops = w.hops
	for k, i := range o.of[:n] { // with nothing in between that one would have to wait for
		o.toClients[k] = w.hops.Lookup(w.jobs[i%batchSize].p.Flow.Src)
	}
	w.conns.HashClaims(&o.claims)
	o.ends.hash(&w.isnKey, n)
	if o.foreseen = 0; n > 0 && w.conns.ReserveAll(n) {
		o.reserved = n
	}
	for range min(conntrack.Ahead, n) {
		w.foreseeClaim()
	}
}

// openings are what prepare has found for the SYNs of a batch.
type openings struct {
	claims    conntrack.Claims
	of        [batchSize]uint8 // which job each claim is for
	ends      endsHashes
	hops      *route.Table
	toClients [batchSize]route.HopID // what hops says of their clients
	foreseen  int                    // so many of the claims
	reserved  int                    // places of the table for them that are left; 0 if it is full
}

// clientHop returns what the routing table says of the client of a claim, whose flow is f.
func (w *Worker) clientHop(opening uint8, f *packet.Flow) route.HopID {
	if o := &w.openings; o.hops == w.hops {
		return o.toClients[opening%batchSize]
	}
	return w.hops.Lookup(f.Src) // a newer table has come within the batch
}

// endsHashes computes hashEnds of several connections together.
type endsHashes struct {
	words [5][batchSize]uint64
	sums  [batchSize]uint64
}

func (e *endsHashes) set(i int, lport uint16, lip *packet.Addr, real *packet.Endpoint) {
	w := &e.words
	i %= batchSize
	w[0][i], w[1][i], w[2][i], w[3][i], w[4][i] = endsWords(lport, lip, real)
}

func (e *endsHashes) hash(key *siphash.Key, n int) {
	w := &e.words
	key.Sums5(e.sums[:siphash.Round(n)], &[5][]uint64{w[0][:], w[1][:], w[2][:], w[3][:], w[4][:]})
}

// foreseeClaim begins to load what inserting the next claim takes.
func (w *Worker) foreseeClaim() {
	if o := &w.openings; o.foreseen < o.claims.Len() {
		w.conns.Foresee(o.claims.At(o.foreseen))
		o.foreseen++
	}
}

// forgo gives up what prepare has found for a connection that was not made after all.
func (w *Worker) forgo(j *job) {
	j.server.Load.Add(0, -1)
	w.conns.Disclaim(j.key, w.serviceOf(j).bindings[j.server.Index], w.openings.claims.At(int(j.opening)))
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
	if j.server != nil {
		w.foreseeClaim()
		c = s.InsertClaimed(j.key, &p.Flow, binding, w.openings.claims.At(int(j.opening)), w.now)
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
	if w.openings.reserved > 0 {
		w.openings.reserved--
		return true
	}
	old, evicted, ok := w.conns.Reserve()
	if evicted {
		w.counts.Events[ConnEvicted]++
		w.ended(&old.Conn)
	}
	return ok
}
