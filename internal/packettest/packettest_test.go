package packettest_test

import (
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

var (
	src4, dst4 = packettest.Endpoint("198.51.100.7:40000"), packettest.Endpoint("203.0.113.10:80")
	src6, dst6 = packettest.Endpoint("[2001:db8:7::1]:40000"), packettest.Endpoint("[2001:db8:a::1]:80")
)

func frames() map[string]packettest.Frame {
	link := packettest.Link{VLAN: []uint16{7, 8}, TTL: 9, IPOptions: []byte{1, 1, 1, 0}}
	hop := packettest.Link{FirstExtension: 0, Extensions: []byte{0, 0, 1, 4, 0, 0, 0, 0}}
	return map[string]packettest.Frame{
		"tcp4":   packettest.TCP{Src: src4, Dst: dst4, Flags: packet.SYN, Seq: 1, Ack: 2, Options: []byte{2, 4, 5, 0xb4}, Payload: []byte("odd")}.Frame(),
		"tcp6":   packettest.TCP{Src: src6, Dst: dst6, Link: hop, Flags: packet.SYN, Payload: []byte("odd")}.Frame(),
		"vlan":   packettest.TCP{Src: src4, Dst: dst4, Link: link}.Frame(),
		"udp4":   packettest.UDP{Src: src4, Dst: dst4, Payload: []byte("odd")}.Frame(),
		"udp6":   packettest.UDP{Src: src6, Dst: dst6, Payload: []byte("odd")}.Frame(),
		"icmp4":  packettest.ICMP{Src: src4.Addr, Dst: dst4.Addr, Type: 8, ID: 1, Seq: 2, Body: []byte("odd")}.Frame(),
		"error4": packettest.Error{From: dst4.Addr, Type: 3, Code: 4, Word: 1400, About: packettest.UDP{Src: src4, Dst: dst4, Payload: []byte("odd")}.Frame()}.Frame(),
		"error6": packettest.Error{From: dst6.Addr, Type: 2, Word: 1400, About: packettest.TCP{Src: src6, Dst: dst6}.Frame(), Quoted: 56}.Frame(),
		"icmp6":  packettest.ICMP{Src: src6.Addr, Dst: dst6.Addr, Type: 128, ID: 1, Seq: 2, Body: []byte("odd")}.Frame(),
	}
}

// TestFramesAreWhatGopacketReads holds the builders against a decoder that
// knows nothing of them.
func TestFramesAreWhatGopacketReads(t *testing.T) {
	for name, f := range frames() {
		t.Run(name, func(t *testing.T) {
			p := gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
			if e := p.ErrorLayer(); e != nil {
				t.Fatal(e.Error())
			}
			for _, l := range p.Layers() {
				if l, ok := l.(interface {
					SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
				}); ok {
					l.SetNetworkLayerForChecksum(p.NetworkLayer())
				}
			}
			err, wrong := p.VerifyChecksums()
			if err != nil || len(wrong) != 0 {
				t.Errorf("checksums: %v %+v", err, wrong)
			}
			packettest.CheckSums(t, f.Bytes())
		})
	}
}

func TestVerifySumsSeesEveryByte(t *testing.T) {
	for name, f := range frames() {
		// Of the IPv6 header only the addresses and lengths are covered.
		from := 14
		if f.Parse(t).Version == 6 {
			from = f.Parse(t).L4 - f.Start
		}
		if name == "vlan" {
			from = 22
		}
		for i := from; i < f.End-f.Start; i++ {
			b := f.Buf[f.Start+i]
			f.Buf[f.Start+i] ^= 1
			if err := packettest.VerifySums(f.Bytes()); err == nil {
				t.Errorf("%s: byte %d changed and nothing was seen", name, i)
			}
			f.Buf[f.Start+i] = b
		}
	}
}

func TestEchoReply(t *testing.T) {
	for _, name := range []string{"icmp4", "icmp6"} {
		request := frames()[name].Parse(t)
		f := packettest.EchoReply(frames()[name])
		packettest.CheckSums(t, f.Bytes())
		p := f.Parse(t)
		if p.Flow.Src != request.Flow.Dst || p.Flow.Dst != request.Flow.Src || string(p.ICMP().Body()) != "odd" || p.ICMP().ID() != 1 || p.ICMP().Seq() != 2 {
			t.Errorf("%s: got %v %v", name, p.Flow, p.ICMP())
		}
		if want := map[string]uint8{"icmp4": packet.ICMPEchoReply, "icmp6": packet.ICMPv6EchoReply}[name]; p.ICMP().Type() != want {
			t.Errorf("%s: got type %d, want %d", name, p.ICMP().Type(), want)
		}
	}
}

func TestNewFrameHasHeadroom(t *testing.T) {
	f := packettest.NewFrame(make([]byte, 9000))
	if f.Start != packettest.Headroom || f.End-f.Start != 9000 || len(f.Buf) < f.End {
		t.Errorf("got start %d, end %d, buffer %d", f.Start, f.End, len(f.Buf))
	}
}
