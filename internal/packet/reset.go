package packet

import "encoding/binary"

// ResetLen is the most bytes that BuildRST writes.
const ResetLen = ethLen + ipv6Len + tcpMinLen

// A Reset describes a TCP segment that ends a connection.
type Reset struct {
	Src, Dst Endpoint // of one address family
	Seq      uint32
	Ack      uint32 // used if WithAck
	WithAck  bool   // the ACK flag is set, as in the answer to a SYN (RFC 9293, section 3.5.2)
}

// BuildRST writes the frame of r to buf at start, which has room for ResetLen
// bytes, and returns the frame's end. Both MAC addresses are zero.
func BuildRST(buf []byte, start int, r *Reset) (end int) {
	var p Packet
	p.buildIP(buf, start, r.Src.Addr, r.Dst.Addr, ProtoTCP, defaultTTL, tcpMinLen)
	p.Payload = p.End
	t := p.TCP()
	binary.BigEndian.PutUint16(t, r.Src.Port)
	binary.BigEndian.PutUint16(t[2:], r.Dst.Port)
	binary.BigEndian.PutUint32(t[tcpSeq:], r.Seq)
	t[tcpOffset] = tcpMinLen / 4 << 4
	t[tcpFlags] = uint8(RST)
	if r.WithAck {
		t[tcpFlags] = uint8(RST | ACK)
		binary.BigEndian.PutUint32(t[tcpAck:], r.Ack)
	}
	t.setSum(p.transportSum())
	return p.End
}
