package dataplane

import (
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// Only the first fragment of a datagram has ports. It goes the way of a whole
// packet, and leaves in the engine's fragCache what it was rewritten to; later
// ones follow it there. One that comes before the first waits for it, a little,
// in its frame.

// Our choices: a first fragment is late because the network sent it another way
// or another queue was served before, which is a matter of milliseconds.
const (
	maxWaiting  = 64  // early fragments that a worker holds
	waitingTime = 500 // ms
)

// A waiting is an early fragment.
type waiting struct {
	desc  xsk.Desc
	port  int
	id    datagramID
	until uint32
}

// fragment handles a fragment of a datagram to a VIP or a LIP.
func (w *Worker) fragment(j *job) packet.Reason {
	p := &j.p
	if p.TTL() <= 1 {
		return packet.TTLExceeded
	}
	ident, offset, _, _ := p.Fragment()
	id := datagramID{p.Flow.Src, p.Flow.Dst, ident, p.Flow.Proto}
	if p.Version == 6 { // where it is no part of the identity: RFC 8200, section 4.5
		id.proto = 0
	}
	if why := w.shared.fragments.note(&id, offset, offset+p.L3+p.IPLen()-p.L4, w.now); why != packet.Kept {
		return why
	}
	if offset == 0 {
		return w.firstFragment(j, &id)
	}
	return w.laterFragment(j, &id)
}

// firstFragment sends the fragment with the ports like a whole packet, and notes
// where the others are to follow it.
func (w *Worker) firstFragment(j *job, id *datagramID) packet.Reason {
	why := w.connected(j)
	if why == packet.Kept {
		w.shared.fragments.learn(id, &j.way, w.now)
	}
	return why
}

// laterFragment sends a fragment after the first of its datagram, or lets it
// wait for that.
func (w *Worker) laterFragment(j *job, id *datagramID) packet.Reason {
	way, ok := w.shared.fragments.lookUp(id, w.now)
	if ok {
		return w.follow(j, &way)
	}
	if len(w.waiting) == maxWaiting || len(j.tail) > 0 {
		return packet.Fragment
	}
	p := &j.p
	w.waiting = append(w.waiting, waiting{
		desc: xsk.Desc{Addr: j.addr, Len: uint32(p.End - p.Start)}, port: j.port, id: *id, until: w.now + waitingTime,
	})
	return packet.Held
}

// follow sends a later fragment by the way of the first.
func (w *Worker) follow(j *job, way *way) packet.Reason {
	if mtu := way.hop.MTU - growth(&j.p, way.dst.Addr); j.p.IPLen() > mtu && !j.p.MayFragment() {
		return packet.TooBig
	}
	w.count(j, way.binding, way.direction)
	return w.leave(j, &way.hop, way.src, way.dst)
}

// releaseWaiting sends the early fragments whose first has come by now, and
// drops those that have waited long enough.
func (w *Worker) releaseWaiting() {
	kept := w.waiting[:0]
	for i := range w.waiting {
		early := &w.waiting[i]
		way, ok := w.shared.fragments.lookUp(&early.id, w.now)
		switch {
		case ok:
			j := &w.late
			w.again(j, early.desc, early.port)
			w.finish(j, w.follow(j, &way))
		case int32(w.now-early.until) >= 0:
			w.dropFrame(early.desc.Addr, packet.Fragment)
		default:
			kept = append(kept, *early)
		}
	}
	w.waiting = kept
}

// again parses a frame that has waited as when it came.
func (w *Worker) again(j *job, d xsk.Desc, port int) {
	j.addr, j.port, j.tail = d.Addr, port, nil
	w.classify(j, int(d.Len), 0)
}

// dropWaiting drops all early fragments: the worker stops.
func (w *Worker) dropWaiting() {
	for i := range w.waiting {
		w.dropFrame(w.waiting[i].desc.Addr, packet.Fragment)
	}
	w.waiting = w.waiting[:0]
}
