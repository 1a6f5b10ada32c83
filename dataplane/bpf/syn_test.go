package bpf

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/synproxy"
)

var client4, client6 = endpoint("198.51.100.7:40000"), endpoint("[2001:db8:7::1]:40000")

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Every combination of what a client and a service may offer.
func TestAnswerOptions(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	for i := range 16 {
		offer := synproxy.Offer{MSS: 1400, Window: 29200, Scale: 9, SACK: i&1 != 0, Timestamps: i&2 != 0}
		if i&4 != 0 {
			offer.Scale = 0
		}
		if i&8 != 0 {
			offer.Scale = synproxy.NoScale
		}
		r.guard(t, Guard{Offers: both(offer), Answer: true})
		for _, mss := range []uint16{0, 1, 536, 1460, 65535} {
			for scale := range uint8(synproxy.NoScale + 1) {
				for j := range 8 {
					s := clientSYN{TCP: packettest.TCP{Src: client4, Dst: tcp4.Virtual, Flags: packet.SYN, Seq: 0xffffffff}}
					if j&4 != 0 {
						s.Src, s.Dst = client6, tcp6.Virtual
					}
					s.Options = synproxy.Options{MSS: mss, Scale: scale, SACK: j&1 != 0, Timestamps: j&2 != 0}
					s.TCP.Options = s.linux()
					r.checkAnswer(t, &s, &offer)
				}
			}
		}
	}
}

// linux returns the options of s as Linux would write them.
func (s *clientSYN) linux() (o []byte) {
	if s.MSS != 0 {
		o = append(o, 2, 4, byte(s.MSS>>8), byte(s.MSS))
	}
	if s.SACK {
		o = append(o, 4, 2)
	} else if s.Timestamps {
		o = append(o, 1, 1)
	}
	if s.Timestamps {
		o = append(o, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0)
		s.stamp = 9
	} else if s.SACK {
		o = append(o, 1, 1)
	}
	if s.Scale != synproxy.NoScale {
		o = append(o, 1, 3, 3, s.Scale)
	}
	return o
}

// What real and less real clients send and is answered, and what their SYN offers.
func TestAnswered(t *testing.T) {
	none := synproxy.Options{Scale: synproxy.NoScale}
	for _, test := range []struct {
		name    string
		options string
		change  func(*packettest.TCP)
		want    synproxy.Options
		stamp   uint32
	}{
		{name: "linux", options: "020405b40402080a01020304000000000103030a", want: synproxy.Options{MSS: 1460, Scale: 10, SACK: true, Timestamps: true}, stamp: 0x01020304},
		{name: "windows", options: "020405b40103030801010402", want: synproxy.Options{MSS: 1460, Scale: 8, SACK: true}},
		{name: "macos", options: "020405b4010303060101080a0102030400000000" + "04020000", want: synproxy.Options{MSS: 1460, Scale: 6, SACK: true, Timestamps: true}, stamp: 0x01020304},
		{name: "freebsd", options: "020405b4010303060402080a0102030400000000", want: synproxy.Options{MSS: 1460, Scale: 6, SACK: true, Timestamps: true}, stamp: 0x01020304},
		{name: "nothing", want: none},
		{name: "mss_alone", options: "020405b4", want: synproxy.Options{MSS: 1460, Scale: synproxy.NoScale}},
		{name: "only_nops", options: "01010101010101010101010101010101010101010101010101010101010101010101010101010101", want: none},
		{name: "ends_early", options: "00020405b4000000", want: none},
		{name: "fast_open_request", options: "020405b40402080a01020304000000000103030a22020000", want: synproxy.Options{MSS: 1460, Scale: 10, SACK: true, Timestamps: true}, stamp: 0x01020304},
		{name: "fast_open_with_data", options: "020405b4220a0102030405060708010103030a00", change: func(s *packettest.TCP) { s.Payload = []byte("GET / HTTP/1.1\r\n\r\n") }, want: synproxy.Options{MSS: 1460, Scale: 10}},
		{name: "multipath", options: "020405b40402080a01020304000000000103030a1e0401c1", want: synproxy.Options{MSS: 1460, Scale: 10, SACK: true, Timestamps: true}, stamp: 0x01020304},
		{name: "signed", options: "020405b41312000102030405060708090a0b0c0d0e0f0101", want: synproxy.Options{MSS: 1460, Scale: synproxy.NoScale}},
		{name: "forged_client_address", options: "fe080050c0000207020405b4", want: synproxy.Options{MSS: 1460, Scale: synproxy.NoScale}},
		{name: "ecn", options: "020405b4", change: func(s *packettest.TCP) { s.Flags |= packet.ECE | packet.CWR }, want: synproxy.Options{MSS: 1460, Scale: synproxy.NoScale}},
		{name: "urgent_and_push", change: func(s *packettest.TCP) { s.Flags |= packet.URG | packet.PSH }, want: none},
		{name: "scale_of_255_is_14", options: "0303ff00", want: synproxy.Options{Scale: 14}},
		{name: "the_last_of_two_counts", options: "020405b4020402180303010003030300", want: synproxy.Options{MSS: 536, Scale: 1}},
		{name: "wrong_lengths_say_nothing", options: "020600000000" + "0402" + "03040000" + "080400ff" + "0403aa00", want: synproxy.Options{Scale: synproxy.NoScale, SACK: true}},
		{name: "padded_to_60_bytes", change: func(s *packettest.TCP) { s.Pad = 6 }, want: none},
		{name: "padded_like_nobody_does", change: func(s *packettest.TCP) { s.Pad = 1000 }, want: none},
		{name: "three_vlan_bytes_of_priority", change: func(s *packettest.TCP) { s.VLAN = []uint16{0xe064} }, want: none},
		{name: "hop_limit_of_one", change: func(s *packettest.TCP) { s.TTL = 1 }, want: none},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newGuardedRig(t, Guard{Offers: both(full), Answer: true})
			for _, ends := range [][2]packet.Endpoint{{client4, tcp4.Virtual}, {client6, tcp6.Virtual}} {
				s := clientSYN{
					TCP:     packettest.TCP{Src: ends[0], Dst: ends[1], Flags: packet.SYN, Seq: 1000, Options: unhex(test.options)},
					Options: test.want, stamp: test.stamp,
				}
				if test.change != nil {
					test.change(&s.TCP)
				}
				r.checkAnswer(t, &s, &full)
			}
		})
	}
}

