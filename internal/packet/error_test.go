package packet_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func TestBuildError(t *testing.T) {
	for version, c := range families {
		for kind, want := range map[packet.ErrorKind]map[string][3]int{ // type, code, second word
			packet.ErrorTimeExceeded: {"4": {11, 0, 0}, "6": {3, 0, 0}},
			packet.ErrorTooBig:       {"4": {3, 4, 1400}, "6": {2, 0, 1400}},
			packet.ErrorNoRoute:      {"4": {3, 1, 0}, "6": {1, 0, 0}},
			packet.ErrorNoPort:       {"4": {3, 3, 0}, "6": {1, 4, 0}},
		} {
			for _, size := range []int{0, 3, 516, 548, 549, 1192, 1193, 1400} {
				t.Run(fmt.Sprintf("%s/kind_%d/%d_bytes", version, kind, size), func(t *testing.T) {
					about := packettest.UDP{Src: c.client, Dst: c.virtual, Payload: bytes.Repeat([]byte{7}, size), Link: packettest.Link{VLAN: []uint16{5}}}.Frame().Parse(t)
					buf := bytes.Repeat([]byte{0xee}, 16+packet.ErrorLen)
					end, ok := packet.BuildError(buf, 16, &packet.Error{Kind: kind, MTU: 1400, From: c.router, About: about})
					if !ok {
						t.Fatal("not built")
					}
					packettest.CheckSums(t, buf[16:end])
					p := packettest.Frame{Buf: buf, Start: 16, End: end}.Parse(t)
					if f, ok := p.Quoted(); !ok || f != about.Flow || p.Flow.Src != c.router || p.Flow.Dst != c.client.Addr || p.TTL() != 64 {
						t.Errorf("from %v to %v, TTL %d, quoting %v", p.Flow.Src, p.Flow.Dst, p.TTL(), f)
					}
					m := p.ICMP()
					if got := [3]int{int(m.Type()), int(m.Code()), int(m.ID())<<16 | int(m.Seq())}; got != want[version] {
						t.Errorf("type, code, word: got %v, want %v", got, want[version])
					}
					limit := 576
					if p.Version == 6 {
						limit = 1280
					}
					if want := min(limit, p.Payload-p.L3+about.IPLen()); p.IPLen() != want || !bytes.HasPrefix(about.Buf[about.L3:], m.Body()) {
						t.Errorf("%d bytes, want %d", p.IPLen(), want)
					}
					if p.Version == 4 && p.IPv4().TOS() != 0xc0 {
						t.Errorf("TOS %#02x, want precedence 6", p.IPv4().TOS())
					}
				})
			}
		}
	}
}

// TestBuildErrorKeepsQuiet is about packets that RFC 1122, section 3.2.2, and RFC
// 4443, section 2.4 (e), have no error about.
func TestBuildErrorKeepsQuiet(t *testing.T) {
	udp := func(src, dst string) packettest.Frame {
		return packettest.UDP{Src: packettest.Endpoint(src), Dst: packettest.Endpoint(dst), Payload: make([]byte, 100)}.Frame()
	}
	ordinary4, ordinary6 := udp("198.51.100.7:1", "203.0.113.10:2"), udp("[2001:db8::1]:1", "[2001:db8::2]:2")
	broadcast := udp("198.51.100.7:1", "203.0.113.10:2")
	broadcast.Buf[broadcast.Start] = 0xff
	for name, c := range map[string]struct {
		about packettest.Frame
		want  bool
	}{
		"udp4":             {ordinary4, true},
		"udp6":             {ordinary6, true},
		"echo":             {packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: 8}.Frame(), true},
		"first_fragment":   {packettest.Fragments(ordinary4, 60)[0], true},
		"later_fragment":   {packettest.Fragments(ordinary4, 60)[1], false},
		"later_fragment6":  {packettest.Fragments(ordinary6, 88)[1], false},
		"error":            {packettest.Error{From: client4.Addr, Type: 3, About: ordinary4}.Frame(), false},
		"error6":           {packettest.Error{From: client6.Addr, Type: 2, About: ordinary6}.Frame(), false},
		"link_broadcast":   {broadcast, false},
		"to_multicast":     {udp("198.51.100.7:1", "224.0.0.1:2"), false},
		"to_broadcast":     {udp("198.51.100.7:1", "255.255.255.255:2"), false},
		"to_multicast6":    {udp("[2001:db8::1]:1", "[ff02::1]:2"), false},
		"from_zero":        {udp("0.0.0.0:1", "203.0.113.10:2"), false},
		"from_loopback":    {udp("127.0.0.1:1", "203.0.113.10:2"), false},
		"from_multicast":   {udp("239.1.1.1:1", "203.0.113.10:2"), false},
		"from_class_e":     {udp("240.1.1.1:1", "203.0.113.10:2"), false},
		"from_unspecified": {udp("[::]:1", "[2001:db8::2]:2"), false},
		"from_loopback6":   {udp("[::1]:1", "[2001:db8::2]:2"), false},
		"from_multicast6":  {udp("[ff0e::1]:1", "[2001:db8::2]:2"), false},
	} {
		t.Run(name, func(t *testing.T) {
			var p packet.Packet
			if why := p.Parse(c.about.Buf, c.about.Start, c.about.End); why != packet.Kept && why != packet.Fragment {
				t.Fatal(why)
			}
			from := virtual4.Addr
			if p.Version == 6 {
				from = virtual6.Addr
			}
			buf := make([]byte, packet.ErrorLen)
			end, ok := packet.BuildError(buf, 0, &packet.Error{Kind: packet.ErrorNoPort, From: from, About: &p})
			if ok != c.want {
				t.Errorf("got %v, want %v", ok, c.want)
			}
			if !ok && (end != 0 || !bytes.Equal(buf, make([]byte, len(buf)))) {
				t.Error("refused, but something was written")
			}
		})
	}
}
