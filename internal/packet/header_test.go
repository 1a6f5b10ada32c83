package packet_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func TestIPv4Fields(t *testing.T) {
	f := packettest.UDP{Src: client4, Dst: virtual4, Link: packettest.Link{TTL: 17, IPOptions: []byte{1, 1, 1, 0}}}.Frame()
	f.Buf[f.Start+15] = 0xb8
	h := f.Parse(t).IPv4()
	got := []any{h.HeaderLen(), h.TOS(), h.TotalLen(), h.ID(), h.DontFragment(), h.IsFragment(), h.TTL(), h.Proto(), h.Src(), h.Dst()}
	want := []any{24, uint8(0xb8), 32, uint16(1), true, false, uint8(17), uint8(17), client4.Addr, virtual4.Addr}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got(-) want(+)\n%s", diff)
	}
}

func TestIPv6Fields(t *testing.T) {
	f := packettest.UDP{Src: client6, Dst: virtual6, Link: extended(0, hopByHop, 0)}.Frame()
	copy(f.Buf[f.Start+14:], []byte{0x6b, 0x81, 0x23, 0x45})
	h := f.Parse(t).IPv6()
	got := []any{h.TrafficClass(), h.FlowLabel(), h.PayloadLen(), h.NextHeader(), h.HopLimit(), h.Src(), h.Dst()}
	want := []any{uint8(0xb8), uint32(0x12345), 16, uint8(0), uint8(64), client6.Addr, virtual6.Addr}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got(-) want(+)\n%s", diff)
	}
}

func TestPacketTTL(t *testing.T) {
	for _, p := range []*packet.Packet{
		packettest.UDP{Src: client4, Dst: virtual4, Link: packettest.Link{TTL: 9}}.Frame().Parse(t),
		packettest.UDP{Src: client6, Dst: virtual6, Link: packettest.Link{TTL: 9}}.Frame().Parse(t),
	} {
		if got := p.TTL(); got != 9 {
			t.Errorf("version %d: got %d, want 9", p.Version, got)
		}
	}
}

func TestTCPFields(t *testing.T) {
	p := packettest.TCP{Src: client4, Dst: virtual4, Seq: 0x01020304, Ack: 0x05060708, Window: 0x090a,
		Flags: packet.SYN | packet.ECE, Options: timestamps}.Frame().Parse(t)
	h := p.TCP()
	got := []any{h.SrcPort(), h.DstPort(), h.Seq(), h.Ack(), h.HeaderLen(), h.Flags(), h.Window(), h.Urgent(), h.Options()}
	want := []any{uint16(40000), uint16(80), uint32(0x01020304), uint32(0x05060708), 32, packet.SYN | packet.ECE, uint16(0x090a), uint16(0), timestamps}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got(-) want(+)\n%s", diff)
	}
}

func TestTCPFlags(t *testing.T) {
	f := packet.SYN | packet.ACK
	if !f.Has(packet.SYN) || !f.Has(packet.SYN|packet.ACK) || f.Has(packet.SYN|packet.FIN) {
		t.Error("Has: wants all the bits asked for")
	}
	if !f.Any(packet.SYN|packet.FIN) || f.Any(packet.FIN|packet.RST) {
		t.Error("Any: wants one of the bits asked for")
	}
	for flags, want := range map[packet.TCPFlags]string{0: ".", f: "SA", 0xff: "FSRPAUEC"} {
		if got := flags.String(); got != want {
			t.Errorf("String of %#02x: got %q, want %q", uint8(flags), got, want)
		}
	}
}

func TestParseARP(t *testing.T) {
	b := []byte{
		0, 1, 8, 0, 6, 4, 0, 2,
		2, 0, 0, 0, 0, 1, 10, 0, 1, 10,
		2, 0, 0, 0, 0, 2, 10, 0, 2, 11,
		0, 0, // padding
	}
	a, ok := packet.ParseARP(b)
	if !ok {
		t.Fatal("not taken for an ARP message")
	}
	got := []any{a.Op(), a.SenderMAC(), a.Sender(), a.TargetMAC(), a.Target()}
	want := []any{uint16(packet.ARPReply), [6]byte{2, 0, 0, 0, 0, 1}, local4.Addr, [6]byte{2, 0, 0, 0, 0, 2}, real4.Addr}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got(-) want(+)\n%s", diff)
	}
	for _, bad := range [][]byte{nil, b[:27], append([]byte{0, 6}, b[2:]...)} {
		if _, ok := packet.ParseARP(bad); ok {
			t.Errorf("% x is taken for an ARP message", bad)
		}
	}
}
