package packet_test

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// jumbo is the frame of n bytes of payload to the given protocol.
func jumbo(tcp bool, src, dst packet.Endpoint, n int, surplus ...byte) packettest.Frame {
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	if tcp {
		return packettest.TCP{Src: src, Dst: dst, Flags: packet.ACK, Options: timestamps, Payload: payload}.Frame()
	}
	return packettest.UDP{Src: src, Dst: dst, Payload: payload, Surplus: surplus}.Frame()
}

// A frame in several buffers is changed at its head, and is as if it had been in
// one, wherever it is cut.
func TestTail(t *testing.T) {
	for name, f := range map[string]func() packettest.Frame{
		"tcp":         func() packettest.Frame { return jumbo(true, client4, virtual4, 1001) },
		"tcp6":        func() packettest.Frame { return jumbo(true, client6, virtual6, 1000) },
		"udp":         func() packettest.Frame { return jumbo(false, client4, virtual4, 1001) },
		"udp_surplus": func() packettest.Frame { return jumbo(false, client4, virtual4, 1000, 1, 2, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, cut := range []int{200, 201, 999, 1000} {
				f, whole := f(), f().Parse(t)
				var p packet.Packet
				head, tail := f.Start+cut, f.End-f.Start-cut
				if why := p.ParseHead(f.Buf, f.Start, head, tail); why != packet.Kept {
					t.Fatalf("cut at %d: got %v", cut, why)
				}
				if p.IPLen() != whole.IPLen() || p.PayloadLen() != whole.PayloadLen() || p.End != head {
					t.Errorf("cut at %d: got %d and %d bytes to %d, want %d and %d to %d",
						cut, p.IPLen(), p.PayloadLen(), p.End, whole.IPLen(), whole.PayloadLen(), head)
				}
				if p.Flow.Proto == packet.ProtoTCP && p.SegmentLen() != whole.SegmentLen() {
					t.Errorf("cut at %d: segment of %d, want %d", cut, p.SegmentLen(), whole.SegmentLen())
				}
				p.Buf[p.L4+7] ^= 0x55 // of a TCP sequence number, or the UDP checksum
				middle := head + (f.End-head)/3
				p.RecomputeChecksums(f.Buf[head:middle], f.Buf[middle:f.End])
				to, from := local4, real4
				if p.Version == 6 {
					to, from = local6, real6
				}
				p.Translate(to, from)
				p.DecrementTTL()
				if p.Flow.Proto == packet.ProtoTCP {
					p.AddSeq(12345)
					p.InsertOption([]byte{254, 8, 1, 2, 3, 4, 5, 6})
				}
				packettest.CheckSums(t, f.Buf[p.Start:f.End])
			}
		})
	}
}

func TestTailThatLies(t *testing.T) {
	for name, c := range map[string]struct {
		f         packettest.Frame
		head, add int // bytes in the first buffer, and that the rest is longer than it says
		want      packet.Reason
	}{
		"longer":           {jumbo(true, client4, virtual4, 1000), 500, 1, packet.BadIPHeader},
		"shorter":          {jumbo(true, client4, virtual4, 1000), 500, -1, packet.BadIPHeader},
		"longer6":          {jumbo(true, client6, virtual6, 1000), 500, 1, packet.BadIPHeader},
		"shorter6":         {jumbo(true, client6, virtual6, 1000), 500, -1, packet.BadIPHeader},
		"header_cut":       {jumbo(true, client4, virtual4, 1000), 14 + 20 + 30, 0, packet.BadTCPHeader},
		"ip_header_cut":    {jumbo(true, client4, virtual4, 1000), 30, 0, packet.ShortFrame},
		"transport_is_cut": {jumbo(false, client6, virtual6, 1000), 14 + 40 + 7, 0, packet.ShortFrame},
		"icmp": {packettest.ICMP{Src: client4.Addr, Dst: virtual4.Addr, Type: packet.ICMPEchoReply, Body: make([]byte, 1000)}.Frame(),
			500, 0, packet.BadICMP},
	} {
		t.Run(name, func(t *testing.T) {
			var p packet.Packet
			tail := c.f.End - c.f.Start - c.head + c.add
			if got := p.ParseHead(c.f.Buf, c.f.Start, c.f.Start+c.head, tail); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
