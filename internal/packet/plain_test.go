package packet_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
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
	addr6 := func() (a packet.Addr) {
		for i := range a {
			a[i] = byte(number())
		}
		a[0] = 0x20 // of hosts, as both ends of a plain packet are
		return a
	}
	for i := range 20_000 {
		end := func() packet.Endpoint { return packet.Endpoint{Addr: addr(), Port: uint16(number())} }
		if i%4 >= 2 {
			end = func() packet.Endpoint { return packet.Endpoint{Addr: addr6(), Port: uint16(number())} }
		}
		link := packettest.Link{TTL: 2 + byte(rng.IntN(254)), VLAN: []uint16{0xb005, 6}[:rng.IntN(3)]}
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
			frame = packettest.UDP{Link: link, Src: end(), Dst: end(), Payload: payload, NoSum: i%4 < 2 && rng.IntN(4) == 0}.Frame()
		}
		want := packettest.NewFrame(frame.Bytes()).Parse(t)
		var got packet.Plain
		if !readPlain(&got, frame) {
			t.Fatalf("not plain: % x", frame.Bytes())
		}

		src, dst := end(), end()
		dstMAC, srcMAC := [6]byte{1, 2, 3, 4, 5, 6}, [6]byte{7, 8, 9, 10, 11, 12}
		seq, ack, val, ecr := number(), number(), number(), number()
		course := packet.Course{
			Addrs: packet.Pair4(&src.Addr, &dst.Addr), Ports: uint32(src.Port)<<16 | uint32(dst.Port),
			Numbers: both(seq, ack), Stamps: both(val, ecr),
		}
		if got.Is6() {
			course.Addrs = got.SetAddrs6(&src.Addr, &dst.Addr)
		}
		got.Forward(&dstMAC, &srcMAC, course)
		want.DecrementTTL()
		if want.Flow.Proto == packet.ProtoTCP {
			want.AddSeq(seq)
			want.AddAck(ack)
			want.ShiftTimestamps(val, ecr)
		}
		want.Translate(src, dst)
		want.SetLink(dstMAC, srcMAC, &packet.VLANs{})
		at, size := got.Untagged()
		made := frame.Bytes()[at:][:size]
		packettest.CheckSums(t, made)
		if !bytes.Equal(made, want.Frame()) {
			t.Fatalf("got  % x\nwant % x", made, want.Frame())
		}
	}
}

// checkSimple holds ReadSimple4 and ReadSimple6 to what Read says of a frame.
func checkSimple(t *testing.T, f packettest.Frame) {
	t.Helper()
	head, size := (*[packet.PlainRoom]byte)(f.Buf[f.Start:]), f.End-f.Start
	var want, got4, got6 packet.Plain
	isSimple := want.Read(head, size) && want.Simple()
	if got := got4.ReadSimple4(head, size); got != (isSimple && !want.Is6()) || got && got4 != want {
		t.Fatalf("IPv4: got %v, %+v, want %v, %+v: % x", got, got4, isSimple, want, f.Bytes())
	}
	if got := got6.ReadSimple6(head, size); got != (isSimple && want.Is6()) || got && got6 != want {
		t.Fatalf("IPv6: got %v, %+v, want %v, %+v: % x", got, got6, isSimple, want, f.Bytes())
	}
}

// readPlain has p read a frame in a buffer.
func readPlain(p *packet.Plain, f packettest.Frame) bool {
	frame, size := f.Buf[f.Start:], f.End-f.Start
	return p.Read((*[packet.PlainRoom]byte)(frame), size) || p.ReadTagged((*[packet.TaggedRoom]byte)(frame), size)
}

func both(a, b uint32) uint64 { return uint64(a)<<32 | uint64(b) }

func TestIsBetween(t *testing.T) {
	four := packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.ACK}.Frame()
	six := packettest.TCP{Src: client6, Dst: virtual6, Flags: packet.ACK}.Frame()
	for _, test := range []struct {
		frame    packettest.Frame
		src, dst packet.Endpoint
		want     bool
	}{
		{four, client4, virtual4, true}, {four, virtual4, client4, false}, {four, client6, virtual6, false},
		{six, client6, virtual6, true}, {six, virtual6, client6, false}, {six, client4, virtual4, false},
	} {
		var p packet.Plain
		if !readPlain(&p, test.frame) {
			t.Fatal("not plain")
		}
		src, dst := &test.src.Addr, &test.dst.Addr
		is := p.IsBetween4
		if p.Is6() {
			is = p.IsBetween6
		}
		if got := is(src, dst); got != test.want {
			t.Errorf("IPv6 %v, %v to %v: got %v, want %v", p.Is6(), test.src, test.dst, got, test.want)
		}
		if got := packet.Pair4(src, dst); !p.Is6() && test.want && got != p.Addrs {
			t.Errorf("got %x, want %x", got, p.Addrs)
		}
	}
}

