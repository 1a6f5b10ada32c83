package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/synproxy"
)

// SYNPROXY, second half: a client that has proven itself is connected to a real
// server by a handshake of fnatd's own, and the two are joined.
//
//	client                 fnatd                       real server
//	  SYN ──────────────────▶│                               │   nothing is kept
//	  ◀────── SYN-ACK, cookie│                               │
//	  ACK, cookie ──────────▶│ SYN ─────────────────────────▶│   SYN_SENT; repeated
//	  data ─────────────────▶│ held                          │
//	                         │◀────────────────────── SYN-ACK│
//	                         │ ACK with the client's address▶│   ESTABLISHED
//	                         │ data that was held ──────────▶│
//	  ◀══════════ numbers, windows and clocks shifted ══════▶│   seam.go
//
// While the real server has not answered, the connection's AckDelta is an opening
// and its RealSeq the clock value of the SYN; RealAck is what the SYN-ACK must
// acknowledge, FirstData the cookie plus one, as it will stay.

// Our choices for the SYN to a real server: the same data center answers within
// milliseconds, so what has not come after half a second was lost.
const (
	firstRetry = 500 // ms; doubles with each retry
	maxMoves   = 1   // other real servers that are tried
)

// An opening is what is known of a client whose real server is being connected.
//
//	31-23   what its SYN offered: synproxy.Options.Pack
//	22-20   SYNs to this real server after the first
//	19-16   real servers tried before this one
//	15-0    window of its last segment
type opening uint32

const (
	openingOptions = 23
	openingTries   = 20
	openingMoves   = 16
)

func newOpening(o *synproxy.Options, is4 bool, window uint16) opening {
	return opening(o.Pack(is4))<<openingOptions | opening(window)
}

func (o opening) options(is4 bool) synproxy.Options {
	return synproxy.Unpack(uint16(o>>openingOptions), is4)
}
func (o opening) tries() int     { return int(o >> openingTries & 7) }
func (o opening) moves() int     { return int(o >> openingMoves & 15) }
func (o opening) window() uint16 { return uint16(o) }

// tried, moved and seen return o after one more SYN, at another real server, and
// with another window.
func (o opening) tried() opening          { return o + 1<<openingTries }
func (o opening) moved() opening          { return o&^(7<<openingTries) + 1<<openingMoves }
func (o opening) seen(win uint16) opening { return o&^0xffff | opening(win) }

// connecting reports whether c waits for its real server to answer fnatd's SYN.
func connecting(c *conntrack.Conn) bool { return c.State == conntrack.SynSent && c.Flags&spliced != 0 }

// join makes the connection of a client that has proven itself, and begins to
// connect it to a real server.
func (w *Worker) join(j *job, svc *Service, isn uint32, o *synproxy.Options) packet.Reason {
	p := &j.p
	s, c, made, why := w.place(j, svc)
	if why != packet.Kept { // the client believes that it is connected
		w.tally.of(svc)[GuardFailed]++
		w.resetSender(j)
		return why
	}
	defer s.Unlock()
	if !made {
		return w.fromClient(s, c, j)
	}
	s.Begin(c, true)
	c.Flags |= spliced
	c.FirstData = p.TCP().Ack()
	c.AckDelta = uint32(newOpening(o, c.Client.Is4(), p.TCP().Window()))
	val, _, _ := p.Timestamps()
	w.number(c, isn, val)
	s.SetState(c, conntrack.SynSent, firstRetry, w.now)
	s.Commit()
	w.visit(c)
	w.sendSYN(c)
	return w.hold(c, j)
}

// number gives a connection towards a new real server its initial sequence number
// and its clock there; isn and val are the client's.
func (w *Worker) number(c *conntrack.Conn, isn, val uint32) {
	hash := w.hashEnds(c)
	first := w.isnClock + uint32(hash)
	c.SeqDelta, c.RealAck = first-isn, first+1
	c.RealSeq = w.timestampClock + uint32(hash>>32)
	c.TimestampDelta = c.RealSeq - val
}

// promised returns what the client of a connection with a cookie offered, and what
// the SYN-ACK with that cookie told it.
func promised(c *conntrack.Conn, svc *Service) (client synproxy.Options, told synproxy.Offer) {
	client = opening(c.AckDelta).options(c.Client.Is4())
	told = svc.Guard.Offer(synproxy.Parity(c.FirstData - 1))
	return client, told.Answer(&client)
}

