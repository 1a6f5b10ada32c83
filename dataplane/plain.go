package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// The short way of a plain packet: one of a connection that is there, and from which
// nothing is to be learned and into which nothing to be told. It does what forward and
// outbound do with such a packet, without asking all that they have to ask;
// TestShortWayIsTheLongWay has both carry the same packets. Any other packet goes the
// long way, with nothing changed.

// ordinary are the flags that a connection on the short way may have; joined ones have a way
// of their own from there, see carryJoined.
const ordinary = clientTold | noticeAcked | homeMask

// carryShort carries the i-th packet of the batch, if it may go the short way.
func (w *Worker) carryShort(j *job, i uint8) bool {
	switch simple := j.plain.Simple(); {
	case j.role == virtual:
		return simple && w.shortInbound(j, i)
	case simple:
		return w.shortOutbound(j, i)
	default:
		return j.plain.Answers() && w.shortAnswer(j, i)
	}
}

// shortInbound carries a packet from a client, if that is all there is to do with
// it.
//
//go:noinline
func (w *Worker) shortInbound(j *job, i uint8) bool {
	p := &j.plain
	c, b := w.conns.CatchInbound(w.lookups.Hint(i), p)
	if c == nil {
		return false
	}
	id := c.Binding()
	hop := w.followInbound(c, w.view.targets[id], p, i, ordinary)
	if hop == nil {
		w.decline(c)
		return false
	}
	row := w.ledger.row(id)
	row.InPackets++
	row.InBytes += uint64(p.IPLen())
	src, dst := &w.conns.Local(c.Local).Addr, &b.Real.Addr
	course := packet.Course{
		Addrs: packet.Pair4(src, dst), Ports: uint32(c.LocalPort)<<16 | uint32(b.Real.Port),
		Numbers: uint64(c.SeqDelta) << 32, Stamps: uint64(c.TimestampDelta) << 32, // of TCP
	}
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	c.Release()
	p.Forward(&hop.Dst, &hop.Src, course)
	at, size := p.Untagged()
	w.queue(hop.Port, xsk.Desc{Addr: j.addr + uint64(at), Len: uint32(size)})
	return true
}

// followInbound follows a client's packet through its connection, and returns where it goes next,
// or nil if it has to go the long way, as it has to if c has other flags than it may: then
// nothing has changed.
func (w *Worker) followInbound(c *conntrack.Conn, t *Target, p *packet.Plain, i, may uint8) *route.Hop {
	if !w.isOrdinary(c, may) {
		return nil
	}
	hop := w.plainHop(c.ToReal, p)
	if hop == nil || t.converts || route.HopID(c.ToClient).Reflected() {
		return nil
	}
	flags := w.visited(c)
	if p.Proto == packet.ProtoTCP {
		seq, _, ack := p.Numbers()
		if c.Flags&clientTold == 0 && t.Service.inserts {
			if !packet.SeqLess(c.FirstData, ack) {
				return nil // it may have to tell, see tellReal
			}
			flags |= clientTold
		}
		if ack-c.AckDelta != c.RealSeq && t.Service.Guard.accepts.Load() && !goesOn(c, seq, ack) {
			return nil // it may be a cookie's, see returns
		}
	}
	silence := t.silence
	if c.State == conntrack.UDPOneWay { // and so it stays until it is answered
		silence = t.unanswered
	}
	if (!t.steady(c, p) && c.State != conntrack.UDPOneWay || !c.Extend(silence, w.now)) && !w.shortMove(c, t, p, i) {
		return nil
	}
	c.Flags = flags
	return hop
}

// shortOutbound carries a packet from a real server, if that is all there is to do
// with it.
//
//go:noinline
func (w *Worker) shortOutbound(j *job, i uint8) bool {
	p := &j.plain
	c, b := w.conns.CatchOutbound(w.lookups.Hint(i), p)
	if c == nil {
		return false
	}
	id := c.Binding()
	t := w.view.targets[id]
	var hop *route.Hop
	if w.isOrdinary(c, ordinary) {
		hop = w.plainHop(c.ToClient, p)
	}
	if hop == nil || t.converts || (!t.steady(c, p) || !c.Extend(t.silence, w.now)) && !w.shortMove(c, t, p, i) {
		w.decline(c)
		return false
	}
	row := w.ledger.row(id)
	row.OutPackets++
	row.OutBytes += uint64(p.IPLen())
	w.greet(c)
	src, dst := &b.Virtual.Addr, &c.Client
	course := packet.Course{Addrs: packet.Pair4(src, dst), Ports: uint32(b.Virtual.Port)<<16 | uint32(c.ClientPort)}
	if p.Proto == packet.ProtoTCP {
		_, next, ack := p.Numbers()
		if packet.SeqLess(c.RealSeq, next) {
			c.RealSeq = next
		}
		if packet.SeqLess(c.RealAck, ack) {
			c.RealAck = ack
		}
		course.Numbers, course.Stamps = uint64(-c.SeqDelta), uint64(-c.TimestampDelta)
	}
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	c.Release()
	p.Forward(&hop.Dst, &hop.Src, course)
	at, size := p.Untagged()
	w.queue(hop.Port, xsk.Desc{Addr: j.addr + uint64(at), Len: uint32(size)})
	return true
}

// steady reports whether c is open in both directions and p leaves it so, as nearly every
// packet does. It must be inlined.
func (t *Target) steady(c *conntrack.Conn, p *packet.Plain) bool {
	return c.State == t.carried && p.Flags&packet.FIN == 0
}

// shortMove follows a packet through the state of its connection, which is being opened
// or closed, if it can. That of UDP is for the long way, and so is what opens a joined one.
//
// Inlined, it would make its callers so large that what each packet needs no longer was.
//
//go:noinline
func (w *Worker) shortMove(c *conntrack.Conn, t *Target, p *packet.Plain, i uint8) bool {
	if p.Proto != packet.ProtoTCP || connecting(c) {
		return false
	}
	key := w.lookups.Key(i)
	from := c.State
	to := conntrack.NextState(from, key.Outbound(), p.Flags)
	timeout := t.Service.timeouts[to]
	if to == from && c.Extend(timeout, w.now) {
		return true
	}
	if !c.MoveOn(to, timeout, w.now) {
		s := w.conns.Join(c, key)
		if s == nil {
			return false
		}
		s.SetState(c, to, timeout, w.now)
		s.Leave()
	}
	if to == conntrack.Established && from == conntrack.SynReceived && !key.Outbound() {
		w.tally.of(t.Service)[GuardEstablished]++
	}
	if active(from) != active(to) {
		w.moved(c, from, to)
	}
	return true
}

// isOrdinary reports whether c has no other flags than it may, and its next hops are of
// the routes as they are now.
func (w *Worker) isOrdinary(c *conntrack.Conn, may uint8) bool {
	return c.Flags&^may == 0 && c.HopGen == w.hops.Generation()
}

// plainHop returns a next hop, which is then used, or nil if a packet has to go there the
// long way.
func (w *Worker) plainHop(id uint16, p *packet.Plain) *route.Hop {
	hop := w.hops.Hop(route.HopID(id))
	if p.IPLen() > int(hop.PlainMTU) {
		return nil
	}
	w.usedHops[id] = 1
	return hop
}
