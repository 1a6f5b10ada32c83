package packet_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// readSYN has s read a frame in a buffer.
func readSYN(s *packet.PlainSYN, f packettest.Frame) bool {
	frame, size := f.Buf[f.Start:], f.End-f.Start
	return s.Read((*[packet.PlainRoom]byte)(frame), size) || s.ReadTagged((*[packet.TaggedRoom]byte)(frame), size)
}

func TestPlainSYN(t *testing.T) {
	syn := packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.SYN, Seq: 7, Options: synOptions}
	with := func(change func(*packettest.TCP)) packettest.Frame {
		s := syn
		change(&s)
		return s.Frame()
	}
	for name, test := range map[string]struct {
		frame packettest.Frame
		want  bool
	}{
		"of_linux":        {syn.Frame(), true},
		"without_options": {with(func(s *packettest.TCP) { s.Options = nil }), true},
		"of_windows":      {with(func(s *packettest.TCP) { s.Options = []byte{2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2} }), true},
		"with_data":       {with(func(s *packettest.TCP) { s.Payload = []byte("GET") }), true},
		"asking_for_ecn":  {with(func(s *packettest.TCP) { s.Flags |= 0xc0 }), true},
		"padded":          {with(func(s *packettest.TCP) { s.Link.Pad = 6 }), true},
		"syn_ack":         {with(func(s *packettest.TCP) { s.Flags |= packet.ACK }), false},
		"syn_fin":         {with(func(s *packettest.TCP) { s.Flags |= packet.FIN }), false},
		"malformed":       {with(func(s *packettest.TCP) { s.Options = []byte{2, 9, 5, 180} }), false},
		"at_its_last_hop": {with(func(s *packettest.TCP) { s.Link.TTL = 1 }), false},
		"in_a_vlan":       {with(func(s *packettest.TCP) { s.Link.VLAN = []uint16{5} }), true},
		"in_three_vlans":  {with(func(s *packettest.TCP) { s.Link.VLAN = []uint16{5, 6, 7} }), false},
		"with_ip_options": {with(func(s *packettest.TCP) { s.Link.IPOptions = []byte{1, 1, 1, 0} }), false},
		"of_ipv6":         {with(func(s *packettest.TCP) { s.Src, s.Dst = client6, virtual6 }), true},
		"extended":        {with(func(s *packettest.TCP) { s.Src, s.Dst, s.Link = client6, virtual6, extended(0, hopByHop, 0) }), false},
	} {
		t.Run(name, func(t *testing.T) {
			var s packet.PlainSYN
			if got := readSYN(&s, test.frame); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			checkPlainSYN(t, test.frame.Bytes())
		})
	}
}

// TestPlainAnswerIsBuilt has SYN-ACKs made in place and by Build.
func TestPlainAnswerIsBuilt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		link := packettest.Link{VLAN: []uint16{0xb005, 6}[:r.IntN(3)]}
		for i := range link.SrcMAC {
			link.SrcMAC[i], link.DstMAC[i] = byte(r.Uint32()), byte(r.Uint32())
		}
		syn := packettest.TCP{
			Link: link, Src: client4, Dst: virtual4, Flags: packet.SYN, Seq: r.Uint32(),
			Options: [][]byte{nil, synOptions, {2, 4, 5, 180}}[r.IntN(3)],
		}
		if r.IntN(2) == 0 {
			syn.Src, syn.Dst = client6, virtual6
		}
		for i := range 4 {
			syn.Src.Addr[12+i] = byte(r.Uint32())
		}
		syn.Src.Port = uint16(r.Uint32())
		o := packet.SYNOptions{
			MSS: uint16(r.Uint32()) * uint16(r.IntN(2)), Scale: uint8(r.IntN(16)), SACK: r.IntN(2) == 0,
			Timestamps: r.IntN(2) == 0, Val: r.Uint32(), Ecr: r.Uint32(),
		}
		seq, window := r.Uint32(), uint16(r.Uint32())
		f := syn.Frame()
		var want packet.Packet
		want.Build(make([]byte, 8+packet.SegmentLen), 8, &packet.Segment{
			Src: syn.Dst, Dst: syn.Src, Seq: seq, Ack: syn.Seq + 1, Flags: packet.SYN | packet.ACK, Window: window, Options: o,
		})
		want.AnswerLink(f.Parse(t).Ethernet())
		var s packet.PlainSYN
		if !readSYN(&s, f) {
			t.Fatalf("not plain: % x", f.Bytes())
		}
		if got := f.Buf[f.Start:][:s.Answer(seq, window, &o)]; !bytes.Equal(got, want.Frame()) {
			t.Fatalf("got  % x\nwant % x", got, want.Frame())
		}
	}
}

// checkPlainSYN checks that whatever Read takes for a plain SYN is one to Parse, and the
// same one, and that none is overlooked.
func checkPlainSYN(t *testing.T, frame []byte) {
	t.Helper()
	var syn packet.PlainSYN
	var p packet.Packet
	in := packettest.NewFrame(frame)
	got, why := readSYN(&syn, in), p.Parse(in.Buf, in.Start, in.End)
	want := why == packet.Kept && isBare(&p) &&
		p.Flow.Proto == packet.ProtoTCP && p.Flags&(packet.SYN|packet.FIN|packet.RST|packet.ACK) == packet.SYN
	if got != want {
		t.Fatalf("plain SYN: got %v, want %v (%v): % x", got, want, why, frame)
	}
	if !got {
		return
	}
	var flow packet.Flow
	syn.SetFlow(&flow, packet.ProtoTCP)
	if flow != p.Flow || syn.ISN != p.TCP().Seq() || syn.Options != p.SYNOptions() {
		t.Fatalf("got %+v, want what %+v says, and %+v", syn, p, p.SYNOptions())
	}
}
