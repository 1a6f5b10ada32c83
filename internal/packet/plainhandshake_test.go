package packet_test

import (
	"fmt"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// checkAnswer checks that what a SYN-ACK says is what the packet that Parse made of it
// does, and reports whether it is in Linux's order.
func checkAnswer(t *testing.T, p *packet.Plain, parsed *packet.Packet) bool {
	t.Helper()
	var a packet.Handshake
	ok := p.Handshake(&a)
	if ok && (a.SYNOptions != parsed.SYNOptions() || parsed.HasSACK() || p.Window() != parsed.TCP().Window()) {
		t.Fatalf("got %+v and window %d, want %+v: %+v", a.SYNOptions, p.Window(), parsed.SYNOptions(), parsed)
	}
	return ok
}

// Every SYN-ACK that Linux can send is read, and not one with an option more.
func TestAnswer(t *testing.T) {
	build := func(o packet.SYNOptions, first []byte) (p packet.Plain, parsed packet.Packet) {
		buf := make([]byte, packettest.Headroom+packet.SegmentLen+packet.PlainRoom)
		s := packet.Segment{Src: client4, Dst: virtual4, Seq: 1, Ack: 2, Window: 3, Flags: packet.SYN | packet.ACK, Option: first, Options: o}
		parsed.Build(buf, packettest.Headroom, &s)
		if !p.Read((*[packet.PlainRoom]byte)(buf[packettest.Headroom:]), parsed.End-parsed.Start) || !p.Answers() {
			t.Fatalf("%+v: not plain", s)
		}
		return p, parsed
	}
	for i := range 16 {
		o := packet.SYNOptions{Scale: packet.NoScale, SACK: i&1 != 0, Timestamps: i&2 != 0}
		if i&4 != 0 {
			o.MSS = 1460
		}
		if i&8 != 0 {
			o.Scale = 7
		}
		if o.Timestamps {
			o.Val, o.Ecr = 5, 6
		}
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			if p, parsed := build(o, nil); !checkAnswer(t, &p, &parsed) {
				t.Error("not known")
			}
			if p, parsed := build(o, []byte{254, 4, 0, 0}); checkAnswer(t, &p, &parsed) {
				t.Error("another option is not seen")
			}
		})
	}
}
