package packet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSYNOptions(t *testing.T) {
	none := SYNOptions{Scale: NoScale}
	tests := []struct {
		name    string
		options string
		want    SYNOptions
	}{
		{"none", "", none},
		{"linux", "\x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x00\x07\x00\x00\x00\x09\x01\x03\x03\x07",
			SYNOptions{MSS: 1460, Scale: 7, SACK: true, Timestamps: true, Val: 7, Ecr: 9}},
		{"windows", "\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02", SYNOptions{MSS: 1460, Scale: 8, SACK: true}},
		{"only_mss", "\x02\x04\x02\x18", SYNOptions{MSS: 536, Scale: NoScale}},
		{"scale_zero", "\x03\x03\x00\x00", SYNOptions{}},
		{"scale_beyond_14_is_14", "\x03\x03\xff\x00", SYNOptions{Scale: 14}},
		{"wrong_lengths_say_nothing", "\x02\x03\x05\x04\x03\x00\x03\x02\x08\x04\x00\x00", none},
		{"after_the_end", "\x00\x04\x02\x00", none},
		{"unknown_ones_are_passed_over", "\x22\x0a\x01\x02\x03\x04\x05\x06\x07\x08\x04\x02", SYNOptions{Scale: NoScale, SACK: true}},
		{"the_last_of_two", "\x02\x04\x01\x00\x02\x04\x02\x00", SYNOptions{MSS: 512, Scale: NoScale}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := built(&Segment{Src: end4a, Dst: end4b, Flags: SYN, Option: []byte(test.options), Options: none})
			if diff := cmp.Diff(test.want, p.SYNOptions()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

var (
	end4a = Endpoint{AddrFrom4([]byte{192, 0, 2, 1}), 1000}
	end4b = Endpoint{AddrFrom4([]byte{192, 0, 2, 2}), 80}
	end6a = Endpoint{Addr{0x20, 1, 15: 1}, 1000}
	end6b = Endpoint{Addr{0x20, 1, 15: 2}, 80}
)

func built(s *Segment) *Packet {
	p := new(Packet)
	p.Build(make([]byte, 256), 64, s)
	return p
}

// What is built parses, has right checksums and says what it was told to, with every
// combination of options.
func TestBuild(t *testing.T) {
	for i := range 1 << 6 {
		s := &Segment{
			Src: end4a, Dst: end4b, Seq: 1, Ack: 2, Flags: SYN | ACK, Window: 3,
			Options: SYNOptions{Scale: NoScale, SACK: i&1 != 0},
		}
		if i&2 != 0 {
			s.Options.Timestamps, s.Options.Val, s.Options.Ecr = true, 4, 5
		}
		if i&4 != 0 {
			s.Options.Scale = 6
		}
		if i&8 != 0 {
			s.Options.MSS = 1460
		}
		if i&16 != 0 {
			s.Src, s.Dst = end6a, end6b
		}
		if i&32 != 0 {
			s.Option = []byte{254, 8, 1, 2, 3, 4, 5, 6}
		}
		made := built(s)
		var p Packet
		if why := p.Parse(made.Buf, made.Start, made.End); why != Kept {
			t.Fatalf("%+v: %v", s, why)
		}
		if diff := cmp.Diff(*made, p); diff != "" {
			t.Fatalf("%+v: parsed, it is not what was built (-built +parsed):\n%s", s, diff)
		}
		tcp := p.TCP()
		got := Segment{
			Src: p.Flow.Source(), Dst: p.Flow.Destination(), Seq: tcp.Seq(), Ack: tcp.Ack(), Flags: p.Flags,
			Window: tcp.Window(), Options: p.SYNOptions(), Option: s.Option,
		}
		if diff := cmp.Diff(*s, got); diff != "" {
			t.Errorf("(-told +got):\n%s", diff)
		}
		if o := tcp.Options(); string(o[:len(s.Option)]) != string(s.Option) {
			t.Errorf("options begin with % x, want % x", o, s.Option)
		}
		if tcp.Sum() != p.transportSum() {
			t.Errorf("%+v: wrong checksum", s)
		}
	}
}

func TestScaleWindow(t *testing.T) {
	for _, test := range []struct {
		window uint16
		by     int
		want   uint16
	}{
		{100, 0, 100}, {100, 3, 800}, {800, -3, 100}, {40000, 1, 65535}, {65535, 14, 65535},
		{7, -3, 1}, {0, -3, 0}, {0, 14, 0}, {1, -14, 1},
	} {
		p := built(&Segment{Src: end4a, Dst: end4b, Flags: ACK, Window: test.window, Options: SYNOptions{Scale: NoScale}})
		p.ScaleWindow(test.by)
		if got := p.TCP().Window(); got != test.want {
			t.Errorf("window %d by %d: got %d, want %d", test.window, test.by, got, test.want)
		}
		if p.TCP().Sum() != p.transportSum() {
			t.Errorf("window %d by %d: wrong checksum", test.window, test.by)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	buf := make([]byte, 256)
	var p Packet
	for name, ends := range map[string][2]Endpoint{"ipv4": {end4a, end4b}, "ipv6": {end6a, end6b}} {
		s := Segment{Src: ends[0], Dst: ends[1], Flags: SYN | ACK, Options: SYNOptions{MSS: 1460, Scale: 7, SACK: true, Timestamps: true}}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				s.Seq = uint32(i)
				p.Build(buf, 64, &s)
			}
		})
	}
}
