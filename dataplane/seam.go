package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/synproxy"
)

// A seam is what the packets of a joined connection need besides its numbers, where
// its client was told one thing by fnatd and its real server said another. It lies in
// the connection's spare bits; most packets of most connections do not need it, and
// those of which the flag seamed is not set never do.
//
//	clock   added to the real server's timestamps
//	bits    31-16  window of its last bare ACK
//	        15-11  its windows are to be shifted left by this less 16
//	        10-7   the client's windows are to be shifted left by this
//	        6-3    bare ACKs in this second that said the same
//	        2-0    this second
type seam struct{ clock, bits uint32 }

const (
	seamWindow   = 16
	seamOutbound = 11
	seamInbound  = 7
	seamRepeats  = 3

	seamBias       = 16
	seamMaxRepeats = 15
	secondShift    = 10 // a second is 1024 ms, for the count
)

// newSeam returns what follows from what the client offered, what it was told, and
// what the real server answered. clock is now on the clock that the client has seen
// in the SYN-ACK, and which the real server's must not seem to run behind.
func newSeam(client *synproxy.Options, told *synproxy.Offer, real *packet.SYNOptions, clock uint32) seam {
	var m seam
	if told.Timestamps && real.Timestamps {
		m.clock = clock - real.Val
	}
	outbound, inbound := 0, 0
	if told.Scale != synproxy.NoScale {
		// Without an option of the real server's, neither end's windows are scaled
		// (RFC 7323, section 2.2).
		if real.Scale == packet.NoScale {
			outbound, inbound = -int(told.Scale), int(client.Scale)
		} else {
			outbound = int(real.Scale) - int(told.Scale)
		}
	}
	m.bits = uint32(outbound+seamBias)<<seamOutbound | uint32(inbound)<<seamInbound
	return m
}

func loadSeam(s *conntrack.Shard, c *conntrack.Conn) (m seam) {
	m.clock, m.bits = s.Spare(c)
	return m
}

// caughtSeam returns the seam of c, which was caught for the batch's i-th packet.
func (w *Worker) caughtSeam(c *conntrack.Conn, i uint8) seam {
	if c.Flags&seamed == 0 {
		return seam{bits: seamBias << seamOutbound}
	}
	clock, bits := w.conns.Spare(&w.lookups, i, c)
	return seam{clock, bits}
}

func (m *seam) store(s *conntrack.Shard, c *conntrack.Conn) {
	s.SetSpare(c, m.clock, m.bits)
	if m.clock != 0 || m.outbound() != 0 || m.inbound() != 0 {
		c.Flags |= seamed
	}
}

// outbound and inbound return by how much windows are shifted to the left.
func (m *seam) outbound() int { return int(m.bits>>seamOutbound&31) - seamBias }
func (m *seam) inbound() int  { return int(m.bits >> seamInbound & 15) }

// repeated notes a bare ACK with this window that says what the last one said, and
// reports how many did so in the current second.
func (m *seam) repeated(window uint16, now uint32) int {
	second := now >> secondShift & 7
	repeats := m.bits >> seamRepeats & seamMaxRepeats
	if m.bits&7 != second || uint16(m.bits>>seamWindow) != window {
		repeats = 0
	} else if repeats < seamMaxRepeats {
		repeats++
	}
	m.bits = m.bits&(31<<seamOutbound|15<<seamInbound) | uint32(window)<<seamWindow | repeats<<seamRepeats | second
	return int(repeats)
}

// inboundSeam moves a client's segment of a joined connection into the space of its
// real server; its sequence number and the client's clock are moved already.
func (w *Worker) inboundSeam(s *conntrack.Shard, c *conntrack.Conn, p *packet.Packet) {
	if !p.Flags.Has(packet.ACK) {
		return
	}
	p.AddAck(-c.AckDelta)
	p.ShiftSACK(-c.AckDelta)
	if c.Flags&seamed == 0 {
		return
	}
	m := loadSeam(s, c)
	p.ShiftTimestamps(0, -m.clock)
	p.ScaleWindow(m.inbound())
}

// outboundSeam is the opposite of inboundSeam, for a real server's segment.
func (w *Worker) outboundSeam(s *conntrack.Shard, c *conntrack.Conn, p *packet.Packet) {
	p.AddSeq(c.AckDelta)
	if c.Flags&seamed == 0 {
		return
	}
	m := loadSeam(s, c)
	p.ShiftTimestamps(m.clock, 0)
	if !p.Flags.Has(packet.SYN) {
		p.ScaleWindow(m.outbound())
	}
}

// storm reports whether a real server's segment is one bare ACK too many that says
// the same as those before it: two ends whose numbers do not fit answer each other
// for ever (RFC 5961, section 7, has the ends themselves hold back). One that reports
// what has come out of order says something new, and so does another window.
func (w *Worker) storm(s *conntrack.Shard, c *conntrack.Conn, t *Target, p *packet.Packet) bool {
	limit := t.Service.SYNProxy.StormLimit
	if limit == 0 || p.Flags != packet.ACK || carries(p) || c.State.HalfOpen() {
		return false
	}
	tcp := p.TCP()
	if !repeats(c, tcp.Seq(), tcp.Ack()) || p.HasSACK() {
		return false
	}
	m := loadSeam(s, c)
	repeats := m.repeated(tcp.Window(), w.now)
	s.SetSpare(c, m.clock, m.bits)
	return repeats >= limit
}

// repeats reports whether a real server's bare ACK with these numbers says what it has said
// before.
func repeats(c *conntrack.Conn, seq, ack uint32) bool { return seq == c.RealSeq && ack == c.RealAck }
