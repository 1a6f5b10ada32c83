package packet

import "encoding/binary"

// ICMP message types (RFC 792) and ICMPv6 message types (RFC 4443) that Parse
// keeps. Source quench is not among them: RFC 6633 has it ignored.
const (
	ICMPEchoReply       = 0
	ICMPUnreachable     = 3
	ICMPEchoRequest     = 8
	ICMPTimeExceeded    = 11
	ICMPParameter       = 12
	ICMPv6Unreachable   = 1
	ICMPv6TooBig        = 2
	ICMPv6TimeExceeded  = 3
	ICMPv6Parameter     = 4
	ICMPv6EchoRequest   = 128
	ICMPv6EchoReply     = 129
	icmpCode            = 1
	icmpSum             = 2
	icmpID              = 4
	icmpSeq             = 6
	icmpLen             = 8
	icmpQuotedTransport = 8 // bytes of transport header that an error quotes at least (RFC 792)
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

// Quoted returns the flow of the packet that the error p quotes. It reports
// false if the quote does not reach as far as the ports, or is not of TCP or UDP.
func (p *Packet) Quoted() (f Flow, ok bool) {
	b := p.ICMP().Body()
	at := 0
	switch {
	case p.Version == 4 && len(b) >= ipv4MinLen && b[0]>>4 == 4:
		h := IPv4(b)
		// Only the first fragment holds the ports.
		if binary.BigEndian.Uint16(h[ipv4Fragment:])&ipv4Offset != 0 || h.HeaderLen() < ipv4MinLen {
			return f, false
		}
		f.Src, f.Dst, f.Proto, at = h.Src(), h.Dst(), h.Proto(), h.HeaderLen()
	case p.Version == 6 && len(b) >= ipv6Len && b[0]>>4 == 6:
		h := IPv6(b)
		f.Src, f.Dst = h.Src(), h.Dst()
		x, why := skipExtensions(b)
		if why != Kept && why != Fragment {
			return f, false
		}
		f.Proto, at = x.proto, x.at
	default:
		return f, false
	}
	if f.Proto != ProtoTCP && f.Proto != ProtoUDP || len(b) < at+icmpQuotedTransport {
		return f, false
	}
	f.SrcPort = binary.BigEndian.Uint16(b[at:])
	f.DstPort = binary.BigEndian.Uint16(b[at+2:])
	return f, true
}
