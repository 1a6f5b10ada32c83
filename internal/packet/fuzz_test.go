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
	for _, frame := range []packettest.Frame{
		packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.SYN, Options: synOptions}.Frame(),
		packettest.TCP{Src: client4, Dst: virtual4, Options: append(bytes.Clone(timestamps), forgedTOA...), Link: packettest.Link{VLAN: []uint16{1, 2}, Pad: 3}}.Frame(),
		packettest.TCP{Src: client6, Dst: virtual6, Options: []byte{1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9, 0}, Payload: []byte("odd")}.Frame(),
		packettest.TCP{Src: client6, Dst: virtual6, Link: extended(0, hopThenRoute, 8)}.Frame(),
		packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd"), Surplus: []byte{1}, Link: packettest.Link{IPOptions: []byte{1, 1, 1, 0}}}.Frame(),
		packettest.UDP{Src: client6, Dst: virtual6, Payload: []byte("odd")}.Frame(),
		packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPUnreachable, Body: quote}.Frame(),
		packettest.EchoReply(notice(packet.Notice{Local: local4, Real: real4, Client: client4, Proto: 17})),
		packettest.EchoReply(notice(packet.Notice{Local: local6, Real: real6, Client: client6, Proto: 17})),
	} {
		f.Add(frame.Bytes(), uint32(0x12345678), uint16(0x4321), []byte{254, 8, 1, 2, 3, 4, 5, 6})
	}
	f.Fuzz(func(t *testing.T, frame []byte, delta uint32, by uint16, option []byte) {
		var p packet.Packet
		in := packettest.NewFrame(frame)
		if p.Parse(in.Buf, in.Start, in.End) != packet.Kept {
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
	})
}

// mutators is every method of Packet that changes the frame.
var mutators = []struct {
	name   string
	tcp    bool // for TCP segments only
	change func(p *packet.Packet, delta uint32, by uint16, option []byte)
}{
	{"Translate", false, func(p *packet.Packet, delta uint32, by uint16, _ []byte) {
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
		p.OptionRoom()
		o := packet.TOA(253)
		o.Decode(h.Options())
	case packet.ProtoUDP:
		h := p.UDP()
		_ = []any{h.SrcPort(), h.DstPort(), h.Len(), h.Sum()}
	default:
		h := p.ICMP()
		_ = []any{h.Type(), h.Code(), h.Sum(), h.ID(), h.Seq(), h.Body()}
		if p.IsError() {
			p.Quoted()
		}
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
	full := packettest.NewFrame(p.Frame())
	again := full.Parse(t)
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
