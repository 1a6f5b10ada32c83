package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// The short way of a plain packet of a joined connection. It begins where that of
// plain.go ends for it, with one test of flags that all packets are asked for: so the
// others pay nothing for what follows. It does what they do, and what inboundSeam and
// outboundSeam do besides.

// ordinaryJoined is ordinary for a joined connection: without refused.
const ordinaryJoined = ordinary | spliced | seamed

// decline ends the short way of an ordinary connection's packet for that of c, which was
// caught. One that is joined stays so, for carryJoined.
func (w *Worker) decline(c *conntrack.Conn) {
	if c.Flags&spliced == 0 {
		c.Release()
		return
	}
	w.caught = c
}

// carryJoined carries the i-th packet of the batch, which is of the connection that decline
// has left caught, if that is all there is to do with it.
func (w *Worker) carryJoined(j *job, i uint8) bool {
	c := w.caught
	w.caught = nil
	if j.role == virtual {
		return w.joinedInbound(j, c, i)
	}
	return w.joinedOutbound(j, c, i)
}

// joinedInbound is carryJoined for a client's packet.
func (w *Worker) joinedInbound(j *job, c *conntrack.Conn, i uint8) bool {
	p, id := &j.plain, c.Binding()
	hop := w.followInbound(c, w.view.targets[id], p, i, ordinaryJoined)
	if hop == nil {
		c.Release()
		return false
	}
	row := w.ledger.row(id)
	row.InPackets++
	row.InBytes += uint64(p.IPLen())
	m := w.caughtSeam(c, i)
	real := &w.conns.Binding(id).Real
	src, dst := &w.conns.Local(c.Local).Addr, &real.Addr
	course := packet.Course{
		Addrs: packet.Pair4(src, dst), Ports: uint32(c.LocalPort)<<16 | uint32(real.Port),
		Numbers: uint64(c.SeqDelta)<<32 | uint64(-c.AckDelta), Stamps: uint64(c.TimestampDelta)<<32 | uint64(-m.clock),
	}
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	c.Release()
	p.ScaleWindow(m.inbound())
	w.sendPlain(j, hop, course)
	return true
}

// joinedOutbound is carryJoined for a real server's packet.
func (w *Worker) joinedOutbound(j *job, c *conntrack.Conn, i uint8) bool {
	p, id := &j.plain, c.Binding()
	t := w.view.targets[id]
	seq, next, ack := p.Numbers()
	var hop *route.Hop
	if repeated := seq == next && repeats(c, seq, ack); !repeated && !t.converts && w.isOrdinary(c, ordinaryJoined) {
		hop = w.plainHop(c.ToClient, p)
	}
	if hop == nil || (!t.steady(c, p) || !c.Extend(t.silence, w.now)) && !w.shortMove(c, t, p, i) {
		c.Release()
		return false
	}
	row := w.ledger.row(id)
	row.OutPackets++
	row.OutBytes += uint64(p.IPLen())
	w.greet(c)
	if packet.SeqLess(c.RealSeq, next) {
		c.RealSeq = next
	}
	if packet.SeqLess(c.RealAck, ack) {
		c.RealAck = ack
	}
	m := w.caughtSeam(c, i)
	virtual := &w.conns.Binding(id).Virtual
	src, dst := &virtual.Addr, &c.Client
	course := packet.Course{
		Addrs: packet.Pair4(src, dst), Ports: uint32(virtual.Port)<<16 | uint32(c.ClientPort),
		Numbers: uint64(c.AckDelta)<<32 | uint64(-c.SeqDelta), Stamps: uint64(m.clock)<<32 | uint64(-c.TimestampDelta),
	}
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	c.Release()
	p.ScaleWindow(m.outbound())
	w.sendPlain(j, hop, course)
	return true
}

// sendPlain sends a job's plain packet by a hop.
func (w *Worker) sendPlain(j *job, hop *route.Hop, course packet.Course) {
	j.plain.Forward(&hop.Dst, &hop.Src, course)
	at, size := j.plain.Untagged()
	w.queue(hop.Port, xsk.Desc{Addr: j.addr + uint64(at), Len: uint32(size)})
}
