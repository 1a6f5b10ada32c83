package packet

import "encoding/binary"

// ICMP message types (RFC 792) and ICMPv6 message types (RFC 4443) that Parse
// keeps. Source quench is not among them: RFC 6633 has it ignored.
const (
	ICMPEchoReply      = 0
	ICMPUnreachable    = 3
	ICMPEchoRequest    = 8
	ICMPTimeExceeded   = 11
	ICMPParameter      = 12
	ICMPv6Unreachable  = 1
	ICMPv6TooBig       = 2
	ICMPv6TimeExceeded = 3
	ICMPv6Parameter    = 4
	ICMPv6EchoRequest  = 128
	ICMPv6EchoReply    = 129
)

// Codes of ICMPUnreachable, ICMPv6Unreachable and ICMPv6Parameter that fnatd
// makes or tells from others.
const (
	ICMPHostUnreachable   = 1
	ICMPProtocol          = 2
	ICMPPortUnreachable   = 3
	ICMPFragNeeded        = 4 // RFC 1191: with the next hop's MTU
	ICMPHostProhibited    = 10
	ICMPv6NoRoute         = 0
	ICMPv6Prohibited      = 1
	ICMPv6PortUnreachable = 4
	ICMPv6NextHeader      = 1
)

const (
	icmpCode = 1
	icmpSum  = 2
	icmpID   = 4 // of an echo
	icmpSeq  = 6
	icmpWord = 4 // of an error: MTU, pointer or nothing
	icmpLen  = 8
)

// ICMP is a view of an ICMP or ICMPv6 message, header and body, which came from
// Packet.Parse or from a builder; accessors do not check its length.
type ICMP []byte

// Type returns the message type, whose meaning depends on the IP version.
func (m ICMP) Type() uint8 { return m[0] }

// Code returns the code within the type.
func (m ICMP) Code() uint8 { return m[icmpCode] }

// Sum returns the checksum.
func (m ICMP) Sum() Sum { return Sum(binary.BigEndian.Uint16(m[icmpSum:])) }

// ID returns the identifier of an echo message.
func (m ICMP) ID() uint16 { return binary.BigEndian.Uint16(m[icmpID:]) }

// Seq returns the sequence number of an echo message.
func (m ICMP) Seq() uint16 { return binary.BigEndian.Uint16(m[icmpSeq:]) }

// Body returns what follows the 8-byte header: an echo's data or an error's quote.
func (m ICMP) Body() []byte { return m[icmpLen:] }

func (m ICMP) setSum(s Sum) { binary.BigEndian.PutUint16(m[icmpSum:], uint16(s)) }

// IsError reports whether p is an ICMP or ICMPv6 error.
func (p *Packet) IsError() bool {
	t := p.Buf[p.L4]
	switch p.Flow.Proto {
	case ProtoICMP:
		return t == ICMPUnreachable || t == ICMPTimeExceeded || t == ICMPParameter
	case ProtoICMPv6:
		// RFC 4443, section 2.1: error messages have a zero high bit.
		return t < ICMPv6EchoRequest
	}
	return false
}
