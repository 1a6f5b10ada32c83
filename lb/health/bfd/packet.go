package bfd

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A State is that of one end of a session (RFC 5880, section 4.1).
type State uint8

// The states.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

func (s State) String() string { return [...]string{"admin-down", "down", "init", "up"}[s&3] }

// A Diag says why a session last left Up (RFC 5880, section 4.1).
type Diag uint8

// The diagnostics that fnatd gives itself. Others come from neighbors.
const (
	NoDiag         Diag = 0
	TimeExpired    Diag = 1
	NeighborDown   Diag = 3
	Administrative Diag = 7
)

func (d Diag) String() string {
	names := [...]string{
		"none", "control detection time expired", "echo function failed", "neighbor signaled session down",
		"forwarding plane reset", "path down", "concatenated path down", "administratively down", "reverse concatenated path down",
	}
	if int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// From RFC 5880, section 4.1.
const (
	version   = 1
	packetLen = 24 // bytes, without authentication
	authedLen = 26 // bytes at least, with it

	bitPoll       = 1 << 5
	bitFinal      = 1 << 4
	bitAuth       = 1 << 2
	bitDemand     = 1 << 1
	bitMultipoint = 1 << 0
)

// A Packet is a control packet as far as it concerns fnatd. Fields that it always
// sends as zero are not there.
type Packet struct {
	Diag   Diag
	State  State
	Poll   bool
	Final  bool
	Auth   bool // there is an authentication section
	Demand bool
	Mult   uint8

	My, Your uint32 // discriminators
	MinTx    uint32 // µs
	MinRx    uint32 // µs
}

// Append appends p to b as it goes over the wire, without authentication.
func (p *Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for _, f := range []struct {
		on  bool
		bit byte
	}{{p.Poll, bitPoll}, {p.Final, bitFinal}, {p.Demand, bitDemand}} {
		if f.on {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(p.Diag), flags, p.Mult, packetLen)
	for _, word := range [...]uint32{p.My, p.Your, p.MinTx, p.MinRx, 0} { // no echo: the last is Required Min Echo RX
		b = binary.BigEndian.AppendUint32(b, word)
	}
	return b
}

// Parse reads a control packet and applies the rules of RFC 5880, section 6.8.6, that
// need no session. An error says which one b breaks, for an operator.
func Parse(b []byte) (p Packet, err error) {
	if len(b) < packetLen {
		return p, fmt.Errorf("%d bytes are no control packet", len(b))
	}
	if v := b[0] >> 5; v != version {
		return p, fmt.Errorf("version %d, want 1", v)
	}
	flags, length := b[1], int(b[3])
	p = Packet{
		Diag: Diag(b[0] & 0x1f), State: State(flags >> 6), Mult: b[2],
		Poll: flags&bitPoll != 0, Final: flags&bitFinal != 0, Auth: flags&bitAuth != 0, Demand: flags&bitDemand != 0,
		My: binary.BigEndian.Uint32(b[4:]), Your: binary.BigEndian.Uint32(b[8:]),
		MinTx: binary.BigEndian.Uint32(b[12:]), MinRx: binary.BigEndian.Uint32(b[16:]),
	}
	switch {
	case length < packetLen || p.Auth && length < authedLen:
		return p, fmt.Errorf("its length field says %d, too little", length)
	case length > len(b):
		return p, fmt.Errorf("its length field says %d, and it has %d bytes", length, len(b))
	case p.Mult == 0:
		return p, fmt.Errorf("its detection multiplier is 0")
	case flags&bitMultipoint != 0:
		return p, fmt.Errorf("it is a multipoint one")
	case p.My == 0:
		return p, fmt.Errorf("its discriminator is 0")
	case p.Your == 0 && p.State > Down:
		return p, fmt.Errorf("state %v without our discriminator", p.State)
	}
	return p, nil
}

func micros(d time.Duration) uint32 { return uint32(d / time.Microsecond) }

func span(micros uint32) time.Duration { return time.Duration(micros) * time.Microsecond }
