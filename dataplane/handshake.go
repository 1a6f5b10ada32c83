package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
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
	var hop *route.Hop
	if w.isOrdinary(c, ordinary) {
		hop = w.plainHop(c.ToClient, p)
	}
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
	mss := packet.LoweredMSS(said.MSS, uint16(t.Service.optionLen(&c.Client)))
	c.Release()
	p.ForwardHandshake(&hop.Dst, &hop.Src, course, &said, mss)
	at, size := p.Untagged()
	w.queue(hop.Port, xsk.Desc{Addr: j.addr + uint64(at), Len: uint32(size)})
	return true
}

// shortSYN makes the connection of a SYN for which prepare has found all, and carries that, if
// nothing else is to be done for it. It is what admit does with such.
//
// Otherwise it prepares the SYN for the long way.
func (w *Worker) shortSYN(j *job) bool {
	server := j.server
	if w.openShort(j) {
		return true
	}
	w.lengthen(j, j.key)
	j.server = server
	return false
}

// openShort is shortSYN, but for that.
func (w *Worker) openShort(j *job) bool {
	p, f, server := &j.plain, &j.p.Flow, j.server
	svc := w.view.Services[server.Service.Index]
	id := svc.bindings[server.Index]
	claim, ends := w.openings.claims.At(int(j.opening)), w.openings.ends.sums[j.opening%batchSize]
	b := w.conns.Binding(id)
	src, dst := &w.conns.Local(claim.Local()).Addr, &b.Real.Addr
	var said packet.Handshake
	if w.view.targets[id].converts || w.reflect || svc.StripTimestamps || svc.inserts && svc.OptionOnSYN || !p.Handshake(&said) {
		return false
	}
	toReal, toClient := w.realHop(id), w.clientHop(j.opening, f)
	hop := w.plainHop(uint16(toReal), p)
	if hop == nil || toClient != 0 && !w.hops.Hop(toClient).Resolved || !w.reserve() {
		return false
	}
	s := w.conns.Lock(j.key)
	w.foreseeClaim()
	c := s.InsertNew(j.key, f, id, claim, w.now)
	if c == nil {
		s.Unlock()
		w.conns.Release()
		return false
	}
	j.server = nil
	w.admitted = true
	w.tally.of(svc)[GuardOpened]++
	s.Touch(c, svc.timeouts[conntrack.SynReceived], w.now)
	seq, _, _ := p.Numbers()
	isn := w.isnClock + uint32(ends)
	c.SeqDelta, c.RealAck = isn-seq, isn+1
	if said.Timestamps {
		c.TimestampDelta = w.timestampClock + uint32(ends>>32) - said.Val
	}
	c.HopGen, c.ToReal, c.ToClient = w.hops.Generation(), uint16(toReal), uint16(toClient)
	w.visit(c)
	course := packet.Course{
		Addrs: packet.Pair4(src, dst), Ports: uint32(c.LocalPort)<<16 | uint32(b.Real.Port),
		Numbers: uint64(c.SeqDelta) << 32, Stamps: uint64(c.TimestampDelta) << 32,
	}
	s.Unlock()
	row := w.ledger.row(id)
	row.Connections++
	row.InPackets++
	row.InBytes += uint64(p.IPLen())
	if p.Is6() {
		course.Addrs = p.SetAddrs6(src, dst)
	}
	p.ForwardHandshake(&hop.Dst, &hop.Src, course, &said, said.MSS)
	at, size := p.Untagged()
	w.queue(hop.Port, xsk.Desc{Addr: j.addr + uint64(at), Len: uint32(size)})
	return true
}
