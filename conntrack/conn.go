package conntrack

import "github.com/fnatd/fnatd/internal/packet"

// A Conn is one connection, or one persistence template: everything that a
// packet of it needs, in one cache line. It belongs to its shard, and may be
// touched only by who has latched it: see Shard. It holds no pointer, and what it says
// is enough to rebuild all else that the shard knows of it.
//
// Client, ClientPort, LocalPort, Binding, Local, State and Deadline change only
// through the Shard's methods, Extend and MoveOn; the other fields are the packet
// path's to use.
// For UDP SeqDelta and AckDelta are the alarm and the count of notices instead:
// see Alarm and NoticeTries. While a real server is being connected for a client
// that has proven itself, AckDelta and RealSeq say how: see dataplane.
type Conn struct {
	Client     packet.Addr
	ClientPort uint16
	LocalPort  uint16
	bound      uint32 // the BindingID, and latchBit
	Local      LocalID
	State      State
	Flags      uint8  // the packet path's own
	Deadline   uint32 // when it expires, ms of the table's clock

	SeqDelta       uint32 // added to the client's sequence numbers
	AckDelta       uint32 // added to the real server's sequence numbers
	FirstData      uint32 // real server's first data byte, as the client numbers it
	RealSeq        uint32 // next sequence number of the real server
	RealAck        uint32 // the real server's last acknowledgement
	TimestampDelta uint32 // added to the client's timestamps

	HopGen   uint16 // generation of the route table that ToReal and ToClient are of
	ToReal   uint16 // next hop towards the real server
	ToClient uint16 // next hop towards the client

	// In ticks modulo 2^15: while it is half-open, when it became so; else, when the wheel
	// comes to it at the latest. With lingers, which is no part of it: when it became
	// half-open, though it is so no more.
	born uint16
}

// Ended is a copy of a connection that has left the table.
type Ended struct{ Conn }

// Alarm returns when the alarm of a UDP connection fires; ok is false if none is
// set.
func (c *Conn) Alarm() (at uint32, ok bool) { return c.SeqDelta, c.SeqDelta != 0 }

// NoticeTries returns how many notices were sent for a UDP connection since
// SetNoticeTries was last called.
func (c *Conn) NoticeTries() uint32 { return c.AckDelta }

// SetNoticeTries sets what NoticeTries returns.
func (c *Conn) SetNoticeTries(n uint32) { c.AckDelta = n }

// isTemplate reports whether c, which is in use, is a template. Unlike the state, what it
// goes by changes only under the shard's lock.
func (c *Conn) isTemplate() bool { return c.Local == 0 }

// isUsed is the same for whether c is in use.
func (c *Conn) isUsed() bool { return c.Binding() != 0 }

// due returns when c must be looked at next: at its deadline, or at the alarm if
// that comes first.
func (c *Conn) due() uint32 {
	if c.State.isUDP() && c.SeqDelta != 0 && before(c.SeqDelta, c.Deadline) {
		return c.SeqDelta
	}
	return c.Deadline
}

// before reports whether time a is before b. Times are milliseconds modulo 2^32,
// so no two that are compared may be 24 days apart.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// InboundFlow returns the flow of the client's packets of c, which may be a
// copy. A template has none.
func (t *Table) InboundFlow(c *Conn) packet.Flow {
	b := t.Binding(c.Binding())
	return packet.Flow{
		Src: c.Client, SrcPort: c.ClientPort,
		Dst: b.Virtual.Addr, DstPort: b.Virtual.Port,
		Proto: b.Proto,
	}
}

// OutboundFlow returns the flow of the real server's packets of c, which may be
// a copy. A template has none.
func (t *Table) OutboundFlow(c *Conn) packet.Flow {
	b := t.Binding(c.Binding())
	return packet.Flow{
		Src: b.Real.Addr, SrcPort: b.Real.Port,
		Dst: t.Local(c.Local).Addr, DstPort: c.LocalPort,
		Proto: b.Proto,
	}
}
