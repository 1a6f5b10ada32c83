package packet_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// A family has the four ends of a connection, and a router in between.
type family struct {
	client, virtual, local, real packet.Endpoint
	router                       packet.Addr
	unreachable                  uint8 // type of an error
}

var families = map[string]family{
	"4": {client4, virtual4, local4, real4, packettest.Addr("192.0.2.254"), packet.ICMPUnreachable},
	"6": {client6, virtual6, local6, real6, packettest.Addr("2001:db8:fe::1"), packet.ICMPv6Unreachable},
}

// TestRewriteErrorShowsTheSenderItsPacket forwards a client's packet, has a router
// complain about it, and compares what the client finds in the error with what it
// sent. Families are the client's and the real server's.
func TestRewriteErrorShowsTheSenderItsPacket(t *testing.T) {
	delta := uint32(0x89abcdef)
	for outside, c := range families {
		for inside, r := range families {
			for _, quoted := range []int{0, 16, 28, 29, 36, 90} { // beyond the IP header, 8 less
				for name, sent := range map[string]packettest.Frame{
					"tcp":      packettest.TCP{Src: c.client, Dst: c.virtual, Seq: 7, Flags: packet.ACK, Options: timestamps, Payload: []byte("odd")}.Frame(),
					"udp":      packettest.UDP{Src: c.client, Dst: c.virtual, Payload: bytes.Repeat([]byte("odd"), 500)}.Frame(),
					"udp_vlan": packettest.UDP{Src: c.client, Dst: c.virtual, Payload: []byte("odd"), Link: packettest.Link{VLAN: []uint16{7}}}.Frame(),
				} {
					t.Run(fmt.Sprintf("%sto%s/%s_%d", outside, inside, name, quoted), func(t *testing.T) {
						original := packettest.NewFrame(sent.Bytes()).Parse(t)
						f := packettest.NewFrame(sent.Bytes()).Parse(t)
						if outside == inside {
							f.Translate(r.local, r.real)
						} else if why := f.Convert(r.local, r.real); why != packet.Kept {
							t.Fatal(why)
						}
						if f.Flow.Proto == packet.ProtoTCP {
							f.AddSeq(delta)
						}
						head := f.L4 - f.L3
						if quoted != 0 {
							quoted = head + quoted - 8
						}
						p := packettest.Error{From: r.router, Type: r.unreachable, Code: 1, Quoted: quoted,
							About: packettest.NewFrame(f.Frame()), Link: packettest.Link{VLAN: []uint16{9}}}.Frame().Parse(t)
						size := p.End - p.Payload - head
						e := packet.ErrorRewrite{Src: c.virtual.Addr, QuotedSrc: c.client, QuotedDst: c.virtual, SeqDelta: -delta}
						if why := p.RewriteError(&e); why != packet.Kept {
							t.Fatal(why)
						}
						checkError(t, p, c.virtual.Addr, original, size)
						if p.Ethernet().Tags() != 1 || p.Ethernet().Tag(0).ID() != 9 {
							t.Errorf("Ethernet header % x has lost its tag", p.Ethernet())
						}
					})
				}
			}
		}
	}
}

// checkError fails the test unless p is a correct error that comes from from and
// quotes size bytes, or what its length allows, of the transport of sent, behind an
// IP header that is one of sent's family.
func checkError(t *testing.T, p *packet.Packet, from packet.Addr, sent *packet.Packet, size int) {
	t.Helper()
	checkCarried(t, "RewriteError", p)
	packettest.CheckSums(t, p.Frame())
	if p.Flow.Src != from || p.Flow.Dst != sent.Flow.Src || p.Version != sent.Version {
		t.Errorf("version %d from %v to %v, want %d from %v to %v", p.Version, p.Flow.Src, p.Flow.Dst, sent.Version, from, sent.Flow.Src)
	}
	if got, ok := p.Quoted(); !ok || got != sent.Flow {
		t.Errorf("quoted flow: got %v, want %v", got, sent.Flow)
	}
	body := p.ICMP().Body()
	head := sent.L4 - sent.L3
	size = min(size, sent.End-sent.L4, map[uint8]int{4: 576 - 28, 6: 1280 - 48}[p.Version]-head)
	if got, want := body[head:], sent.Buf[sent.L4:sent.L4+size]; !bytes.Equal(got, want) {
		t.Errorf("quoted transport: got\n% x, want\n% x", got, want)
	}
	// The quote, filled up to its length, is a packet in good order.
	whole := append(bytes.Clone(sent.Ethernet()), body[:head]...)
	packettest.CheckSums(t, append(whole, sent.Buf[sent.L4:sent.End]...))
}

