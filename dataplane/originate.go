package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// An original is a packet of fnatd's own in the making: a frame taken from the
// free list, and where it will go.
type original struct {
	w     *Worker
	addr  uint64
	buf   []byte
	start int
	hop   *route.Hop
}

// originate takes a frame for a packet that leaves by hop, with as much headroom
// as a received one has. When there is none, that is counted and ok is false.
func (w *Worker) originate(hop *route.Hop) (o original, ok bool) {
	addr, ok := w.umem.Alloc()
	if !ok {
		w.counts.Drops[packet.NoFrame]++
		return original{}, false
	}
	return original{w, addr, w.umem.Chunk(addr), xsk.Headroom, hop}, true
}

// send queues the packet that now stands in o's buffer from start to end.
func (o original) send(end int) {
	start, _ := packet.ReplaceLink(o.buf, o.start, o.start+packet.EthernetLen, o.hop.Dst, o.hop.Src, &o.hop.VLANs)
	o.w.queue(o.hop.Port, xsk.Desc{Addr: o.addr + uint64(start), Len: uint32(end - start)})
}

// originateSegment sends a TCP segment of fnatd's own.
func (w *Worker) originateSegment(hop *route.Hop, s *packet.Segment) {
	if o, ok := w.originate(hop); ok {
		w.own.Build(o.buf, o.start, s)
		o.send(w.own.End)
	}
}

// sendResets ends both halves of connection c, which was established and is now
// forgotten: each end would otherwise find out only when it next sends. The
// numbers are the next that each end expects, so that RFC 5961 lets them pass.
func (w *Worker) sendResets(c *conntrack.Conn) {
	w.resetReal(c)
	if connecting(c) {
		w.resetClient(c, c.FirstData)
	} else {
		w.resetClient(c, c.RealSeq+c.AckDelta)
	}
}

// resetReal ends the real server's half.
func (w *Worker) resetReal(c *conntrack.Conn) {
	if hop, why := w.toReal(c); why == packet.Kept {
		w.sendReset(hop, &packet.Reset{
			Src: packet.Endpoint{Addr: w.conns.Local(c.Local).Addr, Port: c.LocalPort},
			Dst: w.conns.Binding(c.Binding()).Real,
			Seq: c.RealAck,
		})
	}
}

// resetClient ends the client's half; seq is the next number that it expects.
func (w *Worker) resetClient(c *conntrack.Conn, seq uint32) {
	if hop, why := w.toClient(c); why == packet.Kept {
		w.sendReset(hop, &packet.Reset{
			Src: w.conns.Binding(c.Binding()).Virtual,
			Dst: packet.Endpoint{Addr: c.Client, Port: c.ClientPort},
			Seq: seq,
		})
	}
}

func (w *Worker) sendReset(hop *route.Hop, r *packet.Reset) {
	if o, ok := w.originate(hop); ok {
		o.send(packet.BuildRST(o.buf, o.start, r))
		w.counts.Events[ResetSent]++
	}
}
