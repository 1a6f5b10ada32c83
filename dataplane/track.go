package dataplane

import (
	"encoding/binary"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
)

// Flags of a connection. The highest three bits are those of homeMask.
const (
	clientTold  uint8 = 1 << iota // TCP: the real server knows the client's address
	noticeAcked                   // UDP: it has acknowledged the notice of it
	spliced                       // TCP: the client came by a cookie
	seamed                        // TCP: and there is a seam, see there
	refused                       // TCP: and no real server has taken it
)

// reuseGap is how far a connection begun in the place of an old one starts
// beyond what the real server has acknowledged of that, at least.
const reuseGap = 1 << 16

// trackInbound follows a client's segment through connection c and moves its
// sequence number into the space that the real server knows.
func (w *Worker) trackInbound(s *conntrack.Shard, c *conntrack.Conn, t *Target, p *packet.Packet) {
	to := conntrack.NextState(c.State, false, p.Flags)
	switch {
	case p.Flags.Has(packet.SYN) && to == conntrack.SynReceived:
		w.begin(s, c, t, p)
	case to == conntrack.Established && c.State == conntrack.SynReceived:
		w.tally.of(t.Service)[GuardEstablished]++
		w.setState(s, c, t, to)
	case p.Flags.Has(packet.RST):
		w.inboundReset(s, c, t, p, to)
	default:
		w.setState(s, c, t, to)
	}
	p.AddSeq(c.SeqDelta)
	p.ShiftTimestamps(c.TimestampDelta, 0)
	if c.Flags&spliced != 0 {
		w.inboundSeam(s, c, p)
	}
	if p.Flags.Has(packet.SYN) {
		if t.Service.StripTimestamps {
			p.BlankTimestamps()
		}
		w.lowerMSS(p, w.conns.Binding(c.Binding()).Real.Addr, 0)
	}
	if n := p.StripOptions(w.view.forged); n > 0 {
		w.ledger.row(c.Binding()).Forged += uint64(n)
	}
}

// begin gives a connection that a SYN opens, or opens anew in its old place,
// its initial sequence number towards the real server. A retransmitted SYN
// keeps the one it had.
func (w *Worker) begin(s *conntrack.Shard, c *conntrack.Conn, t *Target, p *packet.Packet) {
	seq := p.TCP().Seq()
	timeout := t.Service.timeouts[conntrack.SynReceived]
	used := c.RealAck != 0
	if used && c.State == conntrack.SynReceived && seq+c.SeqDelta+1 == c.RealAck {
		w.noteRetry(c)
		s.Touch(c, timeout, w.now)
		return
	}
	last := c.RealAck
	if used {
		s.Restart(c, conntrack.SynReceived, timeout, w.now)
		w.counts.Events[ConnReused]++
	} else {
		s.SetState(c, conntrack.SynReceived, timeout, w.now)
	}
	hash := w.hashEnds(c)
	isn := w.isnClock + uint32(hash)
	if used && packet.SeqLess(isn, last+reuseGap) { // the old connection was faster than the clock
		isn = last + reuseGap
	}
	c.SeqDelta = isn - seq
	c.RealAck = isn + 1
	if val, _, ok := p.Timestamps(); ok {
		c.TimestampDelta = w.timestampClock + uint32(hash>>32) - val
	}
}

// hashEnds returns a keyed hash of c's ends towards its real server. Its lower
// half, added to a clock, is an initial sequence number that only grows for the
// same pair of ends (RFC 6528, section 3), so that a reused local port is accepted
// by a real server that still holds the last connection in TIME_WAIT. Its upper
// half does the same for timestamps (RFC 7323, section 5.4): clients have unrelated
// clocks, and PAWS would refuse one that is behind the last on that port.
func (w *Worker) hashEnds(c *conntrack.Conn) uint64 {
	return w.isnKey.Sum5(endsWords(c.LocalPort, &w.conns.Local(c.Local).Addr, &w.conns.Binding(c.Binding()).Real))
}

// endsWords returns what is hashed of these ends.
func endsWords(lport uint16, lip *packet.Addr, real *packet.Endpoint) (a, b, c, d, e uint64) {
	return binary.LittleEndian.Uint64(lip[:8]), binary.LittleEndian.Uint64(lip[8:]),
		binary.LittleEndian.Uint64(real.Addr[:8]), binary.LittleEndian.Uint64(real.Addr[8:]),
		uint64(lport)<<16 | uint64(real.Port)
}

// inboundReset lets a client's RST close the connection only where the real
// server will believe it. RFC 5961, section 3.2: a RST closes only at the exact
// next sequence number; one further on is answered with a challenge ACK, which
// will revive the connection here too. What is behind is left alone.
func (w *Worker) inboundReset(s *conntrack.Shard, c *conntrack.Conn, t *Target, p *packet.Packet, to conntrack.State) {
	switch seq := p.TCP().Seq() + c.SeqDelta; {
	case seq == c.RealAck:
		w.setState(s, c, t, to)
	case packet.SeqLess(c.RealAck, seq):
		s.SetState(c, c.State, t.Service.timeouts[conntrack.Closed], w.now)
	}
}

