package dataplane

import (
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// BenchmarkGuard measures what one packet of a flood costs a worker, from the frame to
// the verdict, in whole batches and without rings: a SYN until its SYN-ACK is finished
// and in line, a bad ACK until it is refused and its frame free. "copy" is what laying the
// frames down costs, which is in the others.
func BenchmarkGuard(b *testing.B) {
	for _, f := range []struct {
		name    string
		virtual packet.Endpoint
		from    packet.Endpoint
		vlan    []uint16
	}{{"ipv4", vip, client, nil}, {"ipv6", vip6, client6, nil}, {"vlan", vip, client, []uint16{5}}} {
		w := newWorld(b, guarded("")+guarded6)
		w.worker.poll(w.clock)
		tcp := packettest.TCP{
			Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC, VLAN: f.vlan},
			Src:  f.from, Dst: f.virtual, Flags: packet.SYN, Options: []byte(synOptions),
		}
		fromMany := manyClients(tcp)
		b.Run(f.name+"/copy", func(b *testing.B) { w.flooded(b, fromMany, false) })
		b.Run(f.name+"/syn", func(b *testing.B) {
			if w.flooded(b, fromMany, true); w.worker.counts.Drops != [packet.NumReasons]uint64{} {
				b.Errorf("dropped: %v", w.worker.counts.Drops)
			}
		})
		for _, payload := range []string{"", "x"} {
			tcp.Flags, tcp.Ack, tcp.Options, tcp.Payload = packet.ACK, 7, []byte(timestampsOf(synOptions)), []byte(payload)
			fromMany := manyClients(tcp)
			b.Run(f.name+map[string]string{"": "/bad_ack", "x": "/bad_data"}[payload], func(b *testing.B) {
				before := w.worker.counts.Drops[packet.BadCookie]
				w.flooded(b, fromMany, true)
				if n := w.worker.counts.Drops[packet.BadCookie] - before; n < uint64(b.N) {
					b.Errorf("%d of %d dropped", n, b.N)
				}
			})
		}
	}
}

// manyClients returns the frames of a segment from many clients, in as many batches as
// no branch predictor can learn.
func manyClients(tcp packettest.TCP) (frames [16 * batchSize][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range frames {
		tcp.Src.Addr[14], tcp.Src.Addr[15], tcp.Src.Port = byte(r.Uint32()), byte(r.Uint32()), uint16(1+i)
		if tcp.Seq = r.Uint32(); tcp.Flags == packet.ACK {
			tcp.Ack = r.Uint32()
		}
		frames[i] = tcp.Frame().Bytes()
	}
	return frames
}

// flooded has the worker handle b.N of the frames, in batches, if handle is set.
func (w *world) flooded(b *testing.B, frames [16 * batchSize][]byte, handle bool) {
	b.ReportAllocs()
	for n := 0; n < b.N; n += batchSize {
		for i := range batchSize {
			f := frames[(n+i)%len(frames)]
			addr, _ := w.umem.Alloc()
			copy(w.umem.Chunk(addr)[packettest.Headroom:], f)
			w.worker.descs[i] = xsk.Desc{Addr: addr + packettest.Headroom, Len: uint32(len(f))}
		}
		if !handle {
			for i := range batchSize {
				w.umem.Free(w.worker.descs[i].Addr)
			}
			continue
		}
		w.worker.batch(wan, batchSize)
		for _, d := range w.worker.out[wan] {
			w.umem.Free(d.Addr)
		}
		w.worker.out[wan] = w.worker.out[wan][:0]
	}
}
