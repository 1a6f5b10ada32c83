package packet_test

import (
	"bytes"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// FuzzParse parses any frame and, if Parse keeps it, calls every accessor and
// mutator. After each mutator the checksums carried along must be the ones that a
// full computation gives, and the frame must still parse to the same thing.
func FuzzParse(f *testing.F) {
	quote := packettest.UDP{Src: virtual4, Dst: client4}.Frame().Bytes()[14:]
	quoted6 := packettest.TCP{Src: virtual6, Dst: client6, Payload: []byte("odd"), Link: extended(0, hopByHop, 0)}.Frame()
	for _, frame := range []packettest.Frame{
		packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.SYN, Options: synOptions}.Frame(),
		packettest.TCP{Src: client4, Dst: virtual4, Options: append(bytes.Clone(timestamps), forgedTOA...), Link: packettest.Link{VLAN: []uint16{1, 2}, Pad: 3}}.Frame(),
		packettest.TCP{Src: client6, Dst: virtual6, Options: []byte{1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9, 0}, Payload: []byte("odd")}.Frame(),
		packettest.TCP{Src: client6, Dst: virtual6, Link: extended(0, hopThenRoute, 8)}.Frame(),
		packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd"), Surplus: []byte{1}, Link: packettest.Link{IPOptions: []byte{1, 1, 1, 0}}}.Frame(),
		packettest.UDP{Src: client6, Dst: virtual6, Payload: []byte("odd")}.Frame(),
		packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.ACK, Options: timestamps, Link: packettest.Link{Pad: 3}}.Frame(),
		packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.SYN | packet.ACK, Options: []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7}}.Frame(),
		packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPUnreachable, Body: quote}.Frame(),
		packettest.Error{From: client6.Addr, Type: packet.ICMPv6TooBig, Word: 1400, About: quoted6}.Frame(),
		packettest.EchoReply(notice(packet.Notice{Local: local4, Real: real4, Client: client4, Proto: 17})),
		packettest.EchoReply(notice(packet.Notice{Local: local6, Real: real6, Client: client6, Proto: 17})),
	} {
		f.Add(frame.Bytes(), uint32(0x12345678), uint16(0x4321), []byte{254, 8, 1, 2, 3, 4, 5, 6})
	}
	for _, whole := range datagrams() {
		for _, frame := range packettest.Fragments(whole, 128)[:2] {
			f.Add(frame.Bytes(), uint32(0x12345678), uint16(0x4321), []byte{})
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, delta uint32, by uint16, option []byte) {
		checkPlain(t, frame)
		checkPlainSYN(t, frame)
		var p packet.Packet
		in := packettest.NewFrame(frame)
		switch p.Parse(in.Buf, in.Start, in.End) {
		case packet.Kept:
		case packet.Fragment:
			fuzzFragment(t, &p, delta, by)
			return
		default:
			return
		}
		read(&p)
		p.RecomputeChecksums()
		zero6 := p.Version == 6 && p.Flow.Proto == packet.ProtoUDP && p.UDP().Sum() == 0
		if err := packettest.VerifySums(p.Frame()); err != nil && !zero6 {
			t.Fatalf("RecomputeChecksums: % x: %v", p.Frame(), err)
		}
		for _, m := range mutators {
			if m.tcp && p.Flow.Proto != packet.ProtoTCP {
				continue
			}
			m.change(&p, delta, by, option)
			checkCarried(t, m.name, &p)
		}
		fuzzConvert(t, &p, by)
		fuzzError(t, &p, delta, int(int16(by)))
	})
}

// fuzzConvert converts p, whose checksums are right, and converts it back.
func fuzzConvert(t *testing.T, p *packet.Packet, port uint16) {
	for range 2 {
		before := bytes.Clone(p.Frame())
		if convert(p) != packet.Kept {
			if !bytes.Equal(before, p.Frame()) {
				t.Fatalf("Convert: refused % x, but changed it", before)
			}
			return
		}
		if err := packettest.VerifySums(p.Frame()); err != nil {
			t.Fatalf("Convert: % x\nfrom % x: %v", p.Frame(), before, err)
		}
		checkCarried(t, "Convert", p)
		p.Translate(packet.Endpoint{Addr: p.Flow.Src, Port: port}, p.Flow.Destination())
		checkCarried(t, "Translate", p)
	}
}

