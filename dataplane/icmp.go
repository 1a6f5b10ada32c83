package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
)

// An ICMP error comes back to whoever sent the packet that it quotes. For a
// packet that fnatd has rewritten that is fnatd, and it passes the error on to the
// end that sent it first, with the quote as that end knows it. Errors of fnatd's
// own, about packets that it cannot forward, are below.

// Our choices.
const (
	// errorWindow bounds how far the quoted sequence number may be from what the
	// other end has acknowledged (RFC 5927, section 4.1): what Linux lets a
	// connection have under way by default. A guess passes once in a thousand.
	errorWindow = 4 << 20

	// Errors that a worker passes on or sends: one each millisecond, and so many at
	// once (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)).
	errorBurst = 100
)

// icmp handles an ICMP message: an error about a packet of ours, or the echo reply
// to a notice. The XDP program lets no other one up.
func (w *Worker) icmp(j *job) packet.Reason {
	p := &j.p
	switch {
	case !p.IsError():
		return w.notice(p)
	case p.TTL() <= 1:
		return packet.TTLExceeded
	case !w.mayReport():
		return packet.ErrorLimit
	}
	q, _ := p.Quoted()
	// The connection knows the flow that the quoted packet answers.
	flow := packet.Flow{Src: q.Dst, SrcPort: q.DstPort, Dst: q.Src, DstPort: q.SrcPort, Proto: q.Proto}
	switch w.view.addrs.role(&q.Src) {
	case virtual:
		return w.errorToReal(j, &flow)
	case local:
		return w.errorToClient(j, &flow)
	default:
		return packet.NotOurs
	}
}

// errorToReal passes on an error about a packet to a client; f is the client's
// flow.
func (w *Worker) errorToReal(j *job, f *packet.Flow) packet.Reason {
	k := w.conns.InboundKey(f)
	s := w.conns.Lock(k)
	defer s.Unlock()
	c := s.Find(k, f)
	if c == nil {
		return packet.NoConn
	}
	shift := ackShift(c, f.Proto)
	if seq, ok := j.p.QuotedSeq(); ok && (connecting(c) || !packet.SeqInWindow(seq-shift, c.RealSeq-errorWindow, errorWindow+1)) {
		return packet.StaleQuote
	}
	hop, why := w.toReal(c)
	if why != packet.Kept {
		return why
	}
	b, lip := w.conns.Binding(c.Binding()), w.conns.Local(c.Local)
	return w.leaveError(j, hop, &packet.ErrorRewrite{
		Src:       lip.Addr,
		QuotedSrc: b.Real,
		QuotedDst: packet.Endpoint{Addr: lip.Addr, Port: c.LocalPort},
		SeqDelta:  -shift,
	})
}

// errorToClient passes on an error about a packet to a real server; f is the real
// server's flow. A reported MTU becomes less by what fnatd inserts.
func (w *Worker) errorToClient(j *job, f *packet.Flow) packet.Reason {
	k := w.conns.OutboundKey(f)
	s := w.conns.Lock(k)
	defer s.Unlock()
	c := s.Find(k, f)
	if c == nil {
		return packet.NoConn
	}
	first := c.RealAck
	if !heardReal(c) { // RealAck is in expectation of the SYN's acknowledgement
		first--
	}
	if seq, ok := j.p.QuotedSeq(); ok && !packet.SeqInWindow(seq, first, errorWindow) {
		return packet.StaleQuote
	}
	w.noteError(c, &j.p)
	hop, why := w.toClient(c)
	if why != packet.Kept {
		return why
	}
	inserted := 0
	if f.Proto == packet.ProtoTCP && c.Flags&clientTold == 0 {
		inserted = w.view.targets[c.Binding()].Service.optionLen(&c.Client)
	}
	virtual := w.conns.Binding(c.Binding()).Virtual
	return w.leaveError(j, hop, &packet.ErrorRewrite{
		Src:       virtual.Addr,
		QuotedSrc: packet.Endpoint{Addr: c.Client, Port: c.ClientPort},
		QuotedDst: virtual,
		SeqDelta:  seqBack(c, f.Proto),
		MTUDelta:  -inserted,
	})
}

// ackShift returns what was added to a sequence number of the real server's for the
// client to know.
func ackShift(c *conntrack.Conn, proto uint8) uint32 {
	if proto != packet.ProtoTCP {
		return 0 // UDP has other things in the field
	}
	return c.AckDelta
}

// seqBack returns what is added to a sequence number that the real server knows to
// get the client's.
func seqBack(c *conntrack.Conn, proto uint8) uint32 {
	if proto != packet.ProtoTCP {
		return 0 // UDP has other things in the field
	}
	return -c.SeqDelta
}

// leaveError rewrites an error and hands it to the interface of its next hop.
func (w *Worker) leaveError(j *job, hop *route.Hop, e *packet.ErrorRewrite) packet.Reason {
	if why := j.p.RewriteError(e); why != packet.Kept {
		return why
	}
	if j.p.IPLen() > hop.MTU {
		return packet.TooBig
	}
	j.p.DecrementTTL()
	w.counts.Events[ErrorPassed]++
	return j.address(hop)
}

// tooBig tells the sender of a packet, from whom it came by port, that it exceeds
// mtu, and returns the reason to drop it.
func (w *Worker) tooBig(j *job, mtu int) packet.Reason {
	w.report(j, &packet.Error{Kind: packet.ErrorTooBig, MTU: mtu, From: j.p.Flow.Dst, About: &j.p})
	return packet.TooBig
}

// ttlExceeded does the same for a packet whose TTL has run out.
func (w *Worker) ttlExceeded(j *job) packet.Reason {
	if j.role != foreign {
		w.report(j, &packet.Error{Kind: packet.ErrorTimeExceeded, From: j.p.Flow.Dst, About: &j.p})
	}
	return packet.TTLExceeded
}

// report sends an error about a packet back to where its frame came from.
func (w *Worker) report(j *job, e *packet.Error) {
	back := w.hops.Hop(w.router.Reflect(j.port, j.p.Ethernet().Src(), j.p.Ethernet().VLANs()))
	if !back.Resolved || !w.mayReport() {
		return
	}
	o, ok := w.originate(back)
	if !ok {
		return
	}
	end, ok := packet.BuildError(o.buf, o.start, e)
	if !ok {
		w.umem.Free(o.addr)
		return
	}
	o.send(end)
	w.counts.Events[ErrorSent]++
}

// mayReport reports whether one more error may be passed on or sent now, and
// counts it.
func (w *Worker) mayReport() bool {
	w.errors = min(w.errors+w.now-w.errorsAt, errorBurst)
	w.errorsAt = w.now
	if w.errors == 0 {
		return false
	}
	w.errors--
	return true
}
