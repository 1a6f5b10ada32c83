package dataplane

import (
	"math/bits"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
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
	descs := w.descs[:n]
	mayBeShort := !w.fullSums[port]
	w.from = port
	w.umem.Prefetch(descs[:min(conntrack.Ahead, n)])
	for i := 0; i < n; {
		end := min(i+conntrack.Ahead, n)
		w.umem.Prefetch(descs[end:min(end+conntrack.Ahead, n)]) // not for all at once: those of one size of frame share two sets of the cache
		from := packets
		for i < end {
			if mayBeShort {
				simple, outbound := w.readSimple4(i, end, packets, fromReals)
				i, packets, fromReals = i+simple, packets+simple, fromReals+outbound
			}
			if mayBeShort && i < end {
				simple, outbound := w.readSimple6(i, end, packets, fromReals)
				i, packets, fromReals = i+simple, packets+simple, fromReals+outbound
			}
			for another := true; another && i < end; { // what is not simple comes in floods
				j := &w.jobs[uint(packets)%batchSize]
				frames, isJob := w.readOther(j, descs[i:], packets, mayBeShort)
				if i += frames; isJob {
					fromReals += w.line(packets, fromReals, j.role)
					packets++
					another = !j.short || !j.plain.Simple()
				}
			}
		}
		w.conns.Hash(&w.lookups, from, packets)
	}
	bytes := uint64(0)
	for i := range descs {
		bytes += uint64(descs[i].Len)
	}
	w.counts.RxBytes += bytes
	return packets, fromReals
}

// readSimple4 is read for the frames from the i-th on and before end, as far as they are of
// IPv4 and of the simplest kind: it returns how many, and how many of those are from real servers. As
// it calls nothing, what it works with stays in registers.
//
//go:noinline
func (w *Worker) readSimple4(i, end, packets, fromReals int) (n, outbound int) {
	before, first := fromReals, i
	for i < end {
		f, j := &w.descs[uint(i)%batchSize], &w.jobs[uint(packets)%batchSize]
		p := &j.plain
		if f.Options&xsk.Continued != 0 || !p.ReadSimple4((*[packet.PlainRoom]byte)(w.umem.From(f.Addr, packet.PlainRoom)), int(f.Len)) {
			break
		}
		role := w.view.addrs.role4(p.Dst4())
		if role == foreign {
			break
		}
		j.addr, j.role, j.short = f.Addr, role, true
		w.lookups.SetPlain(packets, p, role == local)
		fromReals += w.line(packets, fromReals, role)
		packets++
		i++
	}
	return i - first, fromReals - before
}

// readSimple6 is readSimple4 for IPv6.
func (w *Worker) readSimple6(i, end, packets, fromReals int) (n, outbound int) {
	before, first := fromReals, i
	for i < end {
		f, j := &w.descs[uint(i)%batchSize], &w.jobs[uint(packets)%batchSize]
		p := &j.plain
		if f.Options&xsk.Continued != 0 || !p.ReadSimple6((*[packet.PlainRoom]byte)(w.umem.From(f.Addr, packet.PlainRoom)), int(f.Len)) {
			break
		}
		role := w.view.addrs.role(p.Dst6())
		if role == foreign {
			break
		}
		j.addr, j.role, j.short = f.Addr, role, true
		w.lookups.SetPlain6(packets, p, role == local)
		fromReals += w.line(packets, fromReals, role)
		packets++
		i++
	}
	return i - first, fromReals - before
}

// readOther is read for the first of some frames, whatever it is, and those that go with
// it. It returns how many these are, and whether they are a job, which is j then, the i-th.
func (w *Worker) readOther(j *job, d []xsk.Desc, i int, mayBeShort bool) (n int, isJob bool) {
	first := &d[0]
	j.addr = first.Addr
	whole := mayBeShort && first.Options&xsk.Continued == 0
	if w.view.guarded && whole && w.meet(first.Addr, first.Len) {
		return 1, false
	}
	if j.short = whole && w.glance(j, i, first.Len); j.short {
		return 1, true
	}
	n = w.take(j, d)
	w.lookups.SetKey(i, j.key)
	return n, true
}

// line puts the i-th job, behind so many from real servers, into the order in which jobs are
// carried, and returns how many more from real servers it is: by arithmetic, or it would be
// guessed.
func (w *Worker) line(i, fromReals int, to role) (fromReal int) {
	if to == local {
		fromReal = 1
	}
	w.order[0][uint(i-fromReals)%batchSize] = uint8(i)
	w.order[1][uint(fromReals)%batchSize] = uint8(i)
	return fromReal
}

// take classifies the packet that begins with d, for the long way, and returns how many
// descriptors it has.
func (w *Worker) take(j *job, d []xsk.Desc) (n int) {
	rest := 0
	for n = 1; d[n-1].Options&xsk.Continued != 0; n++ {
		rest += int(d[n].Len)
	}
	j.port, j.tail = w.from, d[1:n]
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
				if bad>>(i%batchSize)&1 != 0 && w.reject(i) || w.carryShort(j, i) || w.caught != nil && w.carryJoined(j, i) {
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