func TestPlain(t *testing.T) {
	tcp := packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.ACK}
	six := packettest.TCP{Src: client6, Dst: virtual6, Flags: packet.ACK}
	with := func(change func(*packettest.TCP)) packettest.Frame {
		s := tcp
		change(&s)
		return s.Frame()
	}
	with6 := func(change func(*packettest.TCP)) packettest.Frame {
		s := six
		change(&s)
		return s.Frame()
	}
	mapped := six.Frame()
	copy(mapped.Bytes()[14+8:], client4.Addr[:])
	for name, test := range map[string]struct {
		frame packettest.Frame
		want  bool
	}{
		"ack":              {tcp.Frame(), true},
		"timestamps":       {with(func(s *packettest.TCP) { s.Options = timestamps }), true},
		"udp":              {packettest.UDP{Src: client4, Dst: virtual4}.Frame(), true},
		"last_hop":         {with(func(s *packettest.TCP) { s.TTL = 1 }), false},
		"ip_options":       {with(func(s *packettest.TCP) { s.IPOptions = []byte{1, 1, 1, 0} }), false},
		"syn":              {with(func(s *packettest.TCP) { s.Flags, s.Options = packet.SYN, synOptions }), true},
		"syn_ack":          {with(func(s *packettest.TCP) { s.Flags |= packet.SYN }), true},
		"syn_fin":          {with(func(s *packettest.TCP) { s.Flags = packet.SYN | packet.FIN }), false},
		"fin":              {with(func(s *packettest.TCP) { s.Flags |= packet.FIN }), true},
		"fin_alone":        {with(func(s *packettest.TCP) { s.Flags = packet.FIN }), false},
		"no_flags":         {with(func(s *packettest.TCP) { s.Flags = packet.PSH }), false},
		"rst":              {with(func(s *packettest.TCP) { s.Flags |= packet.RST }), false},
		"timestamps_moved": {with(func(s *packettest.TCP) { s.Options = append(bytes.Clone(timestamps[2:]), 1, 1) }), true},
		"sack":             {with(func(s *packettest.TCP) { s.Options = []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9} }), true},
		"broken_options":   {with(func(s *packettest.TCP) { s.Options = []byte{1, 1, 5, 11, 0, 0, 0, 1, 0, 0, 0, 9} }), false},
		"vlan":             {with(func(s *packettest.TCP) { s.VLAN = []uint16{5} }), true},
		"vlan_in_vlan":     {with(func(s *packettest.TCP) { s.VLAN = []uint16{5, 6} }), true},
		"third_vlan":       {with(func(s *packettest.TCP) { s.VLAN = []uint16{5, 6, 7} }), false},
		"ipv6":             {six.Frame(), true},
		"ipv6_timestamps":  {with6(func(s *packettest.TCP) { s.Options = timestamps }), true},
		"ipv6_udp":         {packettest.UDP{Src: client6, Dst: virtual6}.Frame(), true},
		"ipv6_last_hop":    {with6(func(s *packettest.TCP) { s.TTL = 1 }), false},
		"ipv6_extension":   {with6(func(s *packettest.TCP) { s.FirstExtension, s.Extensions = 60, []byte{0, 0, 1, 4, 0, 0, 0, 0} }), false},
		"ipv6_syn":         {with6(func(s *packettest.TCP) { s.Flags, s.Options = packet.SYN, synOptions }), true},
		"ipv6_vlan":        {with6(func(s *packettest.TCP) { s.VLAN = []uint16{5} }), true},
		"ipv6_mapped":      {mapped, false},
		"ipv6_icmp":        {packettest.ICMP{Src: client6.Addr, Dst: virtual6.Addr, Type: packet.ICMPv6EchoRequest}.Frame(), false},
		"icmp":             {packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPEchoRequest}.Frame(), false},
	} {
		t.Run(name, func(t *testing.T) {
			var p packet.Plain
			if got := readPlain(&p, test.frame); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			checkPlain(t, test.frame.Bytes())
		})
	}
}

