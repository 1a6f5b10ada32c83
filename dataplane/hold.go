package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// A client sends its request right behind the ACK that proves its cookie, before its
// real server is connected. The request waits in its frame: lost, it would come again
// only after 200 ms or more.

// Our choices. A Linux client sends ten segments before it waits for an answer; a
// thousand frames are an eighth of what a worker has.
const (
	maxHeld       = 1024 // frames that a worker holds
	maxHeldOfConn = 10
	holdTime      = 3000 // ms
)

// A held is a segment that waits for its connection's real server.
type held struct {
	key   conntrack.Key // of its flow
	desc  xsk.Desc
	port  int
	until uint32
}

// hold keeps a client's segment until the real server of connection c has answered.
// One that brings nothing that is not known is not kept.
func (w *Worker) hold(c *conntrack.Conn, j *job) packet.Reason {
	p := &j.p
	if !carries(p) {
		return packet.CookieACK
	}
	if len(w.held) == maxHeld || len(j.tail) > 0 || w.heldOf(j.key) == maxHeldOfConn {
		return packet.NotHeld
	}
	w.held = append(w.held, held{
		key: j.key, desc: xsk.Desc{Addr: j.addr, Len: uint32(p.End - p.Start)}, port: j.port, until: w.now + holdTime,
	})
	return packet.Held
}

func (w *Worker) heldOf(k conntrack.Key) (n int) {
	for i := range w.held {
		if w.held[i].key == k {
			n++
		}
	}
	return n
}

// early handles a client's segment of a connection whose real server has not answered
// yet.
func (w *Worker) early(s *conntrack.Shard, c *conntrack.Conn, j *job) packet.Reason {
	p := &j.p
	tcp := p.TCP()
	switch {
	case j.why == packet.Fragment:
		return packet.Fragment
	case p.Flags.Has(packet.RST):
		// The client has given up. What it had sent by then is not known here, so the
		// number has the window to lie in.
		if !packet.SeqInWindow(tcp.Seq()+c.SeqDelta, c.RealAck, 1<<16) {
			return packet.BadFlags
		}
		w.abandon(s, c)
		return packet.CookieACK
	case !p.Flags.Has(packet.ACK) || p.Flags.Has(packet.SYN) || tcp.Ack() != c.FirstData:
		return packet.BadCookie
	}
	c.AckDelta = uint32(opening(c.AckDelta).seen(tcp.Window()))
	w.visit(c)
	return w.hold(c, j)
}

// release lets go of what is held of c, whose lock the caller has, at the end of the
// round: by this worker or, if the client's packets come by another one, by that.
func (w *Worker) release(c *conntrack.Conn) {
	if len(w.held) > 0 {
		f := w.conns.InboundFlow(c)
		w.ready = append(w.ready, w.conns.InboundKey(&f))
	}
	if c.Flags&homeMask != w.home || w.of > homes {
		w.shared.decided.Add(1)
	}
}

// releaseHeld sends on what need not wait any longer, in the order in which it came,
// and drops what has waited long enough.
func (w *Worker) releaseHeld() {
	all := false
	if decided := w.shared.decided.Load(); decided != w.decided {
		w.decided, all = decided, true
	}
	waiting := w.held
	w.held = w.kept[:0]
	for i := range waiting {
		h := &waiting[i]
		switch {
		case all || w.isReady(h.key):
			j := &w.late
			w.again(j, h.desc, h.port)
			w.finish(j, w.process(j)) // which holds it once more if it is too early still
		case int32(w.now-h.until) >= 0:
			w.dropFrame(h.desc.Addr, packet.NotHeld)
		default:
			w.held = append(w.held, *h)
		}
	}
	w.kept, w.ready = waiting[:0], w.ready[:0]
}

func (w *Worker) isReady(k conntrack.Key) bool {
	for i := range w.ready {
		if w.ready[i] == k {
			return true
		}
	}
	return false
}

// dropHeld drops what is held of a flow.
func (w *Worker) dropHeld(k conntrack.Key) {
	kept := w.held[:0]
	for _, h := range w.held {
		if h.key == k {
			w.dropFrame(h.desc.Addr, packet.NotHeld)
		} else {
			kept = append(kept, h)
		}
	}
	w.held = kept
}

// dropAllHeld drops everything that is held: the worker stops.
func (w *Worker) dropAllHeld() {
	for i := range w.held {
		w.dropFrame(w.held[i].desc.Addr, packet.NotHeld)
	}
	w.held = w.held[:0]
}