// sendSYN sends the SYN of c to its real server, as the client would have sent it,
// less what the client was not granted.
func (w *Worker) sendSYN(c *conntrack.Conn) {
	hop, why := w.toReal(c)
	if why != packet.Kept {
		return // and sent again later
	}
	svc := w.view.targets[c.Binding()].Service
	real, lip := w.conns.Binding(c.Binding()).Real, w.conns.Local(c.Local)
	client, told := promised(c, svc)
	window := opening(c.AckDelta).window()
	scale := told.Scale
	if scale != synproxy.NoScale {
		scale = client.Scale
		window = packet.ScaleWindow(window, int(scale)) // in a SYN it is never scaled: RFC 7323, section 2.2
	}
	syn := packet.Segment{
		Src: packet.Endpoint{Addr: lip.Addr, Port: c.LocalPort}, Dst: real,
		Seq: c.RealAck - 1, Flags: packet.SYN, Window: window,
		Options: packet.SYNOptions{
			MSS: packet.LoweredMSS(client.MSS, uint16(max(gap(c.Client.Is4(), real.Addr), 0))), Scale: scale, SACK: told.SACK,
			Timestamps: told.Timestamps, Val: c.RealSeq,
		},
	}
	if svc.OptionOnSYN {
		syn.Option = w.encodeClient(c, svc)
	}
	w.originateSegment(hop, &syn)
}

// encodeClient returns the client-address option for c, empty if the service has
// none for such a client.
func (w *Worker) encodeClient(c *conntrack.Conn, svc *Service) []byte {
	n := svc.optionLen(&c.Client)
	if n > 0 {
		svc.Option.Encode(w.option[:], packet.Endpoint{Addr: c.Client, Port: c.ClientPort})
	}
	return w.option[:n]
}

// opened handles what the real server of a connection says to fnatd's SYN: RFC 9293,
// section 3.10.7.3.
func (w *Worker) opened(s *conntrack.Shard, c *conntrack.Conn, t *Target, j *job) packet.Reason {
	p := &j.p
	acks := p.Flags.Has(packet.ACK) && p.TCP().Ack() == c.RealAck
	switch {
	case j.why == packet.Fragment:
		return packet.Fragment
	case p.Flags.Has(packet.RST):
		if !acks {
			return packet.NoConn
		}
		w.tally.of(t.Service)[GuardRefused]++
		w.ledger.row(c.Binding()).Refused++
		w.fail(s, c, t)
		return packet.Refused
	case p.Flags.Has(packet.ACK) && !acks:
		// It still has a connection of the port's past. A RST ends that, and the SYN
		// is sent again.
		if hop, why := w.toReal(c); why == packet.Kept {
			w.sendReset(hop, &packet.Reset{Src: p.Flow.Destination(), Dst: p.Flow.Source(), Seq: p.TCP().Ack()})
		}
		return packet.NoConn
	case p.Flags.Has(packet.SYN | packet.ACK):
		return w.splice(s, c, t, j)
	default:
		return packet.NoConn
	}
}

// splice joins the two halves of c, by the real server's SYN-ACK. That one's frame
// becomes the third segment of the handshake, with the client's address.
func (w *Worker) splice(s *conntrack.Shard, c *conntrack.Conn, t *Target, j *job) packet.Reason {
	hop, why := w.toReal(c)
	if why != packet.Kept {
		return why
	}
	p, svc := &j.p, t.Service
	real, isn := p.SYNOptions(), p.TCP().Seq()
	client, told := promised(c, svc)
	window := opening(c.AckDelta).window()
	third := packet.Segment{
		Src: p.Flow.Destination(), Dst: p.Flow.Source(), Seq: c.RealAck, Ack: isn + 1, Flags: packet.ACK,
		Options: packet.SYNOptions{
			Scale: packet.NoScale, Timestamps: told.Timestamps && real.Timestamps, Val: c.RealSeq, Ecr: real.Val,
		},
		Option: w.encodeClient(c, svc),
	}
	w.greet(c)
	w.count(j, c.Binding(), outboundPacket)
	w.learn(t, c, &real, p.TCP().Window(), &told)
	s.Begin(c, false)
	c.AckDelta = c.FirstData - 1 - isn
	c.RealSeq = isn + 1
	w.setState(s, c, t, conntrack.Established)
	tally := w.tally.of(svc)
	tally[GuardJoined]++
	if told.Timestamps && !real.Timestamps {
		tally[GuardMismatch]++
	}
	seam := newSeam(&client, &told, &real, w.cookieClock)
	seam.store(s, c)
	s.Commit()
	third.Window = packet.ScaleWindow(window, seam.inbound())
	if len(third.Option) > 0 {
		w.ledger.row(c.Binding()).Inserted++
	}
	w.release(c)
	w.freeTail(j)
	p.Build(p.Buf, xsk.Headroom, &third)
	return j.address(hop)
}

// fail tells the client of c that there will be no connection, by a RST that it
// believes. For a while c still swallows what the client had under way.
func (w *Worker) fail(s *conntrack.Shard, c *conntrack.Conn, t *Target) {
	w.tally.of(t.Service)[GuardFailed]++
	w.resetClient(c, c.FirstData)
	c.Flags |= refused
	w.setState(s, c, t, conntrack.Closed)
	w.release(c)
}

