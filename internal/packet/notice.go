package packet

import "encoding/binary"

// A notice tells a real server, ahead of a flow's first datagram, which client
// stands behind a local address and port. It is the ICMP echo request that the
// ip_vs_ca module reads. Its data:
//
//	0     magic 123
//	1     protocol of the flow, 6 or 17
//	2-3   local port
//	4-5   real server's port
//	      two bytes of padding in the 44-byte form
//	6-7   option kind 254 and length: 8, or 20 for an IPv6 client
//	8-9   client port
//	10-   client address, 4 or 16 bytes
const (
	noticeTTL = 60
	// noticeID is the host-order constant 0x1234 as a little-endian sender leaves
	// it on the wire: 34 12.
	noticeID    = 0x3412
	noticeMagic = 123
	noticeKind  = 254

	noticeProto  = 1
	noticeLocal  = 2
	noticeReal   = 4
	noticeOption = 6 // in the packed form
	noticePad    = 2 // before the option, in the padded form

	noticePacked = noticeOption + toaLen4 // data bytes for an IPv4 client
	noticePadded = noticePacked + noticePad
	noticeMore6  = toaLen6 - toaLen4 // more data bytes for an IPv6 client
)

// The two forms of a notice, named by the length of the IPv4 datagram that tells
// an IPv4 client. ip_vs_ca reads 44 up to 2017 and 42 since, each nothing else.
const (
	NoticePacked = ipv4MinLen + icmpLen + noticePacked // 42
	NoticePadded = ipv4MinLen + icmpLen + noticePadded // 44
)

// NoticeLen is the most bytes that BuildNotice writes.
const NoticeLen = ethLen + ipv6Len + icmpLen + noticePadded + noticeMore6

// A Notice says which client a real server will see as a local address and port.
type Notice struct {
	Local, Real Endpoint // the flow that the notice announces; of one address family
	Client      Endpoint // of either family
	Proto       uint8    // of the flow: ProtoTCP or ProtoUDP
	Length      int      // NoticePadded for that form, anything else is NoticePacked
}

// BuildNotice writes the frame of n to buf at start, which has room for NoticeLen
// bytes, and returns the frame's end. Both MAC addresses are zero. Towards an IPv6
// server it is an ICMPv6 echo request with the same data.
func BuildNotice(buf []byte, start int, n *Notice) (end int) {
	option := noticeOption
	if n.Length == NoticePadded {
		option += noticePad
	}
	size, addr := toaLen4, n.Client.Addr[12:]
	if !n.Client.Addr.Is4() {
		size, addr = toaLen6, n.Client.Addr[:]
	}
	proto, kind := uint8(ProtoICMP), uint8(ICMPEchoRequest)
	if !n.Local.Addr.Is4() {
		proto, kind = ProtoICMPv6, ICMPv6EchoRequest
	}
	var p Packet
	p.buildIP(buf, start, n.Local.Addr, n.Real.Addr, proto, noticeTTL, icmpLen+option+size)
	m := p.ICMP()
	m[0] = kind
	binary.BigEndian.PutUint16(m[icmpID:], noticeID)
	b := m.Body()
	b[0], b[noticeProto] = noticeMagic, n.Proto
	binary.BigEndian.PutUint16(b[noticeLocal:], n.Local.Port)
	binary.BigEndian.PutUint16(b[noticeReal:], n.Real.Port)
	o := b[option:]
	o[0], o[1] = noticeKind, uint8(size)
	binary.BigEndian.PutUint16(o[2:], n.Client.Port)
	copy(o[4:], addr)
	m.setSum(p.transportSum())
	return p.End
}

// NoticeReply reports whether p is a real server's echo of a notice, and if so
// the outbound flow, server to local address, that the server now knows the
// client of. A reply that is damaged or that echoes something else is not one.
func (p *Packet) NoticeReply() (f Flow, ok bool) {
	if p.Flow.Proto != ProtoICMP && p.Flow.Proto != ProtoICMPv6 {
		return f, false
	}
	m := p.ICMP()
	if m.Type() != p.echoReply() || m.Code() != 0 || m.ID() != noticeID || m.Seq() != 0 {
		return f, false
	}
	b := m.Body()
	if !noticeValid(b) || m.Sum() != p.transportSum() {
		return f, false
	}
	return Flow{
		Src: p.Flow.Src, SrcPort: binary.BigEndian.Uint16(b[noticeReal:]),
		Dst: p.Flow.Dst, DstPort: binary.BigEndian.Uint16(b[noticeLocal:]),
		Proto: b[noticeProto],
	}, true
}

// echoReply returns the type of an echo reply in the packet's IP version.
func (p *Packet) echoReply() uint8 {
	if p.Version == 6 {
		return ICMPv6EchoReply
	}
	return ICMPEchoReply
}

// noticeValid reports whether b is the data of a notice in either form.
func noticeValid(b []byte) bool {
	var option, size int
	switch len(b) {
	case noticePacked:
		option, size = noticeOption, toaLen4
	case noticePadded:
		option, size = noticeOption+noticePad, toaLen4
	case noticePacked + noticeMore6:
		option, size = noticeOption, toaLen6
	case noticePadded + noticeMore6:
		option, size = noticeOption+noticePad, toaLen6
	default:
		return false
	}
	return b[0] == noticeMagic &&
		(b[noticeProto] == ProtoTCP || b[noticeProto] == ProtoUDP) &&
		b[option] == noticeKind && int(b[option+1]) == size
}
