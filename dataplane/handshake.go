package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// shortAnswer carries a real server's SYN-ACK, whose options it reads and changes, the
// short way, if they are where Linux has them. It is what trackOutbound does with such.
func (w *Worker) shortAnswer(j *job, i uint8) bool {
	p := &j.plain
	var said packet.Handshake
	if !p.Handshake(&said) {
		return false
	}
	c, b := w.conns.CatchOutbound(w.lookups.Hint(i), p)
	if c == nil {
		return false
	}
	id := c.Binding()
	t := w.view.targets[id]
	hop := w.shortHop(c, c.ToClient, p)
	if hop == nil || t.converts || !w.shortMove(c, t, p, i) {
		c.Release()
		return false
	}
	seq, next, ack := p.Numbers()
	c.RealSeq, c.FirstData = next, seq+c.AckDelta+1
	c.Flags &^= clientTold
	if packet.SeqLess(c.RealAck, ack) {
		c.RealAck = ack
	}
	w.learn(t, c, &said.SYNOptions, p.Window(), nil)
	row := w.ledger.row(id)
	row.OutPackets++
	row.OutBytes += uint64(p.IPLen())
	w.greet(c)
	src, dst := &b.Virtual.Addr, &c.Client
	course := packet.Course{
		Addrs: packet.Pair4(src, dst), Ports: uint32(b.Virtual.Port)<<16 | uint32(c.ClientPort),
		Numbers: uint64(-c.SeqDelta), Stamps: uint64(-c.TimestampDelta),
	}
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	mss := packet.LoweredMSS(said.MSS, uint16(t.Service.optionLen(c.Client)))
	c.Release()
	p.ForwardHandshake(&hop.Dst, &hop.Src, course, &said, mss)
	at, size := p.Untagged()
	w.queue(hop.Port, xsk.Desc{Addr: j.addr + uint64(at), Len: uint32(size)})
	return true
}

// shortSYN does with the SYN that prepare has found, and for which c was made, what forward
// does, without asking all that forward asks, if it can.
func (w *Worker) shortSYN(s *conntrack.Shard, c *conntrack.Conn, j *job) bool {
	p, id := &j.plain, c.Binding()
	t := w.view.targets[id]
	var said packet.Handshake
	known := p.Handshake(&said)
	hop := w.shortHop(c, c.ToReal, p)
	at, _ := p.Untagged()
	b := w.conns.Binding(id)
	src, dst := &w.conns.Local(c.Local).Addr, &b.Real.Addr
	if !known || hop == nil || at != 0 || t.converts || t.Service.StripTimestamps || t.Service.inserts && t.Service.OptionOnSYN {
		return false
	}
	w.begin(s, c, t, &j.p)
	row := w.ledger.row(id)
	row.InPackets++
	row.InBytes += uint64(p.IPLen())
	w.visit(c)
	course := packet.Course{
		Addrs: packet.Pair4(src, dst), Ports: uint32(c.LocalPort)<<16 | uint32(b.Real.Port),
		Numbers: uint64(c.SeqDelta) << 32, Stamps: uint64(c.TimestampDelta) << 32,
	}
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	p.ForwardHandshake(&hop.Dst, &hop.Src, course, &said, said.MSS)
	j.port, j.mtu = hop.Port, hop.MTU
	return true
}