// fuzzError makes an error about p, or takes p if it is one, and rewrites it within
// its family and to the other and back.
func fuzzError(t *testing.T, p *packet.Packet, delta uint32, by int) {
	if !p.IsError() {
		buf := make([]byte, packettest.Headroom+packet.ErrorLen)
		from := virtual4.Addr
		if p.Version == 6 {
			from = virtual6.Addr
		}
		e := packet.Error{Kind: packet.ErrorKind(delta % 4), MTU: int(uint16(by)), From: from, About: p}
		end, ok := packet.BuildError(buf, packettest.Headroom, &e)
		if !ok || p.Flow.Proto != packet.ProtoTCP && p.Flow.Proto != packet.ProtoUDP {
			return
		}
		p = packettest.Frame{Buf: buf, Start: packettest.Headroom, End: end}.Parse(t)
		checkCarried(t, "BuildError", p)
	}
	e4 := packet.ErrorRewrite{Src: virtual4.Addr, QuotedSrc: client4, QuotedDst: virtual4, SeqDelta: delta, MTUDelta: by}
	e6 := packet.ErrorRewrite{Src: virtual6.Addr, QuotedSrc: client6, QuotedDst: virtual6, SeqDelta: delta, MTUDelta: by}
	for _, e := range []packet.ErrorRewrite{e4, e6, e6, e4, e4} {
		before := bytes.Clone(p.Frame())
		seq, isTCP := p.QuotedSeq()
		if p.RewriteError(&e) != packet.Kept {
			if !bytes.Equal(before, p.Frame()) {
				t.Fatalf("RewriteError: refused % x, but changed it", before)
			}
			continue
		}
		if err := packettest.VerifySums(p.Frame()); err != nil {
			t.Fatalf("RewriteError: % x\nfrom % x: %v", p.Frame(), before, err)
		}
		checkCarried(t, "RewriteError", p)
		got, ok := p.Quoted()
		if got.Source() != e.QuotedSrc || got.Destination() != e.QuotedDst || !ok || p.Flow.Src != e.Src || p.Flow.Dst != e.QuotedSrc.Addr {
			t.Fatalf("RewriteError: got %v quoted in %v, want %+v", got, p.Flow, e)
		}
		if now, _ := p.QuotedSeq(); isTCP && now != seq+delta {
			t.Fatalf("RewriteError: quotes %d, want %d", now, seq+delta)
		}
		if _, ok := p.MTU(); ok {
			p.PayloadLen()
		}
	}
}

// fuzzFragment does to a fragment all that may be done to one.
func fuzzFragment(t *testing.T, p *packet.Packet, delta uint32, by uint16) {
	if p.HasTransport() {
		read(p)
	}
	p.RecomputeChecksums()
	for _, m := range mutators {
		if m.tcp && (p.Flow.Proto != packet.ProtoTCP || !p.HasTransport()) {
			continue
		}
		m.change(p, delta, by, []byte{254, 8, 1, 2, 3, 4, 5, 6})
		checkCarried(t, m.name, p)
	}
	fuzzConvert(t, p, by)
	var rest packet.Packet
	if p.Split(&rest, make([]byte, 70000), int(by&63), p.IPLen()/2) {
		checkCarried(t, "Split", p)
		checkCarried(t, "Split: rest", &rest)
	}
}

// mutators is every method of Packet that changes the frame.
var mutators = []struct {
	name   string
	tcp    bool // for TCP segments only
	change func(p *packet.Packet, delta uint32, by uint16, option []byte)
}{
	{"Translate", false, func(p *packet.Packet, delta uint32, by uint16, _ []byte) {
		if p.IsError() {
			return
		}
		src, dst := local4, real4
		if p.Version == 6 {
			src, dst = local6, real6
		}
		src.Port, dst.Port = by, uint16(delta)
		src.Addr[15], dst.Addr[12] = byte(delta>>16), byte(delta>>24)
		p.Translate(src, dst)
	}},
	{"DecrementTTL", false, func(p *packet.Packet, _ uint32, _ uint16, _ []byte) { p.DecrementTTL() }},
	{"SetLink", false, func(p *packet.Packet, d uint32, by uint16, _ []byte) {
		vlans := [...]packet.VLANs{{}, {{packet.EtherTypeVLAN, by}}, {{packet.EtherTypeQinQ, by}, {packet.EtherTypeVLAN, uint16(d)}}}
		p.SetLink([6]byte{byte(d)}, [6]byte{1: byte(d)}, &vlans[d%3])
	}},
	{"AddSeq", true, func(p *packet.Packet, d uint32, _ uint16, _ []byte) { p.AddSeq(d) }},
	{"AddAck", true, func(p *packet.Packet, d uint32, _ uint16, _ []byte) { p.AddAck(d) }},
	{"ShiftSACK", true, func(p *packet.Packet, d uint32, _ uint16, _ []byte) { p.ShiftSACK(d) }},
	{"ShiftTimestamps", true, func(p *packet.Packet, d uint32, by uint16, _ []byte) { p.ShiftTimestamps(d, uint32(by)<<16) }},
	{"LowerMSS", true, func(p *packet.Packet, _ uint32, by uint16, _ []byte) { p.LowerMSS(by) }},
	{"InsertOption", true, func(p *packet.Packet, _ uint32, _ uint16, option []byte) {
		// What is inserted is one well-formed option.
		if n := len(option); n >= 2 && n <= 40 && option[0] > 1 {
			p.InsertOption(append([]byte{option[0], byte(n)}, option[2:]...))
		}
	}},
	{"StripOptions", true, func(p *packet.Packet, _ uint32, _ uint16, _ []byte) { p.StripOptions(packet.DefaultStripList()) }},
	{"BlankTimestamps", true, func(p *packet.Packet, _ uint32, _ uint16, _ []byte) { p.BlankTimestamps() }},
	{"InsertOption of a client", true, func(p *packet.Packet, d uint32, by uint16, _ []byte) {
		client := client4
		if d&1 != 0 {
			client = client6
		}
		o := packet.AddressOption{Kind4: byte(d >> 8), Kind6: byte(d >> 16), TTM: d&2 != 0, TTMLength: byte(by)}
		var b [packet.MaxAddressOption]byte
		if n := o.Encode(b[:], client); b[0] > 1 {
			p.InsertOption(b[:n])
		}
	}},
}

