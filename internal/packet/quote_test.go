package packet_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func TestQuoted(t *testing.T) {
	udp4 := packettest.UDP{Src: virtual4, Dst: client4, Payload: []byte("12345")}
	tcp6 := packettest.TCP{Src: virtual6, Dst: client6, Seq: 0x01020304, Link: extended(0, hopByHop, 0)}
	for name, c := range map[string]struct {
		about  packettest.Frame
		quoted int
		want   packet.Flow
		seq    uint32
	}{
		"udp4":      {udp4.Frame(), 28, flow(virtual4, client4, 17), 0},
		"tcp6":      {tcp6.Frame(), 56, flow(virtual6, client6, 6), 0x01020304},
		"fragment4": {packettest.Fragments(udp4.Frame(), 28)[0], 28, flow(virtual4, client4, 17), 0},
		"fragment6": {packettest.Fragments(tcp6.Frame(), 1280)[0], 0, flow(virtual6, client6, 6), 0x01020304},
	} {
		t.Run(name, func(t *testing.T) {
			kind := uint8(packet.ICMPUnreachable)
			if c.about.Buf[c.about.Start+14]>>4 == 6 {
				kind = packet.ICMPv6TooBig
			}
			p := packettest.Error{From: c.want.Dst, Type: kind, About: c.about, Quoted: c.quoted}.Frame().Parse(t)
			if !p.IsError() {
				t.Error("IsError: got false, want true")
			}
			got, ok := p.Quoted()
			if diff := cmp.Diff(got, c.want); !ok || diff != "" {
				t.Errorf("Quoted: %v, got(-) want(+)\n%s", ok, diff)
			}
			if seq, ok := p.QuotedSeq(); seq != c.seq || ok != (c.want.Proto == packet.ProtoTCP) {
				t.Errorf("QuotedSeq: got %#x %v, want %#x", seq, ok, c.seq)
			}
		})
	}
}

func TestQuotedOfNoError(t *testing.T) {
	body := packettest.TCP{Src: virtual4, Dst: client4}.Frame().Bytes()[14:]
	for name, f := range map[string]packettest.Frame{
		"tcp":  packettest.TCP{Src: client4, Dst: virtual4}.Frame(),
		"echo": packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPEchoRequest, Body: body}.Frame(),
	} {
		p := f.Parse(t)
		if f, ok := p.Quoted(); ok {
			t.Errorf("%s: quotes %v", name, f)
		}
		if _, ok := p.QuotedSeq(); ok {
			t.Errorf("%s: quotes a sequence number", name)
		}
		if _, ok := p.MTU(); ok {
			t.Errorf("%s: reports an MTU", name)
		}
	}
}

func TestMTU(t *testing.T) {
	udp4 := packettest.UDP{Src: virtual4, Dst: client4}.Frame()
	udp6 := packettest.UDP{Src: virtual6, Dst: client6}.Frame()
	for name, c := range map[string]struct {
		frame packettest.Error
		want  int
		ok    bool
	}{
		"frag_needed":      {packettest.Error{From: client4.Addr, Type: 3, Code: 4, Word: 1400, About: udp4}, 1400, true},
		"frag_needed_old":  {packettest.Error{From: client4.Addr, Type: 3, Code: 4, About: udp4}, 0, true},
		"with_length":      {packettest.Error{From: client4.Addr, Type: 3, Code: 4, Word: 7<<16 | 1400, About: udp4}, 1400, true},
		"port_unreachable": {packettest.Error{From: client4.Addr, Type: 3, Code: 3, Word: 1400, About: udp4}, 1400, false},
		"too_big":          {packettest.Error{From: client6.Addr, Type: 2, Word: 100000, About: udp6}, 100000, true},
		"time_exceeded6":   {packettest.Error{From: client6.Addr, Type: 3, Word: 0, About: udp6}, 0, false},
	} {
		if got, ok := c.frame.Frame().Parse(t).MTU(); got != c.want && c.ok || ok != c.ok {
			t.Errorf("%s: got %d %v, want %d %v", name, got, ok, c.want, c.ok)
		}
	}
}
