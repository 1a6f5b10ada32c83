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

// BenchmarkEmpty is what the others pay for their loop.
func BenchmarkEmpty(b *testing.B) {
	benchmarkBatch(b, timestamps, func(p *packet.Packet, f *packettest.Frame) {
		if p.Buf == nil {
			p.Parse(f.Buf, f.Start, f.End)
		}
	})
}

func BenchmarkTimestamps(b *testing.B) {
	benchmarkBatch(b, timestamps, func(p *packet.Packet, f *packettest.Frame) {
		if p.Buf == nil {
			p.Parse(f.Buf, f.Start, f.End)
		}
		p.Timestamps()
	})
}

func BenchmarkShiftTimestamps(b *testing.B) {
	benchmarkBatch(b, timestamps, func(p *packet.Packet, f *packettest.Frame) {
		if p.Buf == nil {
			p.Parse(f.Buf, f.Start, f.End)
		}
		p.ShiftTimestamps(1, 2)
	})
}

// BenchmarkConvert goes there and back: halve it.
func BenchmarkConvert(b *testing.B) {
	benchmarkBatch(b, nil, func(p *packet.Packet, f *packettest.Frame) {
		if p.Buf == nil {
			p.Parse(f.Buf, f.Start, f.End)
		}
		if p.Convert(local6, real6) != packet.Kept || p.Convert(local4, real4) != packet.Kept {
			b.Fatal("not converted")
		}
	})
}

func BenchmarkRewriteError(b *testing.B) {
	f := packettest.Error{From: client4.Addr, Type: 3, About: packettest.UDP{Src: virtual4, Dst: client4, Payload: make([]byte, 1000)}.Frame()}.Frame()
	e := packet.ErrorRewrite{Src: client4.Addr, QuotedSrc: virtual4, QuotedDst: client4}
	p := f.Parse(b)
	b.ReportAllocs()
	for b.Loop() {
		if p.RewriteError(&e) != packet.Kept {
			b.Fatal("not rewritten")
		}
	}
}

// BenchmarkParseTranslateInsertOption includes a copy that brings the frame back.
func BenchmarkParseTranslateInsertOption(b *testing.B) {
	var opt [packet.MaxAddressOption]byte
	toa := packet.TOA(packet.DefaultTOAKind)
	fresh := packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.ACK, Options: timestamps}.Frame().Bytes()
	benchmarkBatch(b, timestamps, func(p *packet.Packet, f *packettest.Frame) {
		copy(f.Buf[f.Start:], fresh)
		p.Parse(f.Buf, f.Start, f.End)
		p.Translate(local4, real4)
		if !p.InsertOption(opt[:toa.Encode(opt[:], client4)]) {
			b.Fatal("option was not inserted")
		}
	})
}
