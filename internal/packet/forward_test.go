package packet_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// TestForwardIsTheSumOfItsParts has random packets changed by Forward and by the
// methods that it stands for, with every number likely to be zero or all ones.
func TestForwardIsTheSumOfItsParts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	number := func() uint32 { return []uint32{0, ^uint32(0), rng.Uint32()}[rng.IntN(3)] }
	addr := func() packet.Addr {
		return packet.AddrFrom4([]byte{byte(number()), byte(number()), byte(number()), byte(number())})
	}
	end := func() packet.Endpoint { return packet.Endpoint{Addr: addr(), Port: uint16(number())} }
	for i := range 20_000 {
		link := packettest.Link{TTL: 2 + byte(rng.IntN(254))}
		payload := make([]byte, rng.IntN(20))
		for j := range payload {
			payload[j] = byte(number())
		}
		var frame packettest.Frame
		if i%2 == 0 {
			options := [][]byte{nil, timestamps, {1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0}}[rng.IntN(3)]
			frame = packettest.TCP{
				Link: link, Src: end(), Dst: end(), Flags: packet.ACK, Seq: number(), Ack: number(), Options: options, Payload: payload,
			}.Frame()
		} else {
			frame = packettest.UDP{Link: link, Src: end(), Dst: end(), Payload: payload, NoSum: rng.IntN(4) == 0}.Frame()
		}
		got, want := frame.Parse(t), packettest.NewFrame(frame.Bytes()).Parse(t)
		if !got.Plain() {
			t.Fatalf("not plain: % x", frame.Bytes())
		}

		src, dst := end(), end()
		c := packet.Course{
			DstMAC: [6]byte{1, 2, 3, 4, 5, 6}, SrcMAC: [6]byte{7, 8, 9, 10, 11, 12},
			Src: &src.Addr, Dst: &dst.Addr, SrcPort: src.Port, DstPort: dst.Port,
			Seq: number(), Ack: number(), TimestampVal: number(), TimestampEcr: number(),
		}
		got.Forward(&c)
		want.DecrementTTL()
		if want.Flow.Proto == packet.ProtoTCP {
			want.AddSeq(c.Seq)
			want.AddAck(c.Ack)
			want.ShiftTimestamps(c.TimestampVal, c.TimestampEcr)
		}
		want.Translate(src, dst)
		want.SetLink(c.DstMAC, c.SrcMAC, &packet.VLANs{})
		packettest.CheckSums(t, got.Frame())
		if !bytes.Equal(got.Frame(), want.Frame()) || got.Flow != want.Flow {
			t.Fatalf("%v\ngot  % x\nwant % x", got.Flow, got.Frame(), want.Frame())
		}
	}
}

func TestPlain(t *testing.T) {
	tcp := packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.ACK}
	with := func(change func(*packettest.TCP)) packettest.Frame {
		s := tcp
		change(&s)
		return s.Frame()
	}
	for name, test := range map[string]struct {
		frame packettest.Frame
		want  bool
	}{
		"ack":              {tcp.Frame(), true},
		"timestamps":       {with(func(s *packettest.TCP) { s.Options = timestamps }), true},
		"ip_options":       {with(func(s *packettest.TCP) { s.IPOptions = []byte{1, 1, 1, 0} }), true},
		"udp":              {packettest.UDP{Src: client4, Dst: virtual4}.Frame(), true},
		"syn":              {with(func(s *packettest.TCP) { s.Flags = packet.SYN }), false},
		"fin":              {with(func(s *packettest.TCP) { s.Flags |= packet.FIN }), false},
		"rst":              {with(func(s *packettest.TCP) { s.Flags |= packet.RST }), false},
		"timestamps_moved": {with(func(s *packettest.TCP) { s.Options = append(bytes.Clone(timestamps[2:]), 1, 1) }), false},
		"sack":             {with(func(s *packettest.TCP) { s.Options = []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9} }), false},
		"vlan":             {with(func(s *packettest.TCP) { s.VLAN = []uint16{5} }), false},
		"ipv6":             {packettest.TCP{Src: client6, Dst: virtual6, Flags: packet.ACK}.Frame(), false},
		"icmp":             {packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPEchoRequest}.Frame(), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.frame.Parse(t).Plain(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
