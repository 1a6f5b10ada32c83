package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// parseFragment returns f parsed, which is a fragment.
func parseFragment(t testing.TB, f packettest.Frame) *packet.Packet {
	t.Helper()
	p := new(packet.Packet)
	if why := p.Parse(f.Buf, f.Start, f.End); why != packet.Fragment {
		t.Fatalf("Parse(% x): got %v, want %v", f.Bytes(), why, packet.Fragment)
	}
	return p
}

// datagrams returns datagrams to be cut in pieces, of all that can be in front of
// their transport.
func datagrams() map[string]packettest.Frame {
	payload := bytes.Repeat([]byte("0123456789abcde"), 300)
	optionsThenDest := append([]byte{60, 0, 1, 4, 0, 0, 0, 0}, hopByHop...)
	return map[string]packettest.Frame{
		"tcp4":         packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.ACK, Options: timestamps, Payload: payload}.Frame(),
		"tcp6":         packettest.TCP{Src: client6, Dst: virtual6, Flags: packet.ACK, Options: timestamps, Payload: payload}.Frame(),
		"udp4":         packettest.UDP{Src: client4, Dst: virtual4, Payload: payload}.Frame(),
		"udp6":         packettest.UDP{Src: client6, Dst: virtual6, Payload: payload}.Frame(),
		"udp4_options": packettest.UDP{Src: client4, Dst: virtual4, Payload: payload, Link: packettest.Link{IPOptions: []byte{1, 1, 1, 0}, VLAN: []uint16{7, 8}}}.Frame(),
		"udp6_hop":     packettest.UDP{Src: client6, Dst: virtual6, Payload: payload, Link: extended(0, hopByHop, 0)}.Frame(),
		"udp6_dest":    packettest.UDP{Src: client6, Dst: virtual6, Payload: payload, Link: extended(0, optionsThenDest, 8)}.Frame(),
	}
}

func TestParseFragments(t *testing.T) {
	for name, f := range datagrams() {
		t.Run(name, func(t *testing.T) {
			whole := f.Parse(t)
			size, payload := 0, 0
			for i, f := range packettest.Fragments(f, 1280) {
				p := parseFragment(t, f)
				_, offset, more, ok := p.Fragment()
				if !ok || offset != size || more != (whole.IPLen()-size > 1280) {
					t.Errorf("piece %d: got offset %d, more %v, %v; want offset %d", i, offset, more, ok, size)
				}
				want := whole.Flow
				if i > 0 {
					want.SrcPort, want.DstPort = 0, 0
					if name == "udp6_dest" {
						want.Proto = 60
					}
				}
				if diff := cmp.Diff(p.Flow, want); diff != "" {
					t.Errorf("piece %d: flow: got(-) want(+)\n%s", i, diff)
				}
				if p.HasTransport() != (i == 0) || p.HasTransport() && p.Flags != whole.Flags {
					t.Errorf("piece %d: has transport %v, flags %v", i, p.HasTransport(), p.Flags)
				}
				size += p.End - p.L4
				if name == "udp6_dest" && i == 0 {
					size += 8
				}
				payload += p.PayloadLen()
			}
			if want := whole.PayloadLen(); name != "udp6_dest" && payload != want {
				t.Errorf("the pieces hold %d bytes of payload, want %d", payload, want)
			}
		})
	}
}

