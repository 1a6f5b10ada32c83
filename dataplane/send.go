package dataplane

import (
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// Pass 4 of the way of a packet: what becomes of the frames.

// finish does with a packet what process has found: sends it, drops it, or leaves
// it where it is held.
func (w *Worker) finish(j *job, why packet.Reason) {
	switch {
	case why == packet.Held:
	case why != packet.Kept:
		w.drop(j, why)
	case j.p.IPLen() > j.mtu:
		w.sendPieces(j)
	default:
		w.send(j, j.addr, &j.p)
	}
}

// send queues a packet that begins in the frame at addr and goes on in j's tail.
func (w *Worker) send(j *job, addr uint64, p *packet.Packet) {
	head := xsk.Desc{
		Addr: addr - uint64(w.umem.Offset(addr)) + uint64(p.Start),
		Len:  uint32(p.End - p.Start),
	}
	if len(j.tail) > 0 {
		head.Options = xsk.Continued
	}
	w.queue(j.port, head)
	for _, d := range j.tail {
		w.queue(j.port, d)
	}
}

// sendPieces sends a packet that may be fragmented, and has to be. One in several
// frames is not cut.
func (w *Worker) sendPieces(j *job) {
	if len(j.tail) > 0 {
		w.drop(j, packet.TooBig)
		return
	}
	p, addr := &j.p, j.addr
	for i := 0; p.IPLen() > j.mtu; i++ {
		next, ok := w.umem.Alloc()
		if !ok {
			w.dropFrame(addr, packet.NoFrame)
			return
		}
		rest := &w.cuts[i%len(w.cuts)]
		if !p.Split(rest, w.umem.Chunk(next), xsk.Headroom, j.mtu) {
			w.umem.Free(next)
			w.dropFrame(addr, packet.TooBig)
			return
		}
		w.send(j, addr, p)
		p, addr = rest, next
	}
	w.send(j, addr, p)
}

// drop counts a packet that goes no further and gives its frames back.
func (w *Worker) drop(j *job, why packet.Reason) {
	w.freeTail(j)
	w.dropped.note(j, why, w.now)
	w.dropFrame(j.addr, why)
}

// freeTail gives back all frames of a packet but the first.
func (w *Worker) freeTail(j *job) {
	for _, d := range j.tail {
		w.umem.Free(d.Addr)
	}
	j.tail = nil
}

func (w *Worker) dropFrame(addr uint64, why packet.Reason) {
	w.counts.Drops[why]++
	w.umem.Free(addr)
}

// queue puts a finished frame in line for an interface.
func (w *Worker) queue(port int, d xsk.Desc) { w.out[port] = append(w.out[port], d) }

// transmit sends what the batch has queued. A ring that is full even after a
// kick has lost the race against the wire: the rest is dropped, not kept, since
// a late packet is worth less than the ones behind it.
func (w *Worker) transmit() {
	for i, line := range w.out {
		port := w.ports[i][0]
		if len(line) == 0 {
			port.Kick() // what an earlier kick had to leave
			continue
		}
		sent := port.Send(line)
		port.Kick()
		if sent < len(line) {
			port.Complete()
			sent += port.Send(line[sent:])
			port.Kick()
		}
		for _, d := range line[:sent] {
			w.counts.TxBytes += uint64(d.Len)
		}
		w.counts.TxPackets += packets(line[:sent])
		w.counts.Drops[packet.TxFull] += packets(line[sent:])
		for _, d := range line[sent:] {
			w.umem.Free(d.Addr)
		}
		w.out[i] = line[:0]
	}
}

// packets returns how many whole packets are in d.
func packets(d []xsk.Desc) (n uint64) {
	for i := range d {
		if d[i].Options&xsk.Continued == 0 {
			n++
		}
	}
	return n
}
