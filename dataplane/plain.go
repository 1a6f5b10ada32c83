package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// The short way of a plain packet: one of a connection that both ends have opened
// and neither closes, or one more datagram that nobody has answered yet, and of which
// nothing is to be learned or told. It does what
// forward and outbound do with such a packet, without asking all that they have to
// ask; TestShortWayIsTheLongWay has both carry the same packets. What is not plain
// goes the long way, with nothing changed.

// ordinary are the flags that a connection on the short way may have.
const ordinary = clientTold | noticeAcked | homeMask

// carryShort carries a packet, if it may go the short way. Its connection was seen at
// hint.
func (w *Worker) carryShort(j *job, key conntrack.Key, hint conntrack.Hint) bool {
	c, b := w.conns.Catch(hint, key, &j.plain)
	if c == nil {
		return false
	}
	done := false
	switch {
	case c.Flags&^ordinary != 0 || c.HopGen != w.hops.Generation():
	case j.role == virtual:
		done = w.shortInbound(c, b, &j.plain, j.addr)
	default:
		done = w.shortOutbound(c, b, &j.plain, j.addr)
	}
	c.Release()
	return done
}

// shortInbound carries a packet from a client, if that is all there is to do with
// it. Its frame is at addr.
func (w *Worker) shortInbound(c *conntrack.Conn, b *conntrack.Binding, p *packet.Plain, addr uint64) bool {
	id := c.Binding()
	t := w.view.targets[id]
	hop := w.shortHop(c.ToReal, p)
	if hop == nil || route.HopID(c.ToClient).Reflected() {
		return false
	}
	silence := t.silence
	if c.State != t.carried {
		if c.State != conntrack.UDPOneWay { // of which nothing is new but the datagram
			return false
		}
		silence = t.Service.timeouts[conntrack.UDPOneWay]
	}
	src, dst := &w.conns.Local(c.Local).Addr, &b.Real.Addr
	addrs, ok := p.Between(src, dst)
	if !ok {
		return false
	}
	course := packet.Course{Addrs: addrs, Ports: uint32(c.LocalPort)<<16 | uint32(b.Real.Port)}
	if p.Proto == packet.ProtoTCP {
		if c.Flags&clientTold == 0 && t.Service.inserts {
			return false
		}
		if _, _, ack := p.Numbers(); ack-c.AckDelta != c.RealSeq && t.Service.Guard.accepts.Load() {
			return false // it may be a cookie's, see returns
		}
		course.Numbers, course.Stamps = uint64(c.SeqDelta)<<32, uint64(c.TimestampDelta)<<32
	}
	if !c.Extend(silence, w.now) {
		return false
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
	w.queue(hop.Port, xsk.Desc{Addr: addr + uint64(at), Len: uint32(size)})
	return true
}

// shortOutbound carries a packet from a real server, if that is all there is to do
// with it. Its frame is at addr.
func (w *Worker) shortOutbound(c *conntrack.Conn, b *conntrack.Binding, p *packet.Plain, addr uint64) bool {
	id := c.Binding()
	t := w.view.targets[id]
	hop := w.shortHop(c.ToClient, p)
	src, dst := &b.Virtual.Addr, &c.Client
	addrs, ok := p.Between(src, dst)
	if hop == nil || !ok || c.State != t.carried || !c.Extend(t.silence, w.now) {
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
	w.queue(hop.Port, xsk.Desc{Addr: addr + uint64(at), Len: uint32(size)})
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