// abandon ends a connection of which its client wants no more. The real server is
// told, and what is held is dropped.
func (w *Worker) abandon(s *conntrack.Shard, c *conntrack.Conn) {
	f := w.conns.InboundFlow(c)
	w.dropHeld(w.conns.InboundKey(&f))
	if c.Flags&refused == 0 {
		w.resetReal(c)
	}
	w.ended(c)
	s.Remove(c)
}

// returns reports whether an ACK that came by the flow of c begins another connection
// of the same client: one whose host has lost the old one, and whose SYN was answered by
// a cookie.
func (w *Worker) returns(c *conntrack.Conn, p *packet.Packet) bool {
	if p.Flow.Proto != packet.ProtoTCP || p.Flags&(packet.SYN|packet.RST|packet.ACK) != packet.ACK {
		return false
	}
	tcp := p.TCP()
	switch {
	case c.Flags&spliced != 0 && tcp.Ack() == c.FirstData: // its own cookie
		return false
	case !connecting(c) && goesOn(c, tcp.Seq(), tcp.Ack()):
		return false
	}
	svc := w.view.targets[c.Binding()].Service
	if !svc.Guard.accepts.Load() {
		return false
	}
	_, _, ok := w.proof(p)
	return ok
}

// maxInFlight is how many bytes of either end may be on their way. Our choice: Linux's
// largest receive buffer (tcp_rmem).
const maxInFlight = 32 << 20

// goesOn reports whether a client's segment with these numbers, as the client has them, is
// one of c by all that c knows. If it is not, its cookie decides, and one number in two million
// is a good one: a fast download has as many ACKs in a minute, so a cookie alone proves nothing.
// Nor do the client's numbers alone: the initial ones of its next connection are near, if that
// comes at once. What it acknowledges is random then, but of a number that the real server has sent.
func goesOn(c *conntrack.Conn, seq, ack uint32) bool {
	next := c.RealSeq + c.AckDelta
	unacked, sent := next-ack, next-c.FirstData
	if unacked == 0 {
		return true
	}
	ahead := seq + c.SeqDelta - c.RealAck
	return unacked <= min(sent, maxInFlight) && ahead+maxInFlight <= 2*maxInFlight
}

// retry is due for a connection whose real server has not answered: it sends the SYN
// again, or to another real server, or gives up. It returns what due does.
func (w *Worker) retry(s *conntrack.Shard, c *conntrack.Conn) uint32 {
	t := w.view.targets[c.Binding()]
	svc, o := t.Service, opening(c.AckDelta)
	tally := w.tally.of(svc)
	switch {
	case o.tries() < svc.SYNProxy.Retries:
		c.AckDelta = uint32(o.tried())
		tally[GuardRetried]++
		w.ledger.row(c.Binding()).Unanswered++
	default:
		tally[GuardSilent]++
		w.ledger.row(c.Binding()).Unanswered++
		if o.moves() >= maxMoves || !w.move(s, c, t) {
			w.fail(s, c, t)
			return svc.timeouts[conntrack.Closed]
		}
		c.AckDelta = uint32(o.moved())
		tally[GuardMoved]++
	}
	w.sendSYN(c)
	return firstRetry << opening(c.AckDelta).tries()
}

// move gives c, whose real server does not answer, another one of its service. It
// reports false if there is none.
func (w *Worker) move(s *conntrack.Shard, c *conntrack.Conn, t *Target) bool {
	virtual := w.conns.Binding(c.Binding()).Virtual
	svc := w.view.service(packet.ProtoTCP, virtual) // as it is now: c's may have left
	if svc == nil {
		return false
	}
	server := svc.another(w.conns.Binding(c.Binding()).Real)
	if server == nil {
		return false
	}
	isn, val := c.RealAck-1-c.SeqDelta, c.RealSeq-c.TimestampDelta
	s.Begin(c, false)
	defer s.Commit()
	if s.Rebind(c, svc.bindings[server.Index], svc.locals, nil) != packet.Kept {
		return false
	}
	t.Server.Load.Add(0, -1)
	server.Load.Opened()
	w.ledger.row(c.Binding()).Connections++
	w.lookUpHops(c)
	w.number(c, isn, val)
	return true
}

// another returns the next server after the one at silent that may take a connection,
// or nil. The scheduler is not asked: what it has chosen in turn would make others'
// turns come to the silent one.
func (s *Service) another(silent packet.Endpoint) *lb.Server {
	at := 0
	for i, server := range s.Servers {
		if server.Real == silent {
			at = i
		}
	}
	for i := range s.Servers {
		server := s.Servers[(at+1+i)%len(s.Servers)]
		if server.Real != silent && server.Available() {
			return server
		}
	}
	return nil
}
