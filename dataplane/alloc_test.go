package dataplane

import (
	"testing"
	"time"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// TestNoAllocation takes the worker along every path that a packet can bring it
// to, and counts the allocations of a whole round.
func TestNoAllocation(t *testing.T) {
	tests := []struct {
		name  string
		lines func(w *world) (port int, frames [][]byte)
	}{
		{"established", func(w *world) (int, [][]byte) {
			k := w.connect(client)
			return wan, [][]byte{k.fromClient(packet.ACK, "", "x").Bytes()}
		}},
		{"outbound", func(w *world) (int, [][]byte) {
			k := w.connect(client)
			return lan, [][]byte{k.fromReal(packet.ACK, "", "x").Bytes()}
		}},
		{"joined", func(w *world) (int, [][]byte) {
			k := w.guardedTalk()
			return wan, [][]byte{k.fromClient(packet.ACK, onlyStamps, "x").Bytes()}
		}},
		{"joined_outbound", func(w *world) (int, [][]byte) {
			k := w.guardedTalk()
			return lan, [][]byte{k.fromReal(packet.ACK, onlyStamps, "x").Bytes()}
		}},
		{"reused", func(w *world) (int, [][]byte) {
			k := w.connect(client)
			reset := k.fromClient(packet.RST, "", "").Bytes()
			k.seq = 1
			return wan, [][]byte{reset, k.fromClient(packet.SYN, synOptions, "").Bytes()}
		}},
		{"new_and_evicted", func(w *world) (int, [][]byte) {
			var syns [][]byte
			for i := range uint16(20) {
				syns = append(syns, (&talk{client: at(1 + i), virtual: vip}).fromClient(packet.SYN, synOptions, "").Bytes())
			}
			return wan, syns
		}},
		{"notice", func(w *world) (int, [][]byte) {
			var queries [][]byte
			for i := range uint16(20) {
				queries = append(queries, query(at(1+i), "?").Bytes())
			}
			return wan, queries
		}},
		{"notice_reply", func(w *world) (int, [][]byte) {
			notice, _ := w.ask(client)
			return lan, [][]byte{packettest.EchoReply(packettest.NewFrame(notice.Frame())).Bytes()}
		}},
		{"fragments", func(w *world) (int, [][]byte) {
			var all [][]byte
			for _, p := range fragments() {
				all = append(all, p.Bytes())
			}
			return wan, all
		}},
		{"reflected_in_vlans", func(w *world) (int, [][]byte) {
			w.worker.reflect = true
			k := w.connect(client)
			return wan, [][]byte{packettest.TCP{
				Link: packettest.Link{SrcMAC: clientMAC, VLAN: []uint16{6, 5}}, Src: client, Dst: vip,
				Flags: packet.ACK, Seq: k.seq, Ack: k.ack,
			}.Frame().Bytes()}
		}},
		{"dropped", func(w *world) (int, [][]byte) {
			return wan, [][]byte{make([]byte, 60), (&talk{client: client, virtual: vip}).fromClient(packet.ACK, "", "").Bytes()}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, tcpService+udpService, maxConnections(10), workers(2))
			w.engine.Steer([]*xsk.RSS{wan: nil, lan: fakeRSS(2)})
			port, frames := test.lines(w)
			rx := make([]xsk.Desc, 0, len(frames))
			round := func() {
				rx = rx[:0]
				for _, f := range frames {
					addr, _ := w.umem.Alloc()
					copy(w.umem.Chunk(addr)[packettest.Headroom:], f)
					rx = append(rx, xsk.Desc{Addr: addr + packettest.Headroom, Len: uint32(len(f))})
				}
				w.ports[port].received = rx
				w.clock = w.clock.Add(10 * time.Millisecond)
				w.worker.poll(w.clock)
			}
			for _, p := range w.ports {
				p.blind = true
			}
			round() // lets slices grow to their size
			if got := testing.AllocsPerRun(200, round); got != 0 {
				t.Errorf("got %v allocations a round, want 0", got)
			}
		})
	}
}

// guardedTalk returns a joined connection through a service that is guarded from now on, of
// which both ends have sent data.
func (w *world) guardedTalk() *talk {
	w.Helper()
	w.reload(guarded("") + udpService)
	k := w.joined(client, synOptions, synOptions)
	k.pass(lan, k.fromReal(packet.ACK, onlyStamps, "x"))
	k.realSeq, k.ack = k.realSeq+1, k.ack+1
	return k
}
