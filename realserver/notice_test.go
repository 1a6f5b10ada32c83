package realserver

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

// loadForTest loads the programs with defaults, attached to nothing. SYNs are read
// as on a kernel that cannot trace: a tracing program runs on no frame of a test.
func loadForTest(t testing.TB) *programs {
	t.Helper()
	if t, ok := t.(netns.TB); ok {
		netns.RequireRoot(t)
	}
	o := Options{
		Cgroup: rootCgroup(t), Kinds: DefaultKinds, TTM: TTM{Kind: 77, Length: DefaultTTM}, TCPTimeout: time.Minute, UDPTimeout: time.Minute, MaxMappings: 4096,
		Interfaces: []string{"lo"}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Dearer: true,
	}
	if err := o.Trust.Set("10.0.1.0/24,fd00:1::/64"); err != nil {
		t.Fatal(err)
	}
	p, err := load(&o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// rootCgroup returns the root of the cgroup v2 tree.
func rootCgroup(t testing.TB) string {
	t.Helper()
	group, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	return group
}

// announced returns the frame of a notice.
func announced(local, real, client string, length int) []byte {
	buf := make([]byte, packet.NoticeLen)
	return buf[:packet.BuildNotice(buf, 0, &packet.Notice{
		Local: endpoint(local), Real: endpoint(real), Client: endpoint(client), Proto: packet.ProtoUDP, Length: length,
	})]
}

func endpoint(s string) packet.Endpoint { return packet.EndpointFrom(netip.MustParseAddrPort(s)) }

// run runs a program on a frame.
func (p *programs) run(t testing.TB, name string, frame []byte) uint32 {
	t.Helper()
	got, _, err := p.loaded[name].Test(frame)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestNoticeBecomesTwoMappings, one for sockets that are bound to its address.
func TestNoticeBecomesTwoMappings(t *testing.T) {
	p := loadForTest(t)
	for _, test := range []struct{ local, real, client string }{
		{"10.0.1.10:1024", "10.0.2.11:53", "198.51.100.7:40000"},
		{"10.0.1.10:1025", "10.0.2.11:53", "[2001:db8::7]:40000"},
		{"[fd00:1::10]:1024", "[fd00:2::11]:53", "[2001:db8::7]:40000"},
		{"[fd00:1::10]:1025", "[fd00:2::11]:53", "198.51.100.7:40000"},
	} {
		for _, length := range []int{packet.NoticePacked, packet.NoticePadded} {
			p.run(t, "fnatrs_ingress", announced(test.local, test.real, test.client, length))
			all, err := p.listMappings()
			if err != nil || len(all) != 1 {
				t.Fatalf("%v: got %+v, %v, want one mapping", test, all, err)
			}
			if m := all[0]; m.Local.String() != test.local || m.Real.String() != test.real || m.Client.String() != test.client || m.State != Unused {
				t.Errorf("got %+v, want %v", m, test)
			}
			u, err := p.usage()
			if err != nil || u.Noticed != 2 {
				t.Errorf("got %+v, %v, want two entries", u, err)
			}
			p.forget(t)
		}
	}
}

// forget empties the maps of notices and handshakes.
func (p *programs) forget(t testing.TB) {
	t.Helper()
	for _, m := range []*ebpf.Map{p.maps.Noticed, p.maps.Handshakes} {
		var f peerFlow
		var v peerMapping
		var all []peerFlow
		it := m.Iterate()
		for it.Next(&f, &v) {
			all = append(all, f)
		}
		for _, f := range all {
			if err := m.Delete(f); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Fatal(err)
			}
		}
	}
}

// FuzzNotice holds what the program learns against package packet, which reads
// the same notice in another language.
func FuzzNotice(f *testing.F) {
	f.Add(announced("10.0.1.10:1024", "10.0.2.11:53", "198.51.100.7:40000", packet.NoticePacked))
	f.Add(announced("10.0.1.10:1024", "10.0.2.11:53", "198.51.100.7:40000", packet.NoticePadded))
	f.Add(announced("10.0.1.10:1024", "10.0.2.11:53", "[2001:db8::7]:40000", packet.NoticePacked))
	f.Add(announced("[fd00:1::10]:1024", "[fd00:2::11]:53", "[2001:db8::7]:40000", packet.NoticePadded))
	f.Add(announced("10.0.3.10:1024", "10.0.2.11:53", "198.51.100.7:40000", packet.NoticePacked))
	p := loadForTest(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 54 || len(frame) > 1500 {
			return // less than what the kernel runs the program on, or more than a frame
		}
		p.forget(t)
		frame = append(make([]byte, 6), frame[6:]...) // the address of lo, where it arrives
		p.run(t, "fnatrs_ingress", frame)
		all, err := p.listMappings()
		if err != nil || len(all) > 1 {
			t.Fatalf("got %+v, %v, want one at most", all, err)
		}
		want, ok := readNotice(frame)
		if ok != (len(all) == 1) {
			t.Fatalf("got %+v, want %+v, %t", all, want, ok)
		}
		if ok && (all[0].Local != want.Local || all[0].Real != want.Real || all[0].Client != want.Client) {
			t.Errorf("got %+v, want %+v", all[0], want)
		}
	})
}

// readNotice reads a notice in plain steps; ok means that it is to be believed.
func readNotice(frame []byte) (m Mapping, ok bool) {
	var src, dst netip.Addr
	var message, pseudo []byte
	request := byte(8)
	switch ip := frame[14:]; {
	case frame[12] == 0x08 && frame[13] == 0 && ip[0] == 0x45 && ip[9] == 1:
		size := int(binary.BigEndian.Uint16(ip[2:]))
		if packet.Checksum(ip[:20]) != 0 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 || size < 20 || size > len(ip) {
			return m, false
		}
		src, dst, message = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), ip[20:size]
	case frame[12] == 0x86 && frame[13] == 0xdd && len(ip) >= 40 && ip[6] == 58:
		size := int(binary.BigEndian.Uint16(ip[4:]))
		if size > len(ip)-40 {
			return m, false
		}
		src, dst, message = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), ip[40:40+size]
		pseudo = append(append(pseudo, ip[8:40]...), 0, 0, ip[4], ip[5], 0, 0, 0, 58)
		request = 128
	default:
		return m, false
	}
	// A program takes an address of the form ::ffff:0:0/96 for IPv4, wherever it stands.
	src, dst = src.Unmap(), dst.Unmap()
	option, long := 14, 8
	switch len(message) {
	case 8 + 14:
	case 8 + 16:
		option = 16
	case 8 + 26:
		long = 20
	case 8 + 28:
		option, long = 16, 20
	default:
		return m, false
	}
	if packet.Checksum(append(pseudo, message...)) != 0 {
		return m, false
	}
	trusted := netip.MustParsePrefix("10.0.1.0/24").Contains(src) || netip.MustParsePrefix("fd00:1::/64").Contains(src)
	head := message[0] == request && message[1] == 0 && string(message[4:8]) == "\x34\x12\x00\x00" && message[8] == 123
	o := message[option:]
	kind := o[0] == 254 || o[0] == 200 && long == 8 || o[0] == 253 && long == 20
	if !trusted || !head || !kind || int(o[1]) != long || message[9] != 17 && message[9] != 6 {
		return m, false
	}
	addr, _ := netip.AddrFromSlice(o[4 : 4+long-4])
	addr = addr.Unmap()
	port := func(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
	m.Local, m.Real = netip.AddrPortFrom(src, port(message[10:])), netip.AddrPortFrom(dst, port(message[12:]))
	m.Client = netip.AddrPortFrom(addr, port(o[2:]))
	return m, possible(m.Client)
}