// trackOutbound follows a real server's segment and moves its acknowledgements
// back into the space that the client knows.
func (w *Worker) trackOutbound(s *conntrack.Shard, c *conntrack.Conn, t *Target, p *packet.Packet) {
	tcp := p.TCP()
	seq, ack := tcp.Seq(), tcp.Ack()
	end := seq + p.SegmentLen()
	if p.Flags.Has(packet.RST) {
		w.noteReset(c)
	}
	if p.Flags.Has(packet.SYN) {
		c.RealSeq = end
		if p.Flags.Has(packet.ACK) {
			c.FirstData = seq + c.AckDelta + 1
			c.Flags &^= clientTold
			if c.Flags&spliced == 0 {
				real := p.SYNOptions()
				w.learn(t, c, &real, tcp.Window(), nil)
			}
			w.lowerMSS(p, c.Client, t.Service.optionLen(&c.Client))
		}
	} else if packet.SeqLess(c.RealSeq, end) {
		c.RealSeq = end
	}
	if p.Flags.Has(packet.ACK) {
		if packet.SeqLess(c.RealAck, ack) {
			c.RealAck = ack
		}
		p.AddAck(-c.SeqDelta)
		p.ShiftSACK(-c.SeqDelta)
		p.ShiftTimestamps(0, -c.TimestampDelta)
	}
	to := conntrack.NextState(c.State, true, p.Flags)
	if c.Flags&spliced != 0 {
		w.outboundSeam(s, c, p)
		if p.Flags.Has(packet.SYN) {
			to = c.State // repeated, if all that was said behind it is lost: it does not begin to be connected again
		}
	}
	w.setState(s, c, t, to)
}

// lowerMSS makes a SYN offer less than its sender did, so that what comes back
// leaves room for the inserted bytes and, where an end that has only IPv4 in mind
// offers to one that answers in IPv6, for the longer header.
func (w *Worker) lowerMSS(p *packet.Packet, to packet.Addr, inserted int) {
	if by := inserted + max(growth(p, to), 0); by > 0 {
		p.LowerMSS(uint16(by))
	}
}

// tellReal puts the client's address into a segment on its way to the real
// server: on those that acknowledge the SYN and nothing after it, which are the
// handshake's last ACK and all data until the client has acknowledged some of
// the server's. What does not fit goes without, and is counted.
func (w *Worker) tellReal(c *conntrack.Conn, t *Target, p *packet.Packet, mtu int) {
	n := t.Service.optionLen(&c.Client)
	if n == 0 || c.Flags&clientTold != 0 || p.Flags.Has(packet.RST) {
		return
	}
	if p.Flags.Has(packet.SYN) {
		if !t.Service.OptionOnSYN {
			return
		}
	} else if ack := p.TCP().Ack() + c.AckDelta; ack != c.FirstData {
		if packet.SeqLess(c.FirstData, ack) {
			c.Flags |= clientTold
		}
		return
	}
	row := w.ledger.row(c.Binding())
	if p.IPLen()+n > mtu {
		row.TooLong++
		return
	}
	if p.InsertOption(w.encodeClient(c, t.Service)) {
		row.Inserted++
	} else {
		row.NoRoom++
	}
}

// setState moves c to a state, or refreshes it in the one it has, and keeps the
// real server's load.
func (w *Worker) setState(s *conntrack.Shard, c *conntrack.Conn, t *Target, to conntrack.State) {
	timeout := t.Service.timeouts[to]
	if to == c.State {
		s.Touch(c, timeout, w.now)
		return
	}
	w.moved(c, c.State, to)
	if !c.MoveOn(to, timeout, w.now) {
		s.SetState(c, to, timeout, w.now)
	}
}

// moved keeps the real server's load when c moves from one state to another.
func (w *Worker) moved(c *conntrack.Conn, from, to conntrack.State) {
	switch was, is := active(from), active(to); {
	case is && !was:
		w.ledger.row(c.Binding()).shift(1, -1)
	case was && !is:
		w.ledger.row(c.Binding()).shift(-1, 1)
	}
}

// active reports whether a connection in state st counts as active for the
// schedulers and for listings; every other one counts as inactive.
func active(st conntrack.State) bool {
	return st == conntrack.Established || st == conntrack.UDP
}

// ended takes a connection that left the table out of its real server's load.
func (w *Worker) ended(c *conntrack.Conn) {
	if c.State == conntrack.Template {
		return
	}
	row := w.ledger.row(c.Binding())
	if active(c.State) {
		row.shift(-1, 0)
	} else {
		row.shift(0, -1)
	}
}