// read calls every accessor.
func read(p *packet.Packet) {
	e := p.Ethernet()
	e.Dst()
	e.Src()
	e.Type()
	for i := range e.Tags() {
		e.Tag(i).ID()
		e.Tag(i).Priority()
	}
	if h := p.IPv4(); p.Version == 4 {
		_ = []any{h.HeaderLen(), h.TOS(), h.TotalLen(), h.ID(), h.DontFragment(), h.IsFragment(), h.TTL(), h.Proto(), h.Sum(), h.Src(), h.Dst()}
	}
	if h := p.IPv6(); p.Version == 6 {
		_ = []any{h.TrafficClass(), h.FlowLabel(), h.PayloadLen(), h.NextHeader(), h.HopLimit(), h.Src(), h.Dst()}
	}
	switch p.Flow.Proto {
	case packet.ProtoTCP:
		h := p.TCP()
		_ = []any{h.SrcPort(), h.DstPort(), h.Seq(), h.Ack(), h.HeaderLen(), h.Flags(), h.Window(), h.Sum(), h.Urgent(), h.Options()}
		p.MSS()
		p.Timestamps()
		p.OptionRoom()
		o := packet.TOA(253)
		o.Decode(h.Options())
	case packet.ProtoUDP:
		h := p.UDP()
		_ = []any{h.SrcPort(), h.DstPort(), h.Len(), h.Sum()}
	default:
		h := p.ICMP()
		_ = []any{h.Type(), h.Code(), h.Sum(), h.ID(), h.Seq(), h.Body()}
		p.Quoted()
		p.QuotedSeq()
		p.MTU()
	}
	p.Flow.Source()
	p.Flow.Destination()
	p.NoticeReply()
	p.PayloadLen()
	p.SegmentLen()
	p.IPLen()
}

// checkCarried compares p with a copy whose checksums are computed anew, and with
// what Parse says of it.
func checkCarried(t *testing.T, name string, p *packet.Packet) {
	t.Helper()
	full, again := packettest.NewFrame(p.Frame()), new(packet.Packet)
	want := packet.Kept
	if _, _, _, piece := p.Fragment(); piece {
		want = packet.Fragment
	}
	if why := again.Parse(full.Buf, full.Start, full.End); why != want {
		t.Fatalf("%s: % x: parses to %v, want %v", name, p.Frame(), why, want)
	}
	if again.Flow != p.Flow || again.Flags != p.Flags || again.L3-again.Start != p.L3-p.Start ||
		again.L4-again.Start != p.L4-p.Start || again.Payload-again.Start != p.Payload-p.Start || again.IPLen() != p.IPLen() {
		t.Fatalf("%s: % x: parses to\n%+v, was\n%+v", name, p.Frame(), again, p)
	}
	again.RecomputeChecksums()
	if !bytes.Equal(again.Frame(), p.Frame()) {
		t.Fatalf("%s: checksums carried along\n% x\nin full\n% x", name, p.Frame(), again.Frame())
	}
}

// FuzzOptions walks any option area, through every function that does.
func FuzzOptions(f *testing.F) {
	for _, o := range [][]byte{synOptions, timestamps, forgedTOA, {1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9, 0}, {5, 0}, {254, 1}, {1, 1, 1, 8}} {
		f.Add(o, uint32(0xfffffff0))
	}
	f.Fuzz(func(t *testing.T, options []byte, delta uint32) {
		toa, ttm := packet.TOA(253), packet.AddressOption{TTM: true, Kind4: 254, Kind6: 254, TTMLength: uint8(delta)}
		toa.Decode(options)
		ttm.Decode(options)
		in := packettest.TCP{Src: client4, Dst: virtual4, Options: options[:min(len(options), 40)]}.Frame()
		var p packet.Packet
		if p.Parse(in.Buf, in.Start, in.End) != packet.Kept {
			return
		}
		size := len(p.TCP().Options())
		p.MSS()
		p.LowerMSS(uint16(delta))
		p.ShiftSACK(delta)
		p.Timestamps()
		p.ShiftTimestamps(delta, ^delta)
		p.BlankTimestamps()
		p.StripOptions(packet.DefaultStripList())
		checkCarried(t, "walks", &p)
		if n := p.StripOptions(packet.DefaultStripList()); n != 0 {
			t.Errorf("% x: %d options left after StripOptions", options, n)
		}
		if got := len(p.TCP().Options()); got != size {
			t.Errorf("% x: %d bytes of options became %d", options, size, got)
		}
	})
}
