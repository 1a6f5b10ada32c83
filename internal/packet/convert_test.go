package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// convert gives p the local and real ends of the other family.
func convert(p *packet.Packet) packet.Reason {
	if p.Version == 4 {
		return p.Convert(local6, real6)
	}
	return p.Convert(local4, real4)
}

// checkConverted fails the test unless p is a correct packet from local to real
// that agrees with its own headers.
func checkConverted(t *testing.T, p *packet.Packet) {
	t.Helper()
	packettest.CheckSums(t, p.Frame())
	want := flow(local6, real6, p.Flow.Proto)
	if p.Version == 4 {
		want = flow(local4, real4, p.Flow.Proto)
	}
	if !p.HasTransport() {
		want.SrcPort, want.DstPort = 0, 0
	}
	if diff := cmp.Diff(p.Flow, want); diff != "" {
		t.Errorf("flow: got(-) want(+)\n%s", diff)
	}
	again := packettest.NewFrame(p.Frame())
	q := new(packet.Packet)
	q.Parse(again.Buf, again.Start, again.End)
	if q.Version != p.Version || q.Flow != p.Flow || q.Flags != p.Flags || q.L3-q.Start != p.L3-p.Start ||
		q.L4-q.Start != p.L4-p.Start || q.Payload-q.Start != p.Payload-p.Start || q.IPLen() != p.IPLen() {
		t.Errorf("% x\nparses to %+v\n     was %+v", p.Frame(), q, p)
	}
}

func TestConvert(t *testing.T) {
	frames := datagrams()
	frames["tcp4_ip_options"] = packettest.TCP{Src: client4, Dst: virtual4, Payload: []byte("odd"),
		Link: packettest.Link{IPOptions: bytes.Repeat([]byte{1}, 40), VLAN: []uint16{7}}}.Frame()
	frames["tcp6_atomic"] = packettest.TCP{Src: client6, Dst: virtual6, Payload: []byte("odd"), Link: extended(44, atomic, 0)}.Frame()
	frames["tcp6_routed"] = packettest.TCP{Src: client6, Dst: virtual6, Payload: []byte("odd"), Link: extended(0, hopThenRoute, 8)}.Frame()
	frames["udp4_odd"] = packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd"), Link: packettest.Link{Pad: 9}}.Frame()
	frames["udp4_surplus"] = packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd"), Surplus: []byte("xy")}.Frame()
	for name, f := range frames {
		t.Run(name, func(t *testing.T) {
			p := f.Parse(t)
			tags, transport := p.Ethernet().Tags(), bytes.Clone(p.Buf[p.Payload:p.End])
			for range 2 { // there and back
				version := p.Version
				if why := convert(p); why != packet.Kept {
					t.Fatal(why)
				}
				checkConverted(t, p)
				if p.Version == version || p.Ethernet().Tags() != tags || !bytes.Equal(p.Buf[p.Payload:p.End], transport) || p.TTL() != 64 {
					t.Errorf("version %d, %d tags, TTL %d; was version %d, %d tags, TTL 64", p.Version, p.Ethernet().Tags(), p.TTL(), version, tags)
				}
			}
		})
	}
}

// TestConvertFragments converts every piece and looks at what comes together.
func TestConvertFragments(t *testing.T) {
	for name, f := range datagrams() {
		if name == "udp6_dest" {
			continue // refused
		}
		t.Run(name, func(t *testing.T) {
			whole := f.Parse(t)
			payload := bytes.Clone(whole.Buf[whole.Payload:whole.End])
			pieces := packettest.Fragments(f, 1280)
			for i := range pieces {
				p := parseFragment(t, pieces[i])
				id, offset, more, _ := p.Fragment()
				if why := convert(p); why != packet.Kept {
					t.Fatal(why)
				}
				checkConverted(t, p)
				newID, newOffset, newMore, ok := p.Fragment()
				if !ok || newID != id&0xffff || newOffset != offset || newMore != more {
					t.Errorf("piece %d: got %#x %d %v, want %#x %d %v", i, newID, newOffset, newMore, id&0xffff, offset, more)
				}
				if p.Version == 4 && p.IPv4().DontFragment() {
					t.Errorf("piece %d: DF is set", i)
				}
				pieces[i] = packettest.NewFrame(p.Frame())
			}
			joined := packettest.Reassemble(pieces)
			packettest.CheckSums(t, joined.Bytes())
			if p := joined.Parse(t); p.Version == whole.Version || !bytes.Equal(p.Buf[p.Payload:p.End], payload) {
				t.Errorf("version %d with another payload", p.Version)
			}
		})
	}
}

func TestConvertFields(t *testing.T) {
	t.Run("4_to_6", func(t *testing.T) {
		f := packettest.UDP{Src: client4, Dst: virtual4, Link: packettest.Link{TTL: 17}}.Frame()
		f.Buf[f.Start+15] = 0xb9
		p := f.Parse(t)
		p.RecomputeChecksums()
		convert(p)
		h := p.IPv6()
		got := []any{len(h), h.TrafficClass(), h.FlowLabel(), h.PayloadLen(), h.NextHeader(), h.HopLimit()}
		if diff := cmp.Diff(got, []any{40, uint8(0xb9), uint32(0), 8, uint8(17), uint8(17)}); diff != "" {
			t.Errorf("got(-) want(+)\n%s", diff)
		}
	})
	t.Run("6_to_4", func(t *testing.T) {
		f := packettest.UDP{Src: client6, Dst: virtual6, Link: packettest.Link{TTL: 17}}.Frame()
		copy(f.Buf[f.Start+14:], []byte{0x6b, 0x91, 0x23, 0x45})
		p := f.Parse(t)
		convert(p)
		h := p.IPv4()
		got := []any{len(h), h.TOS(), h.TotalLen(), h.Proto(), h.TTL(), h.IsFragment()}
		if diff := cmp.Diff(got, []any{20, uint8(0xb9), 28, uint8(17), uint8(17), false}); diff != "" {
			t.Errorf("got(-) want(+)\n%s", diff)
		}
	})
}