// TestRewriteErrorOutbound is about a packet of a real server's, of which the
// client's side complains.
func TestRewriteErrorOutbound(t *testing.T) {
	for outside, c := range families {
		for inside, r := range families {
			t.Run(outside+"to"+inside, func(t *testing.T) {
				sent := packettest.TCP{Src: r.real, Dst: r.local, Seq: 7, Flags: packet.ACK, Payload: []byte("odd")}.Frame()
				f := packettest.NewFrame(sent.Bytes()).Parse(t)
				if outside == inside {
					f.Translate(c.virtual, c.client)
				} else {
					f.Convert(c.virtual, c.client)
				}
				p := packettest.Error{From: c.router, Type: c.unreachable, Code: 1, About: packettest.NewFrame(f.Frame())}.Frame().Parse(t)
				e := packet.ErrorRewrite{Src: r.local.Addr, QuotedSrc: r.real, QuotedDst: r.local}
				if why := p.RewriteError(&e); why != packet.Kept {
					t.Fatal(why)
				}
				checkError(t, p, r.local.Addr, sent.Parse(t), 1500)
			})
		}
	}
}

// rewrite returns what RewriteError does to an error of family from, about a
// packet from local to real, on its way to a client of family to.
func rewrite(t *testing.T, from, to string, e packettest.Error, mtuDelta int) (*packet.Packet, packet.Reason) {
	t.Helper()
	r, c := families[from], families[to]
	e.From = r.router
	if e.About.Buf == nil {
		e.About = packettest.TCP{Src: r.local, Dst: r.real, Payload: make([]byte, 1452)}.Frame()
	}
	p := e.Frame().Parse(t)
	why := p.RewriteError(&packet.ErrorRewrite{Src: c.virtual.Addr, QuotedSrc: c.client, QuotedDst: c.virtual, MTUDelta: mtuDelta})
	packettest.CheckSums(t, p.Frame())
	return p, why
}

// TestRewriteErrorMeaning goes through every type and code of RFC 7915, sections
// 4.2 and 5.2.
func TestRewriteErrorMeaning(t *testing.T) {
	type meaning struct {
		kind, code uint8
		word       uint32
	}
	const pointer4 = 1 << 24 // where ICMP has the pointer
	want := map[string]map[meaning]meaning{"4": {}, "6": {}}
	to6, to4 := want["4"], want["6"]
	for code, to := range map[uint8]meaning{
		0: {1, 0, 0}, 1: {1, 0, 0}, 2: {4, 1, 6}, 3: {1, 4, 0}, 4: {2, 0, 1420}, 5: {1, 0, 0}, 6: {1, 0, 0}, 7: {1, 0, 0},
		8: {1, 0, 0}, 9: {1, 1, 0}, 10: {1, 1, 0}, 11: {1, 0, 0}, 12: {1, 0, 0}, 13: {1, 1, 0}, 15: {1, 1, 0},
	} {
		to6[meaning{3, code, 1400}] = to
	}
	to6[meaning{11, 0, 0}], to6[meaning{11, 1, 0}] = meaning{3, 0, 0}, meaning{3, 1, 0}
	for from, to := range map[uint32]uint32{0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 15: 8, 16: 24, 19: 24} {
		to6[meaning{12, 0, from * pointer4}] = meaning{4, 0, to}
		to6[meaning{12, 2, from * pointer4}] = meaning{4, 0, to}
	}
	for code, to := range map[uint8]meaning{0: {3, 1, 0}, 1: {3, 10, 0}, 2: {3, 1, 0}, 3: {3, 1, 0}, 4: {3, 3, 0}} {
		to4[meaning{1, code, 0}] = to
	}
	to4[meaning{2, 0, 1400}] = meaning{3, 4, 1380}
	to4[meaning{3, 0, 0}], to4[meaning{3, 1, 0}] = meaning{11, 0, 0}, meaning{11, 1, 0}
	for from, to := range map[uint32]uint32{0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8, 8: 12, 23: 12, 24: 16, 39: 16} {
		to4[meaning{4, 0, from}] = meaning{12, 0, to * pointer4}
	}
	to4[meaning{4, 1, 40}] = meaning{3, 2, 0}
	for _, none := range []meaning{
		{3, 14, 1400}, {3, 16, 1400}, {3, 255, 1400}, {12, 1, 0}, {12, 3, 0}, {12, 0, 4 * pointer4}, {12, 0, 7 * pointer4},
		{12, 0, 10 * pointer4}, {12, 2, 11 * pointer4}, {12, 0, 20 * pointer4}, {12, 0, 255 * pointer4},
	} {
		to6[none] = meaning{}
	}
	for _, none := range []meaning{
		{1, 5, 0}, {1, 6, 0}, {1, 255, 0}, {4, 2, 40}, {4, 3, 0}, {4, 0, 2}, {4, 0, 3}, {4, 0, 40}, {4, 0, 1 << 31},
	} {
		to4[none] = meaning{}
	}
	for from, to := range map[string]string{"4": "6", "6": "4"} {
		for in, out := range want[from] {
			p, why := rewrite(t, from, to, packettest.Error{Type: in.kind, Code: in.code, Word: in.word}, 0)
			if out == (meaning{}) {
				if why != packet.NoCounterpart {
					t.Errorf("%s to %s: %v: got %v, want %v", from, to, in, why, packet.NoCounterpart)
				}
				continue
			}
			m := p.ICMP()
			if got := (meaning{m.Type(), m.Code(), uint32(m.ID())<<16 | uint32(m.Seq())}); why != packet.Kept || got != out {
				t.Errorf("%s to %s: %v: got %v %v, want %v", from, to, in, why, got, out)
			}
			// Within a family nothing but an MTU changes.
			p, why = rewrite(t, from, from, packettest.Error{Type: in.kind, Code: in.code, Word: in.word}, 0)
			m = p.ICMP()
			if got := (meaning{m.Type(), m.Code(), uint32(m.ID())<<16 | uint32(m.Seq())}); why != packet.Kept || got != in {
				t.Errorf("%s to %s: %v: got %v %v", from, from, in, why, got)
			}
		}
	}
}

