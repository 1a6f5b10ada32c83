package packet

import "encoding/binary"

// Offsets in an IPv4 header (RFC 791, section 3.1).
const (
	ipv4TotalLen = 2
	ipv4ID       = 4
	ipv4Fragment = 6
	ipv4TTL      = 8
	ipv4Proto    = 9
	ipv4Sum      = 10
	ipv4Src      = 12
	ipv4Dst      = 16
	ipv4MinLen   = 20

	ipv4DF     = 0x4000 // "don't fragment"
	ipv4MF     = 0x2000 // "more fragments"
	ipv4Offset = 0x1fff // fragment offset
)

// IPv4 is a view of an IPv4 header with its options, which came from
// Packet.Parse or from a builder; accessors do not check its length.
type IPv4 []byte

// HeaderLen returns the bytes of the header, options included.
func (h IPv4) HeaderLen() int { return int(h[0]&15) * 4 }

// TOS returns the byte of DSCP and ECN (RFC 2474, RFC 3168).
func (h IPv4) TOS() uint8 { return h[1] }

// setTOS sets the byte of DSCP and ECN and repairs the checksum.
func (h IPv4) setTOS(tos uint8) {
	old := binary.BigEndian.Uint16(h)
	h[1] = tos
	h.setSum(h.Sum().Replace16(old, binary.BigEndian.Uint16(h)))
}

// TotalLen returns the bytes of the datagram.
func (h IPv4) TotalLen() int { return int(binary.BigEndian.Uint16(h[ipv4TotalLen:])) }

// ID returns the identification.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[ipv4ID:]) }

// DontFragment reports whether the datagram must not be fragmented.
func (h IPv4) DontFragment() bool { return binary.BigEndian.Uint16(h[ipv4Fragment:])&ipv4DF != 0 }

// IsFragment reports whether the datagram is a fragment of another.
func (h IPv4) IsFragment() bool {
	return binary.BigEndian.Uint16(h[ipv4Fragment:])&(ipv4MF|ipv4Offset) != 0
}

// piece returns which piece of its datagram a fragment is: its identification, its
// offset in bytes, and whether more follow.
func (h IPv4) piece() (id uint32, offset int, more bool) {
	bits := binary.BigEndian.Uint16(h[ipv4Fragment:])
	return uint32(h.ID()), int(bits&ipv4Offset) * 8, bits&ipv4MF != 0
}

// TTL returns the time to live.
func (h IPv4) TTL() uint8 { return h[ipv4TTL] }

// Proto returns the protocol number of the payload.
func (h IPv4) Proto() uint8 { return h[ipv4Proto] }

// Sum returns the header checksum.
func (h IPv4) Sum() Sum { return Sum(binary.BigEndian.Uint16(h[ipv4Sum:])) }

func (h IPv4) setSum(s Sum) { binary.BigEndian.PutUint16(h[ipv4Sum:], uint16(s)) }

// Src returns the source address.
func (h IPv4) Src() Addr { return AddrFrom4(h[ipv4Src:]) }

// Dst returns the destination address.
func (h IPv4) Dst() Addr { return AddrFrom4(h[ipv4Dst:]) }
