package packet_test

import (
	"bytes"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func TestNothingAllocates(t *testing.T) {
	tcp := packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.SYN, Options: synOptions}.Frame()
	tcp6 := packettest.TCP{Src: client6, Dst: virtual6, Flags: packet.SYN, Options: synOptions}.Frame()
	reply := packettest.EchoReply(notice(packet.Notice{Local: local4, Real: real4, Client: client4, Proto: 17}))
	quote := packettest.UDP{Src: virtual4, Dst: client4}.Frame().Bytes()[14:]
	icmp := packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPUnreachable, Body: quote}.Frame()
	piece := packettest.Fragments(datagrams()["udp4"], 1280)[0]
	whole := bytes.Clone(piece.Bytes())
	nosum := packettest.UDP{Src: client4, Dst: virtual4, Payload: make([]byte, 99), NoSum: true}.Frame().Parse(t)
	fresh := bytes.Clone(tcp.Bytes())
	list := packet.DefaultStripList()
	toa := packet.TOA(253)
	buf := make([]byte, 2048)
	var p, q, e, x, i packet.Packet
	to4 := packet.ErrorRewrite{Src: virtual4.Addr, QuotedSrc: client4, QuotedDst: virtual4}
	to6 := packet.ErrorRewrite{Src: virtual6.Addr, QuotedSrc: client6, QuotedDst: virtual6}
	parse := func(p *packet.Packet, f packettest.Frame) {
		if why := p.Parse(f.Buf, f.Start, f.End); why != packet.Kept {
			t.Fatal(why)
		}
	}
	parse(&q, tcp6)
	parse(&e, reply)
	parse(&x, icmp)
	for name, f := range map[string]func(){
		"parse":      func() { parse(&p, tcp) },
		"parse6":     func() { parse(&q, tcp6) },
		"parse_icmp": func() { parse(&x, icmp) },
		"translate":  func() { parse(&p, tcp); p.Translate(local4, real4); p.DecrementTTL() },
		"translate6": func() { q.Translate(local6, real6); q.DecrementTTL() },
		"numbers":    func() { parse(&p, tcp); p.AddSeq(1); p.AddAck(1); p.ShiftSACK(1) },
		"options":    func() { parse(&p, tcp); p.MSS(); p.LowerMSS(0); p.BlankTimestamps(); p.StripOptions(list) },
		"insert": func() {
			parse(&p, tcp)
			var opt [packet.MaxAddressOption]byte
			if !p.InsertOption(opt[:toa.Encode(opt[:], client4)]) {
				t.Fatal("option was not inserted")
			}
			toa.Decode(p.TCP().Options())
			copy(tcp.Bytes(), fresh) // the header stood there
		},
		"notice":   func() { packet.BuildNotice(buf, 0, &packet.Notice{Local: local4, Real: real4, Client: client4}) },
		"reply":    func() { e.NoticeReply() },
		"reset":    func() { packet.BuildRST(buf, 0, &packet.Reset{Src: virtual6, Dst: client6}) },
		"quoted":   func() { parse(&x, icmp); x.Quoted(); x.QuotedSeq(); x.MTU() },
		"fragment": func() { x.Parse(piece.Buf, piece.Start, piece.End); x.Fragment(); x.Translate(local4, real4) },
		"stamps":   func() { q.Timestamps(); q.ShiftTimestamps(1, 2) },
		"convert": func() {
			if nosum.Convert(local6, real6) != packet.Kept || nosum.Convert(local4, real4) != packet.Kept {
				t.Fatal("not converted")
			}
		},
		"split": func() {
			if x.Parse(piece.Buf, piece.Start, piece.End); !x.Split(&i, buf, 100, 1000) {
				t.Fatal("not split")
			}
			copy(piece.Bytes(), whole)
		},
		"error": func() {
			end, _ := packet.BuildError(buf, 100, &packet.Error{Kind: packet.ErrorTooBig, MTU: 1400, From: local6.Addr, About: &q})
			if why := i.Parse(buf, 100, end); why != packet.Kept {
				t.Fatal(why)
			}
			for _, e := range []*packet.ErrorRewrite{&to4, &to6, &to6} {
				if why := i.RewriteError(e); why != packet.Kept {
					t.Fatal(why)
				}
			}
		},
		"recompute": func() { q.RecomputeChecksums() },
		"link": func() {
			parse(&p, tcp)
			v := packet.VLANs{{packet.EtherTypeQinQ, 1}, {packet.EtherTypeVLAN, 2}}
			p.SetLink([6]byte{1}, [6]byte{2}, &v)
			v = p.Ethernet().VLANs()
			p.SetLink([6]byte{1}, [6]byte{2}, &packet.VLANs{})
		},
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: got %v allocations, want 0", name, got)
		}
	}
}