func TestParseRefusesFragments(t *testing.T) {
	tcp4 := packettest.TCP{Src: client4, Dst: virtual4, Options: timestamps, Payload: make([]byte, 100)}.Frame()
	udp4 := packettest.UDP{Src: client4, Dst: virtual4, Payload: make([]byte, 100)}.Frame()
	udp6 := packettest.UDP{Src: client6, Dst: virtual6, Payload: make([]byte, 100)}.Frame()
	dest6 := packettest.UDP{Src: client6, Dst: virtual6, Payload: make([]byte, 100), Link: extended(60, longOptions, 0)}.Frame()
	echo := packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: 8, Body: make([]byte, 100)}.Frame()
	piece := func(f packettest.Frame, payload, i int) packettest.Frame {
		head := 20
		if f.Buf[f.Start+14]>>4 == 6 {
			head = 48
		}
		return packettest.Fragments(f, head+payload)[i]
	}
	with := func(f packettest.Frame, at int, b ...byte) packettest.Frame {
		copy(f.Buf[f.Start+at:], b)
		return f
	}
	for name, c := range map[string]struct {
		frame packettest.Frame
		want  packet.Reason
	}{
		"tcp_ports_only":        {piece(tcp4, 8, 0), packet.TinyFragment},
		"tcp_without_options":   {piece(tcp4, 24, 0), packet.TinyFragment},
		"tcp_whole_header":      {piece(tcp4, 32, 0), packet.Fragment},
		"tcp_data_offset_small": {with(piece(tcp4, 32, 0), 46, 0x40), packet.BadTCPHeader},
		"tcp_option_too_long":   {with(piece(tcp4, 32, 0), 57, 200), packet.BadTCPHeader},
		"tcp_over_the_flags":    {piece(tcp4, 8, 1), packet.TinyFragment},
		"tcp_over_the_urgent":   {piece(tcp4, 8, 2), packet.TinyFragment},
		"tcp_behind_the_fixed":  {piece(tcp4, 8, 3), packet.Fragment},
		"udp_header_only":       {piece(udp4, 8, 0), packet.Fragment},
		"udp_next":              {piece(udp4, 8, 1), packet.Fragment},
		"udp_length_small":      {with(piece(udp4, 8, 0), 38, 0, 7), packet.BadUDPLength},
		"udp6_header_only":      {piece(udp6, 8, 0), packet.Fragment},
		"udp6_inside_options":   {piece(dest6, 8, 0), packet.TinyFragment},
		"udp6_without_header":   {piece(dest6, 16, 0), packet.TinyFragment},
		"udp6_behind_options":   {piece(dest6, 24, 0), packet.Fragment},
		"no_payload":            {with(piece(udp4, 8, 1), 16, 0, 20), packet.TinyFragment},
		"no_payload6":           {with(piece(udp6, 8, 1), 18, 0, 8), packet.TinyFragment},
		"not_eights":            {with(piece(udp4, 16, 1), 16, 0, 32), packet.BadIPHeader},
		"not_eights6":           {with(piece(udp6, 16, 1), 18, 0, 20), packet.BadIPHeader},
		"last_not_eights":       {piece(udp4, 16, 6), packet.Fragment},
		"beyond_64_KiB":         {with(piece(udp4, 8, 1), 20, 0x1f, 0xff), packet.BadIPHeader},
		"beyond_64_KiB_6":       {with(piece(udp6, 8, 1), 56, 0xff, 0xf8), packet.BadIPHeader},
		"up_to_64_KiB":          {with(piece(udp4, 8, 1), 20, 0x1f, 0xfc), packet.Fragment},
		"echo":                  {piece(echo, 16, 0), packet.BadProtocol},
		"echo_later":            {piece(echo, 16, 1), packet.BadProtocol},
		"extension_over_ipv4":   {with(piece(udp4, 8, 1), 23, 60), packet.BadProtocol},
		"two_fragment_headers": {packettest.UDP{Src: client6, Dst: virtual6,
			Link: extended(44, append([]byte{44}, append(firstPiece[1:], atomic...)...), 8)}.Frame(), packet.BadIPHeader},
	} {
		t.Run(name, func(t *testing.T) {
			var p packet.Packet
			if got := p.Parse(c.frame.Buf, c.frame.Start, c.frame.End); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestTranslateFragments translates every piece and looks at what comes together.
func TestTranslateFragments(t *testing.T) {
	for name, f := range datagrams() {
		t.Run(name, func(t *testing.T) {
			payload := bytes.Clone(f.Parse(t).Buf[f.Parse(t).Payload:f.End])
			pieces := packettest.Fragments(f, 1280)
			for i, f := range pieces {
				p := parseFragment(t, f)
				ports := p.Flow
				translate(p)
				if i > 0 && (p.Flow.SrcPort != 0 || p.Flow.DstPort != 0) {
					t.Errorf("piece %d: flow %v, was %v", i, p.Flow, ports)
				}
				p.DecrementTTL()
				packettest.CheckSums(t, p.Frame())
				before := bytes.Clone(p.Frame())
				if p.RecomputeChecksums(); !bytes.Equal(before, p.Frame()) {
					t.Errorf("piece %d: RecomputeChecksums changed a fragment", i)
				}
				if p.HasTransport() && p.Flow.Proto == packet.ProtoTCP {
					p.AddSeq(7)
					p.ShiftSACK(7)
					if p.InsertOption(forgedTOA) {
						t.Error("an option went into a fragment")
					}
				}
			}
			whole := packettest.Reassemble(pieces)
			packettest.CheckSums(t, whole.Bytes())
			p := whole.Parse(t)
			want := flow(local4, real4, p.Flow.Proto)
			if p.Version == 6 {
				want = flow(local6, real6, p.Flow.Proto)
			}
			if p.Flow != want || !bytes.Equal(p.Buf[p.Payload:p.End], payload) || p.TTL() != 63 {
				t.Errorf("reassembled: got %v, TTL %d, want %v and the payload as it was", p.Flow, p.TTL(), want)
			}
		})
	}
}

func TestFragmentOfWholeDatagram(t *testing.T) {
	for name, f := range map[string]packettest.Frame{
		"v4":     packettest.UDP{Src: client4, Dst: virtual4}.Frame(),
		"v6":     packettest.UDP{Src: client6, Dst: virtual6}.Frame(),
		"atomic": packettest.UDP{Src: client6, Dst: virtual6, Link: extended(44, atomic, 0)}.Frame(),
	} {
		p := f.Parse(t)
		if id, offset, more, ok := p.Fragment(); ok || id != 0 || offset != 0 || more || !p.HasTransport() {
			t.Errorf("%s: got a fragment: %d %d %v", name, id, offset, more)
		}
	}
}
