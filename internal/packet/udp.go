package packet

import "encoding/binary"

// Offsets in a UDP header (RFC 768).
const (
	udpSize = 4
	udpSum  = 6
	udpLen  = 8
)

// UDP is a view of a UDP header, which came from Packet.Parse; accessors do not
// check its length.
type UDP []byte

// SrcPort returns the source port.
func (u UDP) SrcPort() uint16 { return binary.BigEndian.Uint16(u) }

// DstPort returns the destination port.
func (u UDP) DstPort() uint16 { return binary.BigEndian.Uint16(u[2:]) }

// Len returns the bytes of header and payload. It may be less than what the IP
// datagram holds (RFC 9868, UDP options).
func (u UDP) Len() int { return int(binary.BigEndian.Uint16(u[udpSize:])) }

// Sum returns the checksum; zero means that the sender computed none.
func (u UDP) Sum() Sum { return Sum(binary.BigEndian.Uint16(u[udpSum:])) }

func (u UDP) setSum(s Sum) { binary.BigEndian.PutUint16(u[udpSum:], uint16(s)) }

// amend repairs the checksum after the changes in d.
func (u UDP) amend(d delta) { u.setSum(u.Sum().amendUDP(d)) }

// amendUDP is amend for UDP. RFC 768: a zero checksum means that the sender computed
// none, so it stays zero; one that comes out as zero is sent as all ones.
func (s Sum) amendUDP(d delta) Sum {
	if s == 0 {
		return 0
	}
	if s = s.amend(d); s == 0 {
		return 0xffff
	}
	return s
}
