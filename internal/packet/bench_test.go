package packet_test

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// benchmarkBatch runs f over the packets of a batch of 64, as the worker does. One
// frame again and again would measure how long a checksum takes to come back out
// of the store buffer instead.
func benchmarkBatch(b *testing.B, options []byte, f func(p *packet.Packet, frame *packettest.Frame)) {
	frames := make([]packettest.Frame, 64)
	for i := range frames {
		frames[i] = packettest.TCP{
			Src: client4, Dst: virtual4, Flags: packet.ACK, Options: options, Payload: make([]byte, 10),
			Link: packettest.Link{TTL: 255},
		}.Frame()
	}
	packets := make([]packet.Packet, len(frames))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f(&packets[i%64], &frames[i%64])
	}
}

func BenchmarkParse(b *testing.B) {
	benchmarkBatch(b, nil, func(p *packet.Packet, f *packettest.Frame) {
		p.Parse(f.Buf, f.Start, f.End)
	})
}

func BenchmarkTranslate(b *testing.B) {
	benchmarkBatch(b, nil, func(p *packet.Packet, f *packettest.Frame) {
		if p.Buf == nil {
			p.Parse(f.Buf, f.Start, f.End)
		}
		p.Translate(local4, real4)
	})
}

func BenchmarkParseTranslateTTL(b *testing.B) {
	benchmarkBatch(b, nil, func(p *packet.Packet, f *packettest.Frame) {
		p.Parse(f.Buf, f.Start, f.End)
		p.Translate(local4, real4)
		if !p.DecrementTTL() {
			p.IPv4()[8] = 255
		}
	})
}

func BenchmarkParseTranslateInsertOption(b *testing.B) {
	var opt [packet.MaxAddressOption]byte
	toa := packet.TOA(254)
	timestamps := []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	benchmarkBatch(b, timestamps, func(p *packet.Packet, f *packettest.Frame) {
		p.Parse(f.Buf, f.Start, f.End)
		p.Translate(local4, real4)
		if !p.InsertOption(opt[:toa.Encode(opt[:], client4)]) {
			b.Fatal("option was not inserted")
		}
		// Back to where it was, but for two bytes: the frame without the option.
		copy(f.Buf[f.Start:], p.Buf[p.Start:p.L4+12])
		f.Buf[f.Start+17] -= 8
		f.Buf[f.Start+34+12] -= 2 << 4
	})
}
