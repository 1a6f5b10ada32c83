package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
)

// The short way of a plain packet: one of a connection that both ends have opened
// and neither closes, and of which nothing is to be learned or told. It does what
// forward and outbound do with such a packet, without asking all that they have to
// ask; TestShortWayIsTheLongWay has both carry the same packets. What is not plain
// goes the long way, with nothing changed.

// ordinary are the flags that a connection on the short way may have.
const ordinary = clientTold | noticeAcked | homeMask

// shortInbound carries a packet from a client, if that is all there is to do with
// it.
func (w *Worker) shortInbound(s *conntrack.Shard, c *conntrack.Conn, j *job) bool {
	t := w.view.targets[c.Binding]
	b := w.conns.Binding(c.Binding)
	hop, timeout := w.shortHop(c, c.ToReal, t, j)
	if hop == nil || !b.Real.Addr.Is4() || route.HopID(c.ToClient).Reflected() {
		return false
	}
	course := packet.Course{
		DstMAC: hop.Dst, SrcMAC: hop.Src,
		Src: &w.conns.Local(c.Local).Addr, SrcPort: c.LocalPort, Dst: &b.Real.Addr, DstPort: b.Real.Port,
	}
	if c.State == conntrack.Established {
		if c.Flags&clientTold == 0 && t.Service.inserts {
			return false
		}
		course.Seq, course.TimestampVal = c.SeqDelta, c.TimestampDelta
	}
	w.count(j, c.Binding, inboundPacket)
	s.Touch(c, timeout, w.now)
	w.visit(c)
	w.usedHops[c.ToReal] = true
	j.p.Forward(&course)
	j.port, j.mtu = hop.Port, hop.MTU
	return true
}

// shortOutbound carries a packet from a real server, if that is all there is to do
// with it.
func (w *Worker) shortOutbound(s *conntrack.Shard, c *conntrack.Conn, j *job) bool {
	hop, timeout := w.shortHop(c, c.ToClient, w.view.targets[c.Binding], j)
	if hop == nil || !c.Client.Is4() {
		return false
	}
	b := w.conns.Binding(c.Binding)
	course := packet.Course{
		DstMAC: hop.Dst, SrcMAC: hop.Src,
		Src: &b.Virtual.Addr, SrcPort: b.Virtual.Port, Dst: &c.Client, DstPort: c.ClientPort,
	}
	if c.State == conntrack.Established {
		tcp := j.p.TCP()
		if end := tcp.Seq() + j.p.SegmentLen(); packet.SeqLess(c.RealSeq, end) {
			c.RealSeq = end
		}
		if ack := tcp.Ack(); packet.SeqLess(c.RealAck, ack) {
			c.RealAck = ack
		}
		course.Ack, course.TimestampEcr = -c.SeqDelta, -c.TimestampDelta
	}
	w.count(j, c.Binding, outboundPacket)
	w.greet(c)
	s.Touch(c, timeout, w.now)
	w.usedHops[c.ToClient] = true
	j.p.Forward(&course)
	j.port, j.mtu = hop.Port, hop.MTU
	return true
}

// shortHop returns the next hop by one of c's, and how long c may be silent. It
// returns no hop if the packet has to go the long way.
func (w *Worker) shortHop(c *conntrack.Conn, id uint16, t *Target, j *job) (*route.Hop, uint32) {
	if c.State != conntrack.Established && c.State != conntrack.UDP ||
		c.Flags&^ordinary != 0 || c.HopGen != w.hops.Generation() || int(id) >= len(w.usedHops) {
		return nil, 0
	}
	hop := w.hops.Hop(route.HopID(id))
	if !hop.Resolved || hop.VLANs[0].Type != 0 || j.p.IPLen() > hop.MTU {
		return nil, 0
	}
	return hop, t.Service.timeouts[c.State]
}