// TestPlainOfDamagedFrames has frames that are plain, or nearly, with up to three bytes
// overwritten, cut off or padded.
func TestPlainOfDamagedFrames(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var whole [][]byte
	for _, ends := range [][2]packet.Endpoint{{client4, virtual4}, {client6, virtual6}} {
		src, dst := ends[0], ends[1]
		whole = append(whole,
			packettest.TCP{Src: src, Dst: dst, Flags: packet.ACK}.Frame().Bytes(),
			packettest.TCP{Src: src, Dst: dst, Flags: packet.ACK | packet.PSH, Options: timestamps, Payload: []byte("odd")}.Frame().Bytes(),
			packettest.TCP{Src: src, Dst: dst, Flags: packet.SYN, Options: synOptions}.Frame().Bytes(),
			packettest.UDP{Src: src, Dst: dst, Payload: []byte("odd")}.Frame().Bytes(),
			packettest.TCP{Src: src, Dst: dst, Flags: packet.ACK, Link: packettest.Link{VLAN: []uint16{5, 6}}}.Frame().Bytes())
	}
	plain := 0
	for range 200_000 {
		frame := append(bytes.Clone(whole[rng.IntN(len(whole))]), make([]byte, rng.IntN(8))...)
		frame = frame[:len(frame)-min(rng.IntN(12), rng.IntN(12))]
		for range rng.IntN(4) {
			if i := 12 + rng.IntN(75); i < len(frame) { // in the headers
				frame[i] = byte(rng.Uint32()) >> rng.IntN(8)
			}
		}
		checkPlain(t, frame)
		var p packet.Plain
		if readPlain(&p, packettest.NewFrame(frame)) {
			plain++
		}
	}
	if plain < 20_000 || plain > 180_000 {
		t.Errorf("%d of 200,000 frames are plain: too few or too many to tell", plain)
	}
}

// checkPlain checks that whatever Read takes for plain is to Parse a packet that is
// plain, and the same one, and that nothing plain is overlooked.
func checkPlain(t *testing.T, frame []byte) {
	t.Helper()
	var plain packet.Plain
	var parsed, unfolded packet.Packet
	in := packettest.NewFrame(frame)
	got, why := readPlain(&plain, in), parsed.Parse(in.Buf, in.Start, in.End)
	if want := why == packet.Kept && isPlain(&parsed); got != want {
		t.Fatalf("plain: got %v, want %v (%v): % x", got, want, why, frame)
	}
	checkSimple(t, in)
	if !got {
		return
	}
	if plain.Packet(&unfolded, in.Buf, in.Start); !reflect.DeepEqual(unfolded, parsed) {
		t.Fatalf("got  %+v\nwant %+v", unfolded, parsed)
	}
	if plain.Simple() != isSimple(&parsed) {
		t.Fatalf("simple: got %v: %+v", plain.Simple(), parsed)
	}
	if at, size := plain.Untagged(); at+size != len(parsed.Frame()) || at != parsed.L3-parsed.Start-14 || plain.IPLen() != parsed.IPLen() {
		t.Fatalf("length: got %d and %d, %d, want those of %+v", at, size, plain.IPLen(), parsed)
	}
	if parsed.Flow.Proto == packet.ProtoTCP {
		seq, next, ack := plain.Numbers()
		if tcp := parsed.TCP(); seq != tcp.Seq() || ack != tcp.Ack() || next != seq+parsed.SegmentLen() {
			t.Fatalf("numbers: got %d, %d, %d, want those of %+v", seq, next, ack, parsed)
		}
	}
	if plain.Answers() {
		checkAnswer(t, &plain, &parsed)
	}
}

// isSimple is the definition of a simple one.
func isSimple(p *packet.Packet) bool {
	if p.Flow.Proto != packet.ProtoTCP {
		return true
	}
	o := p.TCP().Options()
	return !p.Flags.Has(packet.SYN) && (len(o) == 0 || len(o) == 12 && bytes.Equal(o[:4], []byte{1, 1, 8, 10}))
}

// isPlain is the definition of a plain packet, of one that Parse has kept.
func isPlain(p *packet.Packet) bool {
	if !isBare(p) {
		return false
	}
	if p.Flow.Proto == packet.ProtoTCP {
		switch p.Flags & (packet.SYN | packet.FIN | packet.RST | packet.ACK) {
		case packet.SYN, packet.SYN | packet.ACK, packet.ACK, packet.FIN | packet.ACK:
			return true
		}
		return false
	}
	return p.Flow.Proto == packet.ProtoUDP
}

// isBare reports whether a packet has no IP options or extension headers, and some way to go.
func isBare(p *packet.Packet) bool {
	header := 20
	if p.Version == 6 {
		header = 40
		if none := [8]byte{}; [8]byte(p.Flow.Src[:]) == none || [8]byte(p.Flow.Dst[:]) == none {
			return false
		}
	}
	return p.L4 == p.L3+header && p.TTL() > 1
}
