package packettest

import (
	"encoding/binary"

	"github.com/fnatd/fnatd/internal/packet"
)

// TCP describes a TCP segment. Source and destination are of one family, which
// is the frame's.
type TCP struct {
	Link
	Src, Dst packet.Endpoint
	Flags    packet.TCPFlags
	Seq, Ack uint32
	Window   uint16 // 0 means 65535
	Options  []byte // padded to a multiple of four with zero bytes
	Payload  []byte
}

// Frame returns the segment's frame, every checksum correct.
func (s TCP) Frame() Frame {
	options := append(append([]byte{}, s.Options...), make([]byte, -len(s.Options)&3)...)
	window := s.Window
	if window == 0 {
		window = 65535
	}
	b := binary.BigEndian.AppendUint16(nil, s.Src.Port)
	b = binary.BigEndian.AppendUint16(b, s.Dst.Port)
	b = binary.BigEndian.AppendUint32(b, s.Seq)
	b = binary.BigEndian.AppendUint32(b, s.Ack)
	b = append(b, byte((20+len(options))/4<<4), byte(s.Flags))
	b = binary.BigEndian.AppendUint16(b, window)
	b = append(b, 0, 0, 0, 0) // checksum, urgent pointer
	b = append(append(b, options...), s.Payload...)
	putSum(b, 16, s.Src.Addr, s.Dst.Addr, packet.ProtoTCP)
	return s.build(s.Src.Addr, s.Dst.Addr, packet.ProtoTCP, b)
}

// UDP describes a UDP datagram.
type UDP struct {
	Link
	Src, Dst packet.Endpoint
	Payload  []byte
	NoSum    bool   // the checksum is zero: the sender computed none
	Surplus  []byte // bytes behind the UDP length (RFC 9868)
}

// Frame returns the datagram's frame, every checksum correct.
func (d UDP) Frame() Frame {
	b := binary.BigEndian.AppendUint16(nil, d.Src.Port)
	b = binary.BigEndian.AppendUint16(b, d.Dst.Port)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(d.Payload)))
	b = append(append(b, 0, 0), d.Payload...)
	if !d.NoSum {
		putSum(b, 6, d.Src.Addr, d.Dst.Addr, packet.ProtoUDP)
		if b[6]|b[7] == 0 {
			b[6], b[7] = 0xff, 0xff
		}
	}
	return d.build(d.Src.Addr, d.Dst.Addr, packet.ProtoUDP, append(b, d.Surplus...))
}

// ICMP describes an ICMP message, or an ICMPv6 one if its addresses are IPv6.
type ICMP struct {
	Link
	Src, Dst   packet.Addr
	Type, Code uint8
	ID, Seq    uint16 // of an echo; the second word of an error
	Body       []byte
}

// Frame returns the message's frame, every checksum correct.
func (m ICMP) Frame() Frame {
	proto := uint8(packet.ProtoICMPv6)
	if m.Src.Is4() {
		proto = packet.ProtoICMP
	}
	b := []byte{m.Type, m.Code, 0, 0}
	b = binary.BigEndian.AppendUint16(b, m.ID)
	b = binary.BigEndian.AppendUint16(b, m.Seq)
	b = append(b, m.Body...)
	putSum(b, 2, m.Src, m.Dst, proto)
	return m.build(m.Src, m.Dst, proto, b)
}

// Error describes an ICMP or ICMPv6 error about a frame, to the one who sent it.
type Error struct {
	Link
	From       packet.Addr // of About's family
	Type, Code uint8
	Word       uint32 // MTU or pointer
	About      Frame
	Quoted     int    // bytes of About's datagram that are quoted; 0 means 576 bytes, or 1280, in all
	Extension  []byte // RFC 4884's, behind a quote whose length the Word tells
}

// Frame returns the error's frame, every checksum correct.
func (e Error) Frame() Frame {
	l3, version := network(e.About.Bytes())
	b, to, limit := e.About.Bytes()[l3:], packet.Addr{}, 576-28
	if version == 4 {
		to = packet.AddrFrom4(b[12:])
		b = b[:binary.BigEndian.Uint16(b[2:])]
	} else {
		to, limit = packet.AddrFrom16(b[8:]), 1280-48
		b = b[:40+int(binary.BigEndian.Uint16(b[4:]))]
	}
	if e.Quoted != 0 {
		limit = e.Quoted
	}
	return ICMP{
		Link: e.Link, Src: e.From, Dst: to, Type: e.Type, Code: e.Code,
		ID: uint16(e.Word >> 16), Seq: uint16(e.Word),
		Body: append(append([]byte{}, b[:min(limit, len(b))]...), e.Extension...),
	}.Frame()
}

// EchoReply returns the echo reply that a host gives to the echo request f, which
// has neither VLAN tags nor IP options.
func EchoReply(f Frame) Frame {
	b := f.Bytes()
	if b[12] == 0x86 {
		return ICMP{
			Src: packet.AddrFrom16(b[38:]), Dst: packet.AddrFrom16(b[22:]), Type: 129,
			ID: binary.BigEndian.Uint16(b[58:]), Seq: binary.BigEndian.Uint16(b[60:]), Body: b[62:],
		}.Frame()
	}
	return ICMP{
		Src: packet.AddrFrom4(b[30:]), Dst: packet.AddrFrom4(b[26:]), Type: 0,
		ID: binary.BigEndian.Uint16(b[38:]), Seq: binary.BigEndian.Uint16(b[40:]), Body: b[42:],
	}.Frame()
}
