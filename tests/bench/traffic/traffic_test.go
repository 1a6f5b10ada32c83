package traffic

import (
	"errors"
	"math"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// patterns are the shapes of frame that the benchmarks send.
func patterns() map[string]Pattern {
	nobody := packet.Endpoint{Addr: packettest.Addr("0.0.0.0")}
	target := packettest.Endpoint("198.18.0.100:80")
	sources := netip.MustParsePrefix("11.0.0.0/8")
	return map[string]Pattern{
		"flood": {
			Frame:    packettest.TCP{Src: nobody, Dst: target, Flags: packet.SYN, Options: make([]byte, 20)}.Frame(),
			Side:     packettest.TCP{Src: nobody, Dst: target, Flags: packet.ACK, Options: make([]byte, 20)}.Frame(),
			Numbered: true, SideShare: 0.25, Sources: sources,
		},
		"flows": {
			Frame: packettest.UDP{Src: nobody, Dst: target, Payload: make([]byte, 18)}.Frame(),
			Flows: 100_000, Sources: sources,
		},
	}
}

// TestFramesAreValid looks at frames as the generator makes them, each time from
// what a receiver may have left of the last.
func TestFramesAreValid(t *testing.T) {
	netns.RequireRoot(t)
	k, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for name, p := range patterns() {
		t.Run(name, func(t *testing.T) {
			if err := errors.Join(k.Set(&p), k.objs.Way.Put(uint32(0), uint32(1))); err != nil { // lo
				t.Fatal(err)
			}
			frame := make([]byte, len(p.Frame.Bytes()))
			seen, beside := map[packet.Flow]bool{}, 0
			for range 1000 {
				got, err := k.objs.Generate.Run(&ebpf.RunOptions{Data: frame, DataOut: frame})
				if err != nil || got != xdpRedirect {
					t.Fatalf("verdict %d, %v; want %d", got, err, xdpRedirect)
				}
				packettest.CheckSums(t, frame)
				q := packettest.NewFrame(frame).Parse(t)
				if a := q.Flow.Src.Netip(); !p.Sources.Contains(a) {
					t.Errorf("source %v is not in %v", a, p.Sources)
				}
				seen[q.Flow] = true
				if q.Flags.Has(packet.ACK) {
					beside++
				}
			}
			if len(seen) < 900 {
				t.Errorf("1000 frames were of %d flows", len(seen))
			}
			// Five standard deviations of a fair choice.
			want := 1000 * p.SideShare
			if off := math.Abs(float64(beside) - want); off > 5*math.Sqrt(want) {
				t.Errorf("%d of 1000 frames were of the second kind, want about %.0f", beside, want)
			}
		})
	}
}

const xdpRedirect = 4 // XDP_REDIRECT of linux/bpf.h

// TestPacing has a pattern of a low rate send one frame, and no more in the next
// thousand rounds.
func TestPacing(t *testing.T) {
	netns.RequireRoot(t)
	k, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	p := patterns()["flows"]
	p.Rate = 0.001 // one at the start, and the next in 1000 s
	if err := k.Set(&p); err != nil {
		t.Fatal(err)
	}
	if _, err := k.objs.Generate.Run(&ebpf.RunOptions{Data: p.Frame.Bytes(), Repeat: 1000}); err != nil {
		t.Fatal(err)
	}
	c, err := k.Counts()
	if err != nil {
		t.Fatal(err)
	}
	if c.Sent != 1 {
		t.Errorf("sent %d frames at once, want 1", c.Sent)
	}
}
