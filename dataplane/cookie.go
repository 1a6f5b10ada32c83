package dataplane

import (
	"math"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/synproxy"
)

// SYNPROXY, first half: a SYN is answered from itself, by a cookie, and nothing of
// it is kept; a segment that belongs to no connection may bring the cookie back.
// The XDP program answers in the same way what it can. The second half, joining the
// client to a real server, is in join.go.

// opens reports whether p begins a connection.
func opens(p *packet.Packet) bool {
	return p.Flow.Proto == packet.ProtoTCP && p.Flags&(packet.SYN|packet.ACK|packet.RST|packet.FIN) == packet.SYN
}

// answer makes a SYN to a guarded service its SYN-ACK, which goes back to where the
// SYN came from: no route is looked up for an address that may be forged. Options
// that it does not know, and data, are left out.
func (w *Worker) answer(j *job, svc *Service) packet.Reason {
	p := &j.p
	w.syns++
	if j.why == packet.Fragment {
		return packet.Fragment
	}
	tally := w.tally.of(svc)
	tally[GuardSYN]++
	syn, isn := p.SYNOptions(), p.TCP().Seq()
	options := optionsOf(&syn)
	offer := svc.Guard.Offer(w.cookies.Current)
	offer = offer.Answer(&options)
	var link [packet.MaxEthernetLen]byte
	linkLen := copy(link[:], p.Ethernet())
	segment := packet.Segment{
		Src: p.Flow.Destination(), Dst: p.Flow.Source(),
		Seq: w.cookies.Cookie(&p.Flow, isn, &options), Ack: isn + 1,
		Flags: packet.SYN | packet.ACK, Window: offer.Window,
	}
	w.say(&segment.Options, &offer, syn.Val)
	w.freeTail(j)
	p.Build(p.Buf, xsk.Headroom, &segment)
	p.AnswerLink(link[:linkLen])
	j.mtu = math.MaxInt
	tally[GuardCookie]++
	return packet.Kept
}

// optionsOf returns what a SYN with these options offers.
func optionsOf(s *packet.SYNOptions) synproxy.Options {
	return synproxy.Options{MSS: s.MSS, Scale: s.Scale, SACK: s.SACK, Timestamps: s.Timestamps}
}

// say makes o the options of a SYN-ACK that says offer and echoes a clock. It sets them
// one by one, see packet.PlainSYN.
func (w *Worker) say(o *packet.SYNOptions, offer *synproxy.Offer, ecr uint32) {
	o.MSS, o.Scale, o.SACK, o.Timestamps = offer.MSS, offer.Scale, offer.SACK, offer.Timestamps
	o.Val, o.Ecr = w.cookieClock, ecr
}

// prove handles a TCP segment of no connection that is not a SYN: if it brings a
// good cookie, there is a client who wants one.
func (w *Worker) prove(j *job) packet.Reason {
	p := &j.p
	if p.Flags&(packet.SYN|packet.ACK|packet.RST) != packet.ACK || j.why == packet.Fragment {
		return packet.NoConn
	}
	svc := w.view.service(p.Flow.Proto, p.Flow.Destination())
	if svc == nil || !svc.Guard.accepts.Load() {
		return packet.NoConn
	}
	tally := w.tally.of(svc)
	isn, options, ok := w.proof(p)
	if !ok {
		tally[GuardBad]++
		if svc.SYNProxy.ResetBadACKs {
			w.resetSender(j)
		}
		return packet.BadCookie
	}
	tally[GuardGood]++
	if svc.SYNProxy.Defer && !carries(p) {
		tally[GuardDeferred]++
		return packet.CookieACK
	}
	return w.join(j, svc, isn, &options)
}

// proof looks for a good cookie in an ACK, and returns the client's initial sequence
// number and what its SYN offered. The handshake's third segment proves it, or the
// first data if that was lost, or a probe of the window, which is one number back.
func (w *Worker) proof(p *packet.Packet) (isn uint32, o synproxy.Options, ok bool) {
	t := p.TCP()
	isn = t.Seq() - 1
	cookie := t.Ack() - 1
	if o, ok = w.cookies.Check(&p.Flow, isn, cookie); ok || carries(p) {
		return isn, o, ok
	}
	isn++
	o, ok = w.cookies.Check(&p.Flow, isn, cookie)
	return isn, o, ok
}

// carries reports whether p brings something that its receiver acknowledges.
func carries(p *packet.Packet) bool {
	return p.Flags.Has(packet.FIN) || p.Payload < p.End || p.Tail > 0
}

// resetSender answers a segment that belongs to no connection as a host does: RFC
// 9293, section 3.10.7.1.
func (w *Worker) resetSender(j *job) {
	link := j.p.Ethernet()
	back := w.hops.Hop(w.router.Reflect(j.port, link.Src(), link.VLANs()))
	if !back.Resolved || !w.mayReport() {
		return
	}
	w.sendReset(back, &packet.Reset{Src: j.p.Flow.Destination(), Dst: j.p.Flow.Source(), Seq: j.p.TCP().Ack()})
}