func TestRewriteErrorMTU(t *testing.T) {
	for _, c := range []struct {
		from, to string
		mtu      uint32
		by, want int
	}{
		{"4", "4", 1400, 0, 1400}, {"4", "4", 1400, -8, 1392}, {"4", "4", 1400, 8, 1408},
		{"4", "4", 0, -8, 0}, {"4", "4", 70, -8, 68}, {"4", "4", 65535, 8, 65535},
		{"6", "6", 1400, -8, 1392}, {"6", "6", 1280, -8, 1280}, {"6", "6", 0, 0, 1280}, {"6", "6", 1 << 31, -8, 1<<31 - 8},
		{"6", "6", 0xffffffff, 8, 0xffffffff},
		{"4", "6", 1400, 0, 1420}, {"4", "6", 1400, -20, 1400}, {"4", "6", 576, 0, 1280},
		{"4", "6", 0, 0, 1492 + 20}, // the plateau below 1500
		{"4", "6", 0, -8, 1280},     // there is none below 1492
		{"6", "4", 1400, 0, 1380}, {"6", "4", 1400, -8, 1372}, {"6", "4", 1280, -8, 1252}, {"6", "4", 7, 0, 1260},
		{"6", "4", 1 << 31, 0, 65535},
	} {
		e := packettest.Error{Type: packet.ICMPUnreachable, Code: packet.ICMPFragNeeded, Word: c.mtu}
		if c.from == "6" {
			e.Type, e.Code = packet.ICMPv6TooBig, 0
		} else if c.want == 1512 {
			e.About = packettest.TCP{Src: local4, Dst: real4, Payload: make([]byte, 1500-40)}.Frame()
		}
		p, why := rewrite(t, c.from, c.to, e, c.by)
		if got, ok := p.MTU(); why != packet.Kept || !ok || got != c.want {
			t.Errorf("%s to %s: %d by %d: got %v %d %v, want %d", c.from, c.to, c.mtu, c.by, why, got, ok, c.want)
		}
	}
}

func TestRewriteErrorOfFragment(t *testing.T) {
	big := make([]byte, 3000)
	for from, to := range map[string]string{"4": "6", "6": "4"} {
		r := families[from]
		about := packettest.Fragments(packettest.UDP{Src: r.local, Dst: r.real, Payload: big}.Frame(), 1500)[0]
		for _, to := range []string{from, to} {
			p, why := rewrite(t, from, to, packettest.Error{Type: r.unreachable, About: about}, 0)
			f, ok := p.Quoted()
			if want := flow(families[to].client, families[to].virtual, 17); why != packet.Kept || !ok || f != want {
				t.Errorf("%s to %s: got %v %v, want %v", from, to, why, f, want)
			}
		}
	}
}

