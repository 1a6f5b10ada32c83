package dataplane

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// BenchmarkGuard measures what one packet of a flood costs a worker, from the frame to
// the verdict, without rings: a SYN until its SYN-ACK is finished, a bad ACK until it
// is refused. "copy" is what laying the frame down costs, which is in the others.
func BenchmarkGuard(b *testing.B) {
	for _, f := range []struct {
		name    string
		virtual packet.Endpoint
		from    packet.Endpoint
	}{{"ipv4", vip, client}, {"ipv6", vip6, client6}} {
		w := newWorld(b, guarded("")+sixToFour.service("tcp", "none", "synproxy = { answer = \"userspace\" }"))
		w.worker.poll(w.clock)
		link := packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC}
		syn := packettest.TCP{Link: link, Src: f.from, Dst: f.virtual, Flags: packet.SYN, Options: []byte(synOptions)}
		ack := packettest.TCP{Link: link, Src: f.from, Dst: f.virtual, Flags: packet.ACK, Seq: 5, Ack: 7, Options: []byte(timestampsOf(synOptions))}
		data := ack
		data.Payload = []byte("x")
		var j job
		buf := w.umem.Chunk(0)
		run := func(name string, frame []byte, want packet.Reason, handle bool) {
			b.Run(f.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					copy(buf[packettest.Headroom:], frame)
					buf[packettest.Headroom+len(frame)-1] = byte(i)
					if !handle {
						continue
					}
					j.addr, j.port, j.tail = packettest.Headroom, wan, nil
					w.worker.look(&j, len(frame))
					if j.short {
						key, _ := w.worker.lookups.At(0)
						w.worker.lengthen(&j, key)
					}
					if got := w.worker.process(&j); got != want {
						b.Fatalf("got %v, want %v", got, want)
					}
				}
			})
		}
		run("copy", syn.Frame().Bytes(), 0, false)
		run("syn", syn.Frame().Bytes(), packet.Kept, true)
		run("bad_ack", ack.Frame().Bytes(), packet.BadCookie, true)
		run("bad_data", data.Frame().Bytes(), packet.BadCookie, true)
	}
}
