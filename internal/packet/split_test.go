package packet_test

import (
	"bytes"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// split cuts p, which is parsed, until every piece fits into mtu bytes.
func split(t *testing.T, p *packet.Packet, mtu int) (pieces []packettest.Frame) {
	t.Helper()
	for p.IPLen() > mtu {
		rest := new(packet.Packet)
		if !p.Split(rest, make([]byte, 70000), packettest.Headroom, mtu) {
			t.Fatalf("%d bytes were not split", p.IPLen())
		}
		checkCarried(t, "Split", p)
		checkCarried(t, "Split: rest", rest)
		if p.IPLen() > mtu {
			t.Fatalf("a piece has %d bytes, more than %d", p.IPLen(), mtu)
		}
		pieces = append(pieces, packettest.NewFrame(p.Frame()))
		p = rest
	}
	return append(pieces, packettest.NewFrame(p.Frame()))
}

// mayFragment clears DF in a frame.
func mayFragment(f packettest.Frame) packettest.Frame {
	var p packet.Packet
	p.Parse(f.Buf, f.Start, f.End)
	if p.Version == 4 {
		p.IPv4()[6] &^= 0x40
		p.RecomputeChecksums()
	}
	return f
}

func TestSplit(t *testing.T) {
	for name, f := range map[string]packettest.Frame{
		"tcp":  packettest.TCP{Src: client4, Dst: virtual4, Options: timestamps, Payload: bytes.Repeat([]byte("odd"), 1500), Link: packettest.Link{VLAN: []uint16{7}}}.Frame(),
		"udp":  packettest.UDP{Src: client4, Dst: virtual4, Payload: bytes.Repeat([]byte("odd"), 1500)}.Frame(),
		"64_K": packettest.UDP{Src: client4, Dst: virtual4, Payload: make([]byte, 65507)}.Frame(),
	} {
		for _, way := range []string{"whole", "fragments"} {
			for _, family := range []string{"4", "4to6"} {
				for _, mtu := range []int{576, 1280, 1499} {
					t.Run(name+"/"+way+"/"+family, func(t *testing.T) {
						whole := packettest.NewFrame(f.Bytes()).Parse(t)
						in := []packettest.Frame{mayFragment(packettest.NewFrame(f.Bytes()))}
						if way == "fragments" {
							in = packettest.Fragments(f, 1500)
						}
						var out []packettest.Frame
						for _, f := range in {
							p := new(packet.Packet)
							p.Parse(f.Buf, f.Start, f.End)
							if family == "4" {
								p.Translate(local4, real4)
							} else if why := p.Convert(local6, real6); why != packet.Kept {
								t.Fatal(why)
							}
							out = append(out, split(t, p, mtu)...)
						}
						joined := packettest.Reassemble(out)
						packettest.CheckSums(t, joined.Bytes())
						p := joined.Parse(t)
						if !bytes.Equal(p.Buf[p.Payload:p.End], whole.Buf[whole.Payload:whole.End]) || p.Ethernet().Tags() != whole.Ethernet().Tags() {
							t.Error("the pieces are not the whole")
						}
					})
				}
			}
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	udp := func(size int, options ...byte) packettest.Frame {
		return mayFragment(packettest.UDP{Src: client4, Dst: virtual4, Payload: make([]byte, size), Link: packettest.Link{IPOptions: options}}.Frame())
	}
	tcp := mayFragment(packettest.TCP{Src: client4, Dst: virtual4, Options: timestamps, Payload: make([]byte, 100)}.Frame())
	for name, c := range map[string]struct {
		frame     packettest.Frame
		mtu, room int
		want      bool
	}{
		"too_big":              {udp(100), 127, 2000, true},
		"fits":                 {udp(100), 128, 2000, false},
		"dont_fragment":        {packettest.UDP{Src: client4, Dst: virtual4, Payload: make([]byte, 100)}.Frame(), 100, 2000, false},
		"options":              {udp(100, 1, 1, 1, 0), 100, 2000, false},
		"extensions":           {packettest.UDP{Src: client6, Dst: virtual6, Payload: make([]byte, 100), Link: extended(0, hopThenRoute, 8)}.Frame(), 100, 2000, false},
		"nothing_fits":         {udp(100), 27, 2000, false},
		"header_fits":          {tcp, 52, 2000, true},
		"header_does_not_fit":  {tcp, 51, 2000, false},
		"buffer_just_right":    {udp(100), 100, 14 + 20 + 28, true},
		"buffer_one_too_small": {udp(100), 100, 14 + 20 + 27, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := packettest.NewFrame(c.frame.Bytes()).Parse(t) // a test changes it
			before, saved := bytes.Clone(p.Buf), *p
			if got := p.Split(new(packet.Packet), make([]byte, 10+c.room), 10, c.mtu); got != c.want {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			if !c.want && (!bytes.Equal(before, p.Buf) || p.End != saved.End || p.Start != saved.Start) {
				t.Error("refused, but something changed")
			}
		})
	}
}
