package dataplane

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// pieces cuts a frame as the kernel does into buffers that hold so many bytes.
func pieces(frame []byte, size int) [][]byte { return slices.Collect(slices.Chunk(frame, size)) }

// jumbo is an MTU of 9000 on both sides.
func jumbo(w *world, _ *Config, _ *conntrack.Config) {
	w.router.table = route.Static(1, []route.StaticPort{
		wan: {
			MAC: wanMAC, MTU: 9000, Networks: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24")},
			Neighbours: map[netip.Addr][6]byte{netip.MustParseAddr("198.18.0.2"): clientMAC},
		},
		lan: {
			MAC: lanMAC, MTU: 9000, Networks: []netip.Prefix{netip.MustParsePrefix("198.19.0.0/24")},
			Neighbours: map[netip.Addr][6]byte{netip.MustParseAddr("198.19.0.101"): realMAC},
		},
	})
}

// hold is what one buffer holds of a packet, an odd number to make sums harder.
const hold = 1791

func TestJumbo(t *testing.T) {
	data := string(make([]byte, 8001))
	t.Run("segment_in_several_frames_passes_whole", func(t *testing.T) {
		w := newWorld(t, tcpService, jumbo)
		k := w.connect(client)
		f := k.fromClient(packet.ACK, "", data)
		w.put(wan, pieces(f.Bytes(), hold)...)
		sent := w.run() // checks its sums
		if len(sent[lan]) != 1 || len(sent[lan][0]) != len(f.Bytes())+8 {
			t.Fatalf("got %d frames, want one that is 8 bytes longer than %d (drops: %v)", len(sent[lan]), len(f.Bytes()), w.drops())
		}
		if p := packettest.NewFrame(sent[lan][0]).Parse(t); !hasTOA(p) || p.PayloadLen() != len(data) {
			t.Errorf("got %d bytes with the option: %t; want %d with it", p.PayloadLen(), hasTOA(p), len(data))
		}
		c := w.worker.Counts()
		if c.RxPackets != 4 || c.TxPackets != 4 || c.RxBytes+8+8 != c.TxBytes {
			t.Errorf("got %d packets of %d bytes in, %d of %d out; want 4 each, and twice 8 bytes more out", c.RxPackets, c.RxBytes, c.TxPackets, c.TxBytes)
		}
	})
	t.Run("full_checksum_covers_every_piece", func(t *testing.T) {
		w := newWorld(t, udpService, jumbo, fullChecksums)
		w.ask(client)
		w.put(wan, pieces(undo(query(client, data+"x"), l4+6).Bytes(), hold)...)
		if sent := w.run(); len(sent[lan]) != 1 {
			t.Errorf("got %d frames, want one (drops: %v)", len(sent[lan]), w.drops())
		}
	})
	t.Run("full_ring_takes_it_whole_or_not_at_all", func(t *testing.T) {
		w := newWorld(t, udpService, jumbo)
		w.ask(client)
		f := pieces(query(client, data).Bytes(), hold)
		for _, room := range []int{0, len(f) - 1, len(f), 2*len(f) - 1} {
			before := w.worker.Counts().Drops[packet.TxFull]
			for range 3 {
				w.put(wan, f...)
			}
			w.ports[lan].room = room
			sent, fit := w.run(), 2*(room/len(f)) // it is asked twice
			if got := w.worker.Counts().Drops[packet.TxFull] - before; len(sent[lan]) != fit || got != uint64(3-fit) {
				t.Errorf("room for %d, packets of %d: got %d sent and %d dropped, want %d and %d", room, len(f), len(sent[lan]), got, fit, 3-fit)
			}
		}
	})
	t.Run("is_dropped_whole", func(t *testing.T) {
		w := newWorld(t, udpService)
		w.ask(client)
		w.put(wan, pieces(query(client, data).Bytes(), hold)...)
		if sent := w.run(); len(sent[lan]) != 0 || w.worker.Counts().Drops[packet.TooBig] != 1 {
			t.Errorf("got %d frames and %v, want nothing and one for its size", len(sent[lan]), w.drops())
		}
	})
	t.Run("mixes_with_others_in_a_batch", func(t *testing.T) {
		w := newWorld(t, udpService, jumbo)
		w.ask(client)
		for range 9 {
			w.put(wan, pieces(query(client, data).Bytes(), hold)...)
			w.put(wan, query(client, "short").Bytes())
			w.put(wan, []byte("nothing"))
		}
		if sent := w.run(); len(sent[lan]) != 18 {
			t.Errorf("got %d frames, want 18 (drops: %v)", len(sent[lan]), w.drops())
		}
	})
	t.Run("does_not_allocate", func(t *testing.T) {
		w := newWorld(t, udpService, jumbo, fullChecksums)
		w.ask(client)
		f := pieces(query(client, data).Bytes(), hold)
		w.ports[lan].blind = true
		rx := make([]xsk.Desc, 0, len(f))
		round := func() {
			w.ports[wan].received = rx
			w.put(wan, f...)
			w.worker.poll(w.clock)
		}
		round()
		if got := testing.AllocsPerRun(100, round); got != 0 {
			t.Errorf("got %v allocations a round, want 0", got)
		}
	})
}
