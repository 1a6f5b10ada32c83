package dataplane

import (
	"testing"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// BenchmarkWorker is what a packet costs from one ring to the other, both
// directions mixed, for each pair of IP versions; copying it into its frame is
// included. Compare the versions with each other in one run.
func BenchmarkWorker(b *testing.B) {
	for _, f := range allFamilies {
		b.Run(f.name, f.benchmark)
	}
}

func (f *families) benchmark(b *testing.B) {
	const flows = 1000
	w := newWorld(b, f.service("tcp", "toa", ""))
	w.vip = f.vip
	var frames [2 * flows][]byte
	for i := range uint16(flows) {
		k, _ := w.syn(packet.Endpoint{Addr: f.client.Addr, Port: 1 + i}, clientISN)
		k.synAck()
		k.pass(wan, k.fromClient(packet.ACK, "", ""))
		k.pass(lan, k.fromReal(packet.ACK, "", "x"))
		k.ack++
		frames[2*i] = k.fromClient(packet.ACK, "", "x").Bytes()
		frames[2*i+1] = k.fromReal(packet.ACK, "", "x").Bytes()
	}
	for _, p := range w.ports {
		p.blind = true
	}
	var rx [2][batchSize]xsk.Desc
	b.ResetTimer()
	for n := 0; n < b.N; n += 2 * batchSize {
		for port := range rx {
			for i := range rx[port] {
				f := frames[(n+2*i+port)%len(frames)]
				addr, _ := w.umem.Alloc()
				copy(w.umem.Chunk(addr)[packettest.Headroom:], f)
				rx[port][i] = xsk.Desc{Addr: addr + packettest.Headroom, Len: uint32(len(f))}
			}
			w.ports[port].received = rx[port][:]
		}
		w.worker.poll(w.clock)
	}
}
