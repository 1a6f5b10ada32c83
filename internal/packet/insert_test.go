package packet_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func TestInsertOption(t *testing.T) {
	body := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}
	for name, f := range map[string]packettest.Frame{
		"tcp4":       packettest.TCP{Src: client4, Dst: virtual4, Payload: []byte("odd")}.Frame(),
		"no_payload": packettest.TCP{Src: client4, Dst: virtual4, Options: timestamps, Link: packettest.Link{Pad: 3}}.Frame(),
		"ip_options": packettest.TCP{Src: client4, Dst: virtual4, Options: timestamps, Link: packettest.Link{IPOptions: []byte{1, 1, 1, 0}}}.Frame(),
		"qinq":       packettest.TCP{Src: client4, Dst: virtual4, Payload: []byte("odd"), Link: packettest.Link{VLAN: []uint16{7, 8}}}.Frame(),
		"tcp6":       packettest.TCP{Src: client6, Dst: virtual6, Options: synOptions, Payload: []byte("odd")}.Frame(),
		"extensions": packettest.TCP{Src: client6, Dst: virtual6, Payload: []byte("odd"), Link: extended(0, hopThenRoute, 8)}.Frame(),
	} {
		for _, n := range []int{0, 4, 8, 20} {
			t.Run(name, func(t *testing.T) {
				option := append([]byte{254, byte(n)}, body...)
				p := packettest.NewFrame(f.Bytes()).Parse(t)
				ethernet, options := bytes.Clone(p.Ethernet()), slices.Concat(option[:n], p.TCP().Options())
				payload, size, at := bytes.Clone(p.Buf[p.Payload:p.End]), p.IPLen(), p.Payload
				if !p.InsertOption(option[:n]) {
					t.Fatal("option was not inserted")
				}
				checkOptions(t, p, options...)
				if !bytes.Equal(p.Ethernet(), ethernet) {
					t.Errorf("Ethernet header: got % x, want % x", p.Ethernet(), ethernet)
				}
				if p.IPLen() != size+n || p.Payload != at || !bytes.Equal(p.Buf[at:p.End], payload) {
					t.Errorf("IP length, payload at: got %d %d, want %d %d", p.IPLen(), p.Payload, size+n, at)
				}
				again := packettest.NewFrame(p.Frame()).Parse(t)
				if again.IPLen() != p.IPLen() || again.Flow != p.Flow || again.L4-again.Start != p.L4-p.Start {
					t.Errorf("parsed again: got %+v, want %+v", again.Flow, p.Flow)
				}
			})
		}
	}
}

func TestInsertOptionRefuses(t *testing.T) {
	full := bytes.Repeat([]byte{1}, 36)
	for name, c := range map[string]struct {
		options  []byte
		headroom int
		insert   int
		ok       bool
	}{
		"fills_the_header":    {full[:32], 256, 8, true},
		"header_would_be_64":  {full, 256, 8, false},
		"not_words":           {nil, 256, 6, false},
		"headroom_just_right": {nil, 8, 8, true},
		"headroom_too_small":  {nil, 7, 8, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := packettest.TCP{Src: client4, Dst: virtual4, Options: c.options}.Frame()
			f.Buf = f.Buf[f.Start-c.headroom:]
			f.Start, f.End = c.headroom, f.End-f.Start+c.headroom
			p := f.Parse(t)
			before, saved := bytes.Clone(f.Buf), *p
			if got := p.InsertOption(full[:c.insert]); got != c.ok {
				t.Fatalf("got %v, want %v", got, c.ok)
			}
			packettest.CheckSums(t, p.Frame())
			if !c.ok && (!bytes.Equal(before, f.Buf) || p.Start != saved.Start || p.L4 != saved.L4) {
				t.Error("refused, but something changed")
			}
		})
	}
	t.Run("datagram_would_exceed_64_KiB", func(t *testing.T) {
		p := packettest.TCP{Src: client4, Dst: virtual4, Payload: make([]byte, 65535-40)}.Frame().Parse(t)
		if p.InsertOption(full[:4]) {
			t.Error("got true, want false")
		}
		packettest.CheckSums(t, p.Frame())
	})
}

func TestOptionRoom(t *testing.T) {
	for _, n := range []int{0, 12, 40} {
		p := segment(t, bytes.Repeat([]byte{1}, n)...)
		if got, want := p.OptionRoom(), 40-n; got != want {
			t.Errorf("%d bytes of options: got %d, want %d", n, got, want)
		}
	}
}

func TestInsertOptionAfterStripping(t *testing.T) {
	toa := packet.TOA(packet.DefaultTOAKind)
	var option [packet.MaxAddressOption]byte
	p := segment(t, append(slices.Clone(timestamps), forgedTOA...)...)
	p.StripOptions(packet.DefaultStripList())
	p.Translate(local4, real4)
	p.InsertOption(option[:toa.Encode(option[:], client4)])
	packettest.CheckSums(t, p.Frame())
	if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client4 {
		t.Errorf("a server reads %v %v, want %v", got, ok, client4)
	}
}