// What is not answered on the spot, whether it counts as a SYN, and as what it is
// redirected. It goes up as it came.
func TestNotAnswered(t *testing.T) {
	r := newGuardedRig(t, Guard{Offers: both(full), Answer: true})
	syn4 := packettest.TCP{Src: client4, Dst: tcp4.Virtual, Flags: packet.SYN, Options: linuxOptions, Payload: []byte("odd")}
	syn6 := syn4
	syn6.Src, syn6.Dst = client6, tcp6.Virtual
	with := func(s packettest.TCP, change func(*packettest.TCP)) []byte {
		change(&s)
		return s.Frame().Bytes()
	}
	flags := func(f packet.TCPFlags) []byte {
		return with(syn4, func(s *packettest.TCP) { s.Flags = f })
	}
	options := func(o string) []byte {
		return with(syn4, func(s *packettest.TCP) { s.Options = unhex(o) })
	}
	extension := func(kind uint8, body string) []byte {
		return with(syn6, func(s *packettest.TCP) {
			s.Link = packettest.Link{FirstExtension: kind, Extensions: unhex("00" + body)}
		})
	}
	put := func(s packettest.TCP, at int, b ...byte) []byte {
		f := s.Frame().Bytes()
		copy(f[at:], b)
		return f
	}
	const l3, tcp4At, tcp6At = 14, 14 + 20, 14 + 40
	mapped := syn6
	mapped.Src.Addr[0] = 0x20 // so that it is built as IPv6
	for _, test := range []struct {
		name  string
		frame []byte
		syn   bool
		want  Counter
	}{
		{"syn_ack", flags(packet.SYN | packet.ACK), false, Service},
		{"syn_fin", flags(packet.SYN | packet.FIN), false, Service},
		{"syn_rst", flags(packet.SYN | packet.RST), false, Service},
		{"ack", flags(packet.ACK), false, Service},
		{"fin", flags(packet.FIN), false, Service},
		{"no_flags", flags(0), false, Service},

		{"option_of_length_0", options("02000000"), true, Service},
		{"option_of_length_1", options("02010000"), true, Service},
		{"option_past_the_header", options("01010205"), true, Service},
		{"unknown_option_past_the_header", options("fe05000001010101"[:8]), true, Service},
		{"kind_without_length", options("01010102"), true, Service},
		{"malformed_after_good_ones", options("020405b404020800"), true, Service},

		{"data_offset_of_16", put(syn4, tcp4At+12, 0x40), true, Service},
		{"data_offset_past_the_segment", put(packettest.TCP{Src: client4, Dst: tcp4.Virtual, Flags: packet.SYN, Link: packettest.Link{Pad: 40}}, tcp4At+12, 0xf0), true, Service},
		{"ipv6_data_offset_of_0", put(syn6, tcp6At+12, 0), true, Service},

		{"ip_options", with(syn4, func(s *packettest.TCP) { s.IPOptions = unhex("01010100") }), true, Service},
		{"total_length_past_the_frame", put(syn4, l3+2, 0xff, 0xff), true, Service},
		{"total_length_inside_the_tcp_header", put(syn4, l3+2, 0, 59), true, Service},
		{"total_length_below_the_header", put(syn4, l3+2, 0, 19), true, Service},
		{"total_length_of_0", put(syn4, l3+2, 0, 0), true, Service},
		{"payload_length_past_the_frame", put(syn6, l3+4, 0, 44), true, Service},
		{"payload_length_inside_the_tcp_header", put(syn6, l3+4, 0, 39), true, Service},

		{"hop_by_hop_options", extension(0, "00010400000000"), true, Service},
		{"destination_options", extension(60, "00010400000000"), true, Service},
		{"routing_header", extension(43, "00000000000000"), true, Service},
		{"atomic_fragment", extension(44, "00000000000001"), true, Service},
		{"mapped_source", put(mapped, l3+8, append(make([]byte, 10), 0xff, 0xff, 198, 51, 100, 7)...), true, Service},
		{"mapped_destination", put(mapped, l3+24, append(make([]byte, 10), 0xff, 0xff, 192, 0, 2, 1)...), true, Service},

		{"first_fragment", put(syn4, l3+6, 0x20, 0), false, Fragment},
		{"later_fragment", put(syn4, l3+6, 0, 9), false, Fragment},
		{"ipv6_first_fragment", extension(44, "00000100000001"), false, Fragment},
		{"quoted", packettest.Error{From: addr("203.0.113.1"), Type: 3, Code: 1, About: packettest.TCP{Src: tcp4.Virtual, Dst: client4, Flags: packet.SYN}.Frame()}.Frame().Bytes(), false, ICMPError},
		{"to_another_port", with(syn4, func(s *packettest.TCP) { s.Dst.Port++ }), false, Passed},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, err := r.Counters()
			must(t, err)
			guard4, err := r.GuardCounts(tcp4)
			must(t, err)
			guard6, err := r.GuardCounts(tcp6)
			must(t, err)
			want := uint32(xdpRedirect)
			if test.want == Passed {
				want = xdpPass
			}
			verdict, out := r.pass(t, test.frame)
			if verdict != want {
				t.Errorf("verdict %d, want %d", verdict, want)
			}
			if !bytes.Equal(out, test.frame) {
				t.Errorf("the frame was changed\nfrom % x\nto   % x", test.frame, out)
			}
			after, err := r.Counters()
			must(t, err)
			if after[test.want] != before[test.want]+1 {
				t.Errorf("not counted as %v: %v became %v", test.want, before, after)
			}
			n4, err := r.GuardCounts(tcp4)
			must(t, err)
			n6, err := r.GuardCounts(tcp6)
			must(t, err)
			if syns := n4.SYNs + n6.SYNs - guard4.SYNs - guard6.SYNs; syns != 1 && test.syn || syns != 0 && !test.syn {
				t.Errorf("%d SYNs were counted", syns)
			}
		})
	}
}

