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

// ordinary are the flags that a connection on the short way may have.
const ordinary = clientTold | noticeAcked | homeMask

// carryShort carries a packet, if it may go the short way. Its connection was seen at
// hint.
func (w *Worker) carryShort(j *job, key conntrack.Key, hint conntrack.Hint) bool {
	simple := j.plain.Simple()
	if !simple && (j.role == virtual || !j.plain.Answers()) {
		return false
	}
	c, b := w.conns.Catch(hint, key, &j.plain)
	if c == nil {
		return false
	}
	done := false
	switch {
	case c.Flags&^ordinary != 0 || c.HopGen != w.hops.Generation():
	case j.role == virtual:
		done = w.shortInbound(c, b, j, key)
	case !simple:
		done = w.shortAnswer(c, b, j, key)
	default:
		done = w.shortOutbound(c, b, j, key)
	}
	c.Release()
	return done
}

// shortInbound carries a packet from a client, if that is all there is to do with
// it.
func (w *Worker) shortInbound(c *conntrack.Conn, b *conntrack.Binding, j *job, key conntrack.Key) bool {
	p, id := &j.plain, c.Binding()
	t := w.view.targets[id]
	hop := w.shortHop(c.ToReal, p)
	if hop == nil || route.HopID(c.ToClient).Reflected() {
		return false
	}
	src, dst := &w.conns.Local(c.Local).Addr, &b.Real.Addr
	addrs, ok := p.Between(src, dst)
	if !ok {
		return false
	}
	course := packet.Course{Addrs: addrs, Ports: uint32(c.LocalPort)<<16 | uint32(b.Real.Port)}
	told := uint8(0)
	if p.Proto == packet.ProtoTCP {
		seq, _, ack := p.Numbers()
		if c.Flags&clientTold == 0 && t.Service.inserts {
			if !packet.SeqLess(c.FirstData, ack+c.AckDelta) {
				return false // it may have to tell, see tellReal
			}
			told = clientTold
		}
		if ack-c.AckDelta != c.RealSeq && t.Service.Guard.accepts.Load() && !goesOn(c, seq, ack) {
			return false // it may be a cookie's, see returns
		}
		course.Numbers, course.Stamps = uint64(c.SeqDelta)<<32, uint64(c.TimestampDelta)<<32
	}
	silence := t.silence
	if c.State == conntrack.UDPOneWay { // and so it stays until it is answered
		silence = t.unanswered
	}
	if (!t.steady(c, p) && c.State != conntrack.UDPOneWay || !c.Extend(silence, w.now)) && !w.shortMove(c, t, p, key) {
		return false
	}
	if told != 0 {
		c.Flags |= told
	}
	row := w.ledger.row(id)
	row.InPackets++
	row.InBytes += uint64(p.IPLen())
	w.visit(c)
	w.usedHops[c.ToReal] = true
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	p.Forward(&hop.Dst, &hop.Src, course)
	at, size := p.Untagged()
	w.queue(hop.Port, xsk.Desc{Addr: j.addr + uint64(at), Len: uint32(size)})
	return true
}

// shortOutbound carries a packet from a real server, if that is all there is to do
// with it.
func (w *Worker) shortOutbound(c *conntrack.Conn, b *conntrack.Binding, j *job, key conntrack.Key) bool {
	p, id := &j.plain, c.Binding()
	t := w.view.targets[id]
	hop := w.shortHop(c.ToClient, p)
	src, dst := &b.Virtual.Addr, &c.Client
	addrs, ok := p.Between(src, dst)
	if hop == nil || !ok || (!t.steady(c, p) || !c.Extend(t.silence, w.now)) && !w.shortMove(c, t, p, key) {
		return false
	}
	course := packet.Course{Addrs: addrs, Ports: uint32(b.Virtual.Port)<<16 | uint32(c.ClientPort)}
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
	row := w.ledger.row(id)
	row.OutPackets++
	row.OutBytes += uint64(p.IPLen())
	w.greet(c)
	w.usedHops[c.ToClient] = true
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
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
// or closed, if it can. That of UDP is for the long way.
func (w *Worker) shortMove(c *conntrack.Conn, t *Target, p *packet.Plain, key conntrack.Key) bool {
	if p.Proto != packet.ProtoTCP {
		return false
	}
	to := conntrack.NextState(c.State, key.Outbound(), p.Flags)
	if to == c.State && c.Extend(t.Service.timeouts[to], w.now) {
		return true
	}
	s := w.conns.Join(c, key)
	if s == nil {
		return false
	}
	if to == conntrack.Established && c.State == conntrack.SynReceived && !key.Outbound() {
		w.tally.of(t.Service)[GuardEstablished]++
	}
	w.setState(s, c, t, to)
	s.Leave()
	return true
}

// shortHop returns the next hop by one of a connection's, or nil if the packet has to
// go the long way.
func (w *Worker) shortHop(id uint16, p *packet.Plain) *route.Hop {
	if int(id) >= len(w.usedHops) {
		return nil
	}
	hop := w.hops.Hop(route.HopID(id))
	if !hop.Resolved || hop.VLANs[0].Type != 0 || p.IPLen() > hop.MTU {
		return nil
	}
	return hop
}