// TestRewriteErrorCutsExtension has a quote of 128 bytes with an extension behind,
// as RFC 4884 lays out an error about a short packet.
func TestRewriteErrorCutsExtension(t *testing.T) {
	extension := append(make([]byte, 128), 0x20, 0, 0xdf, 0xff)
	for from, c := range map[string]struct {
		to   string
		word uint32
	}{"4": {"6", 128 / 4 << 16}, "6": {"4", 128 / 8 << 24}} {
		r := families[from]
		short := packettest.UDP{Src: r.local, Dst: r.real, Payload: []byte("12345")}.Frame()
		long := packettest.UDP{Src: r.local, Dst: r.real, Payload: make([]byte, 500)}.Frame()
		head := short.Parse(t).L4 - short.Parse(t).L3
		for name, e := range map[string]struct {
			error packettest.Error
			want  int // bytes of quoted transport
		}{
			"short":     {packettest.Error{Type: r.unreachable, Word: c.word, About: short, Extension: extension[head+13:]}, 13},
			"long":      {packettest.Error{Type: r.unreachable, Word: c.word, About: long, Quoted: 128, Extension: extension[128:]}, 128 - head},
			"no_length": {packettest.Error{Type: r.unreachable, About: long, Quoted: 128}, 128 - head},
			"too_short": {packettest.Error{Type: r.unreachable, Word: c.word / 16, About: long, Quoted: 128}, 128 - head},
			"too_long":  {packettest.Error{Type: r.unreachable, Word: c.word, About: long, Quoted: 100}, 100 - head},
		} {
			p, why := rewrite(t, from, c.to, e.error, 0)
			newHead := 60 - head
			if got := len(p.ICMP().Body()) - newHead; why != packet.Kept || got != e.want {
				t.Errorf("%s to %s: %s: got %v %d, want %d", from, c.to, name, why, got, e.want)
			}
			if m := p.ICMP(); m.ID() != 0 || m.Seq() != 0 {
				t.Errorf("%s to %s: %s: second word %04x%04x, want 0", from, c.to, name, m.ID(), m.Seq())
			}
			// Within a family it stays.
			p, _ = rewrite(t, from, from, e.error, 0)
			e.error.From = r.router
			if want := e.error.Frame(); len(p.Frame()) != len(want.Bytes()) {
				t.Errorf("%s: %s: length changed", from, name)
			}
		}
	}
}

// TestRewriteErrorOfBadLength has a quote whose length is the payload's alone, as
// some hosts leave it behind.
func TestRewriteErrorOfBadLength(t *testing.T) {
	body := packettest.UDP{Src: local4, Dst: real4, Payload: []byte("12345")}.Frame().Bytes()[14:]
	body[3] = 13
	p := packettest.ICMP{Src: real4.Addr, Dst: local4.Addr, Type: 3, Body: body}.Frame().Parse(t)
	if why := p.RewriteError(&packet.ErrorRewrite{Src: virtual6.Addr, QuotedSrc: client6, QuotedDst: virtual6}); why != packet.Kept {
		t.Fatal(why)
	}
	packettest.CheckSums(t, p.Frame())
	if got := packet.IPv6(p.ICMP().Body()).PayloadLen(); got != 13 || len(p.ICMP().Body()) != 53 {
		t.Errorf("quoted length: got %d, want 13", got)
	}
}

func TestRewriteErrorRefuses(t *testing.T) {
	about := packettest.UDP{Src: local4, Dst: real4}.Frame()
	damaged := packettest.Error{From: real4.Addr, Type: 3, About: about}.Frame()
	damaged.Buf[damaged.End-1] ^= 1
	routed := packettest.Error{From: real4.Addr, Type: 3, About: about, Link: packettest.Link{IPOptions: []byte{131, 7, 4, 1, 2, 3, 4, 0}}}.Frame()
	quotedRoute := packettest.UDP{Src: local4, Dst: real4, Link: packettest.Link{IPOptions: []byte{131, 7, 4, 1, 2, 3, 4, 0}}}.Frame()
	short := packettest.Error{From: real4.Addr, Type: 3, About: about}.Frame()
	short.Buf = short.Buf[short.Start-39:]
	short.Start, short.End = 39, 39+short.End-packettest.Headroom
	for name, c := range map[string]struct {
		frame packettest.Frame
		want  packet.Reason
	}{
		"damaged":      {damaged, packet.BadICMP},
		"source_route": {routed, packet.NoCounterpart},
		"quoted_route": {packettest.Error{From: real4.Addr, Type: 3, About: quotedRoute}.Frame(), packet.NoCounterpart},
		"no_headroom":  {short, packet.TooBig},
	} {
		p := c.frame.Parse(t)
		before, saved := bytes.Clone(p.Buf), *p
		e := packet.ErrorRewrite{Src: virtual6.Addr, QuotedSrc: client6, QuotedDst: virtual6}
		if got := p.RewriteError(&e); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
		if !bytes.Equal(before, p.Buf) || p.L3 != saved.L3 || p.End != saved.End || p.Flow != saved.Flow {
			t.Errorf("%s: refused, but something changed", name)
		}
	}
}