// TestConvertDontFragment tells the sizes that IPv4 may fragment: those that an
// IPv6 sender cannot go below.
func TestConvertDontFragment(t *testing.T) {
	ids := map[uint16]bool{}
	for size := 1230; size < 1290; size++ { // of the IPv4 datagram
		p := packettest.UDP{Src: client6, Dst: virtual6, Payload: make([]byte, size-28)}.Frame().Parse(t)
		convert(p)
		if got, want := p.IPv4().DontFragment(), size > 1260; got != want || p.IPLen() != size {
			t.Errorf("%d bytes: DF %v, want %v with %d bytes", p.IPLen(), got, want, size)
		}
		if id := p.IPv4().ID(); size > 1260 && id != 0 {
			t.Errorf("%d bytes: identification %d with DF", size, id)
		}
		ids[p.IPv4().ID()] = true
	}
	if len(ids) < 10 {
		t.Errorf("31 datagrams that may be fragmented have %d identifications", len(ids))
	}
}

func TestConvertUDPWithoutChecksum(t *testing.T) {
	payload := make([]byte, 3001)
	t.Run("whole", func(t *testing.T) {
		p := packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd"), Surplus: []byte("x"), NoSum: true}.Frame().Parse(t)
		if why := convert(p); why != packet.Kept || p.UDP().Sum() == 0 {
			t.Fatalf("got %v, checksum %#04x", why, p.UDP().Sum())
		}
		checkConverted(t, p)
	})
	refused := func(t *testing.T, p *packet.Packet) {
		t.Helper()
		before, saved := bytes.Clone(p.Buf), *p
		if why := convert(p); why != packet.NoChecksum {
			t.Errorf("got %v, want %v", why, packet.NoChecksum)
		}
		if !bytes.Equal(before, p.Buf) || p.L3 != saved.L3 || p.Flow != saved.Flow {
			t.Error("refused, but something changed")
		}
	}
	t.Run("fragment", func(t *testing.T) {
		f := packettest.UDP{Src: client4, Dst: virtual4, Payload: payload, NoSum: true}.Frame()
		refused(t, parseFragment(t, packettest.Fragments(f, 1280)[0]))
	})
	t.Run("over_ipv6", func(t *testing.T) {
		refused(t, packettest.UDP{Src: client6, Dst: virtual6, NoSum: true}.Frame().Parse(t))
	})
}

func TestConvertRefuses(t *testing.T) {
	udp4 := func(options ...byte) packettest.Frame {
		return packettest.UDP{Src: client4, Dst: virtual4, Link: packettest.Link{IPOptions: options}}.Frame()
	}
	short := udp4()
	short.Buf = short.Buf[short.Start-19:]
	short.Start, short.End = 19, 19+short.End-packettest.Headroom
	enough := udp4()
	enough.Buf = enough.Buf[enough.Start-20:]
	enough.Start, enough.End = 20, 20+enough.End-packettest.Headroom
	udp6 := packettest.UDP{Src: client6, Dst: virtual6, Payload: make([]byte, 65535-8)}
	dest := packettest.Fragments(datagrams()["udp6_dest"], 1280)
	for name, c := range map[string]struct {
		frame packettest.Frame
		want  packet.Reason
	}{
		"loose_route":        {udp4(1, 131, 7, 4, 1, 2, 3, 4), packet.NoCounterpart},
		"strict_route":       {udp4(137, 7, 7, 1, 2, 3, 4, 0), packet.NoCounterpart},
		"loose_route_done":   {udp4(131, 7, 8, 1, 2, 3, 4, 0), packet.Kept},
		"record_route":       {udp4(7, 7, 4, 0, 0, 0, 0, 0), packet.Kept},
		"behind_the_end":     {udp4(0, 131, 7, 4, 1, 2, 3, 4), packet.Kept},
		"option_malformed":   {udp4(7, 0, 131, 7), packet.Kept},
		"option_too_long":    {udp4(7, 9, 4, 0), packet.Kept},
		"headroom_too_small": {short, packet.TooBig},
		"headroom_enough":    {enough, packet.Kept},
		"over_64_KiB":        {udp6.Frame(), packet.TooBig},
		"first_with_options": {dest[0], packet.NoCounterpart},
		"later_of_options":   {dest[1], packet.NoCounterpart},
		"echo":               {packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: 8}.Frame(), packet.NoCounterpart},
	} {
		t.Run(name, func(t *testing.T) {
			var p packet.Packet
			if why := p.Parse(c.frame.Buf, c.frame.Start, c.frame.End); why != packet.Kept && why != packet.Fragment {
				t.Fatal(why)
			}
			before, saved := bytes.Clone(p.Buf), p
			if got := convert(&p); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			} else if got == packet.Kept {
				checkConverted(t, &p)
			} else if !bytes.Equal(before, p.Buf) || p.L3 != saved.L3 || p.L4 != saved.L4 || p.Flow != saved.Flow {
				t.Error("refused, but something changed")
			}
		})
	}
}
