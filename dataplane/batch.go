package dataplane

import (
	"math/bits"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/prefetch"
)

// batch takes n frames that were received by a port through the passes that process.go
// describes. What comes from real servers is carried after the rest: where both directions
// come by one interface no processor can guess which the next packet is of. Packets of one
// flow stay in order, and no packet of a batch answers another.
func (w *Worker) batch(port, n int) {
	packets, fromReals := w.read(port, n)
	answered := w.answerAll(port)
	w.admitted, w.flood.told = false, 0
	w.conns.See(&w.lookups, packets)
	all, fromClients := w.order[0][:packets], w.order[0][:packets-fromReals]
	copy(all[len(fromClients):], w.order[1][:])
	if w.flood.bad = 0; w.view.guarded {
		w.doubt(fromClients)
	}
	if w.opening {
		w.prepare(fromClients)
	}
	if bad := w.flood.bad; bad != 0 && bits.OnesCount64(bad) == packets { // so none makes another a connection
		all = w.rejectAll(all)
	}
	w.carry(all)
	if n := w.openings.reserved; n > 0 {
		w.openings.reserved = 0
		w.conns.ReleaseAll(n)
	}
	packets += answered
	w.counts.RxPackets += uint64(packets)
	w.counts.BatchSizes[bits.Len(uint(packets-1))]++
}

// read is the first pass. It returns how many jobs there are, and how many of them are from
// real servers: order[0] has the others, and order[1] those. SYNs that are to be answered by a
// cookie are put aside.
func (w *Worker) read(port, n int) (packets, fromReals int) {
	asked, bytes := 0, uint64(0) // frames, and what was not counted of them yet
	mayBeShort, guarded := !w.fullSums[port], w.view.guarded
	for i := 0; i < n; {
		if asked < n && i+conntrack.Ahead > asked { // not for all at once: those of one size of frame share two sets of the cache
			asked += w.fetch(w.descs[asked:min(asked+conntrack.Ahead, n)])
		}
		j, d := &w.jobs[packets], &w.descs[i]
		j.addr, j.port = d.Addr, port
		whole := mayBeShort && d.Options&xsk.Continued == 0
		j.short = whole && w.glance(j, packets, d.Len)
		switch {
		case j.short:
			bytes += uint64(d.Len)
			i++
		case guarded && whole && w.meet(d.Addr, d.Len):
			bytes += uint64(d.Len)
			i++
			continue
		default:
			i += w.take(j, w.descs[i:n])
			w.lookups.SetKey(packets, j.key)
		}
		fromReal := 0 // by arithmetic, or it would be guessed here
		if j.role == local {
			fromReal = 1
		}
		w.order[0][uint(packets-fromReals)%batchSize] = uint8(packets)
		w.order[1][uint(fromReals)%batchSize] = uint8(packets)
		fromReals += fromReal
		if packets++; packets%conntrack.Ahead == 0 {
			w.conns.Hash(&w.lookups, packets-conntrack.Ahead, packets)
		}
	}
	w.conns.Hash(&w.lookups, packets-packets%conntrack.Ahead, packets)
	w.counts.RxBytes += bytes
	return packets, fromReals
}

// fetch begins to load so many frames' headers.
func (w *Worker) fetch(d []xsk.Desc) int {
	for i := range d {
		prefetch.Put(&w.lines, i, &w.umem.From(d[i].Addr, 1)[0])
	}
	w.lines.LoadFirst(len(d))
	return len(d)
}

// take classifies the packet that begins with d, for the long way, and returns how many
// descriptors it has.
func (w *Worker) take(j *job, d []xsk.Desc) (n int) {
	rest := 0
	for n = 1; d[n-1].Options&xsk.Continued != 0; n++ {
		rest += int(d[n].Len)
	}
	j.tail = d[1:n]
	w.counts.RxBytes += uint64(d[0].Len) + uint64(rest)
	w.classify(j, int(d[0].Len), rest)
	return n
}

// carry takes classified packets to their end, each by the short way or by the long one.
func (w *Worker) carry(order []uint8) {
	const ahead = conntrack.Ahead
	bad := w.flood.bad
	next := order[:min(ahead, len(order))]
	w.conns.Load(&w.lookups, next)
	for len(next) > 0 {
		now := next
		order = order[len(now):]
		next = order[:min(ahead, len(order))]
		w.conns.Load(&w.lookups, next)
		for _, i := range now {
			j := &w.jobs[i%batchSize]
			if j.short {
				if bad>>(i%batchSize)&1 != 0 && w.reject(i) || w.carryShort(j, i) {
					continue
				}
				w.lengthen(j, w.lookups.Key(i))
			} else if j.server != nil && w.shortSYN(j) {
				continue
			}
			why := w.process(j)
			if j.server != nil {
				w.forgo(j)
			}
			w.finish(j, why)
		}
	}
}
