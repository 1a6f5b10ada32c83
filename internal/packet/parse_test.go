package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// The four ends of a FULLNAT connection in these tests, one set a family.
var (
	client4, virtual4 = packettest.Endpoint("198.51.100.7:40000"), packettest.Endpoint("203.0.113.10:80")
	local4, real4     = packettest.Endpoint("10.0.1.10:5001"), packettest.Endpoint("10.0.2.11:8080")
	client6, virtual6 = packettest.Endpoint("[2001:db8:7::1]:40000"), packettest.Endpoint("[2001:db8:a::1]:80")
	local6, real6     = packettest.Endpoint("[fd00:1::10]:5001"), packettest.Endpoint("[fd00:2::11]:8080")
)

// Extension headers: hop-by-hop and destination options of padding, a routing
// header that is used up, fragment headers.
var (
	hopByHop     = []byte{0, 0, 1, 4, 0, 0, 0, 0}
	longOptions  = []byte{0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	routingUsed  = []byte{0, 0, 4, 0, 0, 0, 0, 0}
	routingLeft  = []byte{0, 0, 4, 1, 0, 0, 0, 0}
	atomic       = []byte{0, 0, 0, 0, 0, 0, 0, 9}
	firstPiece   = []byte{0, 0, 0, 1, 0, 0, 0, 9}
	secondPiece  = []byte{0, 0, 5, 0xa8, 0, 0, 0, 9}
	hopThenRoute = append([]byte{43, 0, 1, 4, 0, 0, 0, 0}, routingUsed...)
)

func extended(first uint8, headers []byte, last int) packettest.Link {
	return packettest.Link{FirstExtension: first, Extensions: headers, LastExtension: last}
}

func flow(src, dst packet.Endpoint, proto uint8) packet.Flow {
	return packet.Flow{Src: src.Addr, SrcPort: src.Port, Dst: dst.Addr, DstPort: dst.Port, Proto: proto}
}

func TestParseKeeps(t *testing.T) {
	tcp4 := func(l packettest.Link) packettest.Frame {
		return packettest.TCP{Link: l, Src: client4, Dst: virtual4, Flags: packet.PSH | packet.ACK, Payload: []byte("12345")}.Frame()
	}
	tcp6 := func(l packettest.Link) packettest.Frame {
		return packettest.TCP{Link: l, Src: client6, Dst: virtual6, Flags: packet.PSH | packet.ACK, Payload: []byte("12345")}.Frame()
	}
	noPorts := func(f packet.Flow) packet.Flow { f.SrcPort, f.DstPort = 0, 0; return f }
	data := packet.PSH | packet.ACK
	for name, c := range map[string]struct {
		frame   packettest.Frame
		version uint8
		flow    packet.Flow
		flags   packet.TCPFlags
		l3, l4  int // from the frame's start
		payload int
	}{
		"tcp4":          {tcp4(packettest.Link{}), 4, flow(client4, virtual4, 6), data, 14, 34, 5},
		"padding":       {tcp4(packettest.Link{Pad: 1}), 4, flow(client4, virtual4, 6), data, 14, 34, 5},
		"ip_options":    {tcp4(packettest.Link{IPOptions: []byte{1, 1, 1, 0}}), 4, flow(client4, virtual4, 6), data, 14, 38, 5},
		"vlan":          {tcp4(packettest.Link{VLAN: []uint16{7}}), 4, flow(client4, virtual4, 6), data, 18, 38, 5},
		"qinq":          {tcp4(packettest.Link{VLAN: []uint16{7, 8}}), 4, flow(client4, virtual4, 6), data, 22, 42, 5},
		"tcp6":          {tcp6(packettest.Link{}), 6, flow(client6, virtual6, 6), data, 14, 54, 5},
		"hop_by_hop":    {tcp6(extended(0, hopByHop, 0)), 6, flow(client6, virtual6, 6), data, 14, 62, 5},
		"long_options":  {tcp6(extended(60, longOptions, 0)), 6, flow(client6, virtual6, 6), data, 14, 70, 5},
		"two_headers":   {tcp6(extended(0, hopThenRoute, 8)), 6, flow(client6, virtual6, 6), data, 14, 70, 5},
		"atomic":        {tcp6(extended(44, atomic, 0)), 6, flow(client6, virtual6, 6), data, 14, 62, 5},
		"qinq6_padding": {tcp6(packettest.Link{VLAN: []uint16{7, 8}, Pad: 9}), 6, flow(client6, virtual6, 6), data, 22, 62, 5},
		"udp4": {packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("123")}.Frame(),
			4, flow(client4, virtual4, 17), 0, 14, 34, 3},
		"udp6": {packettest.UDP{Src: client6, Dst: virtual6}.Frame(), 6, flow(client6, virtual6, 17), 0, 14, 54, 0},
		"udp_surplus": {packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("123"), Surplus: []byte{0}}.Frame(),
			4, flow(client4, virtual4, 17), 0, 14, 34, 3},
		"echo4": {packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPEchoRequest, Body: []byte("12")}.Frame(),
			4, noPorts(flow(client4, virtual4, 1)), 0, 14, 34, 2},
		"echo6": {packettest.ICMP{Src: client6.Addr, Dst: virtual6.Addr, Type: packet.ICMPv6EchoReply, Body: []byte("12")}.Frame(),
			6, noPorts(flow(client6, virtual6, 58)), 0, 14, 54, 2},
	} {
		t.Run(name, func(t *testing.T) {
			packettest.CheckSums(t, c.frame.Bytes())
			p := c.frame.Parse(t)
			if p.Version != c.version || p.Flags != c.flags {
				t.Errorf("version and flags: got %d %v, want %d %v", p.Version, p.Flags, c.version, c.flags)
			}
			if diff := cmp.Diff(p.Flow, c.flow); diff != "" {
				t.Errorf("flow: got(-) want(+)\n%s", diff)
			}
			if p.L3-p.Start != c.l3 || p.L4-p.Start != c.l4 || p.PayloadLen() != c.payload {
				t.Errorf("L3, L4, payload: got %d %d %d, want %d %d %d",
					p.L3-p.Start, p.L4-p.Start, p.PayloadLen(), c.l3, c.l4, c.payload)
			}
			packettest.CheckSums(t, p.Frame()) // without the padding
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tcp4 := packettest.TCP{Src: client4, Dst: virtual4, Payload: []byte("12345")}.Frame()
	tcp6 := packettest.TCP{Src: client6, Dst: virtual6, Payload: []byte("12345")}.Frame()
	udp4 := packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("12345")}.Frame()
	cut := func(f packettest.Frame, n int) packettest.Frame { return packettest.NewFrame(f.Bytes()[:n]) }
	with := func(f packettest.Frame, at int, b ...byte) packettest.Frame {
		f = packettest.NewFrame(f.Bytes())
		copy(f.Buf[f.Start+at:], b)
		return f
	}
	options := func(b ...byte) packettest.Frame {
		return packettest.TCP{Src: client4, Dst: virtual4, Options: b}.Frame()
	}
	six := func(first uint8, headers []byte) packettest.Frame {
		return packettest.TCP{Src: client6, Dst: virtual6, Link: extended(first, headers, 0)}.Frame()
	}
	icmp := func(typ uint8, body []byte) packettest.Frame {
		return packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: typ, Body: body}.Frame()
	}
	quote := udp4.Bytes()[14:]
	// Nine headers, one more than the walk goes through.
	endless := packettest.TCP{Src: client6, Dst: virtual6,
		Link: extended(60, bytes.Repeat([]byte{60, 0, 1, 4, 0, 0, 0, 0}, 9), 64)}.Frame()
	for name, c := range map[string]struct {
		frame packettest.Frame
		want  packet.Reason
	}{
		"empty":                  {cut(tcp4, 0), packet.ShortFrame},
		"half_ethernet":          {cut(tcp4, 13), packet.ShortFrame},
		"half_tag":               {with(cut(tcp4, 17), 12, 0x81, 0), packet.ShortFrame},
		"three_tags":             {packettest.TCP{Src: client4, Dst: virtual4, Link: packettest.Link{VLAN: []uint16{1, 2, 3}}}.Frame(), packet.NotIP},
		"arp":                    {with(tcp4, 12, 8, 6), packet.NotIP},
		"half_ipv4":              {cut(tcp4, 33), packet.ShortFrame},
		"half_ipv6":              {cut(tcp6, 53), packet.ShortFrame},
		"ipv4_cut_short":         {cut(tcp4, 58), packet.BadIPHeader},
		"ipv4_version":           {with(tcp4, 14, 0x65), packet.BadIPHeader},
		"ipv4_header_length":     {with(tcp4, 14, 0x44), packet.BadIPHeader},
		"ipv4_header_over_total": {with(tcp4, 16, 0, 19), packet.BadIPHeader},
		"ipv6_version":           {with(tcp6, 14, 0x40), packet.BadIPHeader},
		"ipv6_cut_short":         {cut(tcp6, 78), packet.BadIPHeader},
		"ipv6_mapped_source":     {with(tcp6, 22, append(make([]byte, 10), 0xff, 0xff, 1, 2, 3, 4)...), packet.BadIPHeader},
		"ipv6_mapped_dest":       {with(tcp6, 38, append(make([]byte, 10), 0xff, 0xff, 1, 2, 3, 4)...), packet.BadIPHeader},
		"routing_segments_left":  {six(43, routingLeft), packet.BadIPHeader},
		"extension_too_long":     {six(60, []byte{0, 9, 1, 4, 0, 0, 0, 0}), packet.ShortFrame},
		"extension_cut":          {with(six(0, hopByHop), 18, 0, 7), packet.ShortFrame},
		"endless_extensions":     {endless, packet.BadIPHeader},
		"esp":                    {with(tcp6, 20, 50), packet.BadProtocol},
		"gre":                    {with(tcp4, 23, 47), packet.BadProtocol},
		"icmp6_over_ipv4":        {with(icmp(8, nil), 23, 58), packet.BadProtocol},
		"icmp4_over_ipv6":        {with(tcp6, 20, 1), packet.BadProtocol},
		"half_tcp":               {with(tcp4, 16, 0, 39), packet.ShortFrame},
		"half_tcp6":              {with(tcp6, 18, 0, 19), packet.ShortFrame},
		"data_offset_small":      {with(tcp4, 46, 0x40), packet.BadTCPHeader},
		"data_offset_large":      {with(tcp4, 46, 0x70), packet.BadTCPHeader},
		"option_length_0":        {options(3, 0, 0, 0), packet.BadTCPHeader},
		"option_length_1":        {options(3, 1, 0, 0), packet.BadTCPHeader},
		"option_too_long":        {options(1, 1, 254, 3), packet.BadTCPHeader},
		"option_without_length":  {options(1, 1, 1, 254), packet.BadTCPHeader},
		"half_udp":               {with(udp4, 16, 0, 27), packet.ShortFrame},
		"udp_length_small":       {with(udp4, 38, 0, 7), packet.BadUDPLength},
		"udp_length_large":       {with(udp4, 38, 0, 14), packet.BadUDPLength},
		"half_icmp":              {with(icmp(8, nil), 16, 0, 27), packet.BadICMP},
		"icmp_redirect":          {icmp(5, quote), packet.BadProtocol},
		"source_quench":          {icmp(4, quote), packet.BadProtocol},
		"quote_cut":              {icmp(3, quote[:27]), packet.BadICMP},
		"quote_of_icmp":          {icmp(3, icmp(8, nil).Bytes()[14:]), packet.BadICMP},
		"quote_later_fragment":   {icmp(3, with(udp4, 20, 0, 100).Bytes()[14:]), packet.BadICMP},
		"quote_later_fragment6":  {packettest.Error{From: client6.Addr, Type: 2, About: six(44, secondPiece)}.Frame(), packet.BadICMP},
		"quote_of_mapped":        {with(packettest.Error{From: client6.Addr, Type: 2, About: tcp6}.Frame(), 62+24, append(make([]byte, 10), 0xff, 0xff, 1, 2, 3, 4)...), packet.BadICMP},
		"quote_of_another's":     {with(packettest.Error{From: client4.Addr, Type: 3, About: udp4}.Frame(), 42+12, 1, 2, 3, 4), packet.BadICMP},
		"quote_other_family":     {icmp(3, tcp6.Bytes()[14:]), packet.BadICMP},
	} {
		t.Run(name, func(t *testing.T) {
			var p packet.Packet
			if got := p.Parse(c.frame.Buf, c.frame.Start, c.frame.End); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
