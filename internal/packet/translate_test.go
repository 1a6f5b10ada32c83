package packet_test

import (
	"bytes"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// translate gives p the local and real ends of its family.
func translate(p *packet.Packet) {
	if p.Version == 4 {
		p.Translate(local4, real4)
	} else {
		p.Translate(local6, real6)
	}
}

func TestTranslate(t *testing.T) {
	for name, f := range map[string]packettest.Frame{
		"tcp4":         packettest.TCP{Src: client4, Dst: virtual4, Payload: []byte("odd")}.Frame(),
		"tcp6":         packettest.TCP{Src: client6, Dst: virtual6, Payload: []byte("odd")}.Frame(),
		"tcp6_options": packettest.TCP{Src: client6, Dst: virtual6, Link: extended(0, hopThenRoute, 8)}.Frame(),
		"udp4":         packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd")}.Frame(),
		"udp4_options": packettest.UDP{Src: client4, Dst: virtual4, Link: packettest.Link{IPOptions: []byte{1, 1, 1, 0}}}.Frame(),
		"udp4_surplus": packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd"), Surplus: []byte("x")}.Frame(),
		"udp6":         packettest.UDP{Src: client6, Dst: virtual6, Payload: []byte("odd")}.Frame(),
	} {
		t.Run(name, func(t *testing.T) {
			p := f.Parse(t)
			payload := bytes.Clone(p.Buf[p.Payload:p.End])
			translate(p)
			packettest.CheckSums(t, p.Frame())
			want := flow(local4, real4, p.Flow.Proto)
			if p.Version == 6 {
				want = flow(local6, real6, p.Flow.Proto)
			}
			if p.Flow != want {
				t.Errorf("flow: got %v, want %v", p.Flow, want)
			}
			if again := packettest.NewFrame(p.Frame()).Parse(t); again.Flow != want {
				t.Errorf("flow in the headers: got %v, want %v", again.Flow, want)
			}
			if !bytes.Equal(p.Buf[p.Payload:p.End], payload) {
				t.Error("payload changed")
			}
		})
	}
}

func TestTranslateLeavesICMPFieldsAlone(t *testing.T) {
	for _, f := range []packettest.Frame{
		packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPEchoRequest, ID: 9, Seq: 8}.Frame(),
		packettest.ICMP{Src: client6.Addr, Dst: virtual6.Addr, Type: packet.ICMPv6EchoRequest, ID: 9, Seq: 8}.Frame(),
	} {
		p := f.Parse(t)
		kind := p.ICMP().Type()
		translate(p)
		packettest.CheckSums(t, p.Frame())
		if m := p.ICMP(); m.Type() != kind || m.ID() != 9 || m.Seq() != 8 {
			t.Errorf("type, identifier, sequence: got %d %d %d, want %d 9 8", m.Type(), m.ID(), m.Seq(), kind)
		}
		if p.Flow.SrcPort != 0 || p.Flow.DstPort != 0 {
			t.Errorf("ports: got %d %d, want none", p.Flow.SrcPort, p.Flow.DstPort)
		}
	}
}

func TestTranslateKeepsZeroUDPChecksum(t *testing.T) {
	p := packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("12"), NoSum: true}.Frame().Parse(t)
	p.Translate(local4, real4)
	if got := p.UDP().Sum(); got != 0 {
		t.Errorf("got %#04x, want 0", got)
	}
	p.RecomputeChecksums()
	if got := p.UDP().Sum(); got != 0 {
		t.Errorf("after RecomputeChecksums: got %#04x, want 0", got)
	}
	packettest.CheckSums(t, p.Frame())
}

// TestTranslateSendsZeroUDPSumAsOnes goes through all ports,
// one of which brings the sum to zero.
func TestTranslateSendsZeroUDPSumAsOnes(t *testing.T) {
	p := packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("12")}.Frame().Parse(t)
	ones := 0
	for port := range 1 << 16 {
		p.Translate(packet.Endpoint{Addr: local4.Addr, Port: uint16(port)}, real4)
		switch p.UDP().Sum() {
		case 0:
			t.Fatalf("port %d: checksum is 0", port)
		case 0xffff:
			ones++
		}
		if err := packettest.VerifySums(p.Frame()); err != nil {
			t.Fatalf("port %d: %v", port, err)
		}
	}
	if ones == 0 {
		t.Error("no port brought the checksum to all ones")
	}
}

func TestChecksumsCarryDamage(t *testing.T) {
	f := packettest.TCP{Src: client4, Dst: virtual4, Payload: []byte("12345")}.Frame()
	f.Buf[f.End-1] ^= 1
	p := f.Parse(t)
	translate(p)
	p.AddSeq(1)
	if err := packettest.VerifySums(p.Frame()); err == nil {
		t.Error("damage was hidden by a new checksum")
	}
	p.RecomputeChecksums()
	packettest.CheckSums(t, p.Frame())
}

func TestDecrementTTL(t *testing.T) {
	for _, ttl := range []uint8{255, 64, 2, 1} {
		for _, f := range []packettest.Frame{
			packettest.TCP{Src: client4, Dst: virtual4, Link: packettest.Link{TTL: ttl}}.Frame(),
			packettest.TCP{Src: client6, Dst: virtual6, Link: packettest.Link{TTL: ttl}}.Frame(),
		} {
			p := f.Parse(t)
			before := bytes.Clone(p.Frame())
			ok := p.DecrementTTL()
			if want := ttl > 1; ok != want {
				t.Errorf("version %d, TTL %d: got %v, want %v", p.Version, ttl, ok, want)
			}
			if !ok && !bytes.Equal(before, p.Frame()) {
				t.Errorf("version %d, TTL %d: refused, but the frame changed", p.Version, ttl)
			}
			packettest.CheckSums(t, p.Frame())
			got := f.Buf[p.L3+7]
			if p.Version == 4 {
				got = p.IPv4().TTL()
			}
			if ok && got != ttl-1 {
				t.Errorf("version %d: got TTL %d, want %d", p.Version, got, ttl-1)
			}
		}
	}
}

func TestAddSeqAndAck(t *testing.T) {
	for _, delta := range []uint32{0, 1, 0xffffffff, 0x80000000, 0x12345678} {
		p := packettest.TCP{Src: client6, Dst: virtual6, Seq: 0xfffffff0, Ack: 0xffff, Flags: packet.ACK}.Frame().Parse(t)
		p.AddSeq(delta)
		p.AddAck(^delta)
		packettest.CheckSums(t, p.Frame())
		if got, want := p.TCP().Seq(), 0xfffffff0+delta; got != want {
			t.Errorf("seq: got %#x, want %#x", got, want)
		}
		if got, want := p.TCP().Ack(), 0xffff+^delta; got != want {
			t.Errorf("ack: got %#x, want %#x", got, want)
		}
	}
}

func TestSegmentLen(t *testing.T) {
	for _, c := range []struct {
		flags   packet.TCPFlags
		payload int
		want    uint32
	}{
		{packet.ACK, 0, 0}, {packet.SYN, 0, 1}, {packet.FIN | packet.ACK, 10, 11}, {packet.SYN | packet.FIN, 3, 5},
	} {
		f := packettest.TCP{Src: client4, Dst: virtual4, Flags: c.flags, Payload: make([]byte, c.payload), Link: packettest.Link{Pad: 6}}.Frame()
		if got := f.Parse(t).SegmentLen(); got != c.want {
			t.Errorf("%v with %d bytes: got %d, want %d", c.flags, c.payload, got, c.want)
		}
	}
}