// A SYN that ends anywhere before its end is not answered, and no byte behind its end
// matters.
func TestCutSYN(t *testing.T) {
	r := newGuardedRig(t, Guard{Offers: both(full), Answer: true})
	for _, link := range []packettest.Link{{}, {VLAN: []uint16{1, 2}}} {
		for _, ends := range [][2]packet.Endpoint{{client4, tcp4.Virtual}, {client6, tcp6.Virtual}} {
			whole := packettest.TCP{Link: link, Src: ends[0], Dst: ends[1], Flags: packet.SYN, Options: linuxOptions}.Frame().Bytes()
			for n := 14; n < len(whole); n++ { // fewer bytes than an Ethernet header no run takes
				if verdict, _ := r.pass(t, whole[:n]); verdict == xdpTX {
					t.Errorf("%d of %d bytes were answered", n, len(whole))
				}
			}
			if verdict, _ := r.pass(t, whole); verdict != xdpTX {
				t.Errorf("the whole was not answered: verdict %d", verdict)
			}
		}
	}
}

// The instance for packets of several buffers answers those of one.
func TestSYNOfSeveralBuffers(t *testing.T) {
	r := newGuardedRig(t, Guard{Offers: both(full), Answer: true})
	multi, err := r.multiBuffer()
	must(t, err)
	for _, test := range []struct {
		name         string
		payload, pad int
		verdict      uint32
	}{
		{"one_buffer", 100, 0, xdpTX},
		{"payload", 9000, 0, xdpRedirect},
		{"padding", 0, 9000, xdpRedirect},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, ends := range [][2]packet.Endpoint{{client4, tcp4.Virtual}, {client6, tcp6.Virtual}} {
				frame := packettest.TCP{
					Link: packettest.Link{Pad: test.pad},
					Src:  ends[0], Dst: ends[1], Flags: packet.SYN, Options: linuxOptions, Payload: make([]byte, test.payload),
				}.Frame().Bytes()
				o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64)}
				verdict, err := multi.Run(&o)
				must(t, err)
				if verdict != test.verdict {
					t.Errorf("verdict %d, want %d", verdict, test.verdict)
				}
				if verdict == xdpTX {
					packettest.CheckSums(t, o.DataOut)
				} else if !slices.Equal(o.DataOut, frame) {
					t.Error("the frame was changed")
				}
			}
		})
	}
}
