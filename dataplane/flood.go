package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/synproxy"
)

// The short way of what floods are made of, in a view with guarded services: SYNs
// that are answered by a cookie, and segments of no connection that bring none. A batch's
// cookies are computed together, as its flows are hashed together. It does what answer
// and prove do, and TestShortWayOfAFlood has both do it; what is not plain goes the long
// way, with nothing changed.

// A flood is what of one batch goes this way.
type flood struct {
	syns    [batchSize]packet.PlainSYN
	addrs   [batchSize]uint64   // of their frames
	to      [batchSize]*Service // that they are for
	made    synproxy.Batch      // of their cookies
	brought [2]doubts           // cookies that segments may bring, by their parity
	bad     uint64              // bit i: the i-th job is a segment without connection or cookie

	// The service that was looked up last, and in which view.
	view *View
	at   uint64
	svc  *Service
}

// doubts are cookies that may be good.
type doubts struct {
	synproxy.Batch
	cookies [synproxy.MaxBatch]uint32
	of      [synproxy.MaxBatch]uint8 // which job brings them
}

// guardedAt returns the service at the destination of addrs and ports, which are as a
// packet.Plain has them, or nil if there is none of TCP.
func (w *Worker) guardedAt(addrs uint64, ports uint32) *Service {
	f := &w.flood
	at := addrs<<32 | uint64(ports&0xffff)
	if f.at != at || f.view != w.view {
		f.view, f.at = w.view, at
		var flow packet.Flow
		flow.Set4(addrs, ports, packet.ProtoTCP)
		f.svc = w.view.service(packet.ProtoTCP, flow.Destination())
	}
	return f.svc
}

// meet puts aside the frame of size bytes at addr, if it is a plain SYN that is to be
// answered by a cookie, and reports whether it is.
func (w *Worker) meet(addr uint64, size uint32) bool {
	f := &w.flood
	i := f.made.Len() % batchSize
	s, room := &f.syns[i], w.umem.Chunk(addr)[w.umem.Offset(addr):]
	if len(room) < packet.SYNRoom || !s.Read((*[packet.SYNRoom]byte)(room), int(size)) {
		return false
	}
	svc := w.guardedAt(s.Addrs, s.Ports)
	if svc == nil || !svc.Guard.On() {
		return false
	}
	f.addrs[i], f.to[i] = addr, svc
	f.made.Add(s.Addrs, s.Ports, s.ISN)
	return true
}

// answerAll answers the SYNs that came by a port and were put aside, and returns how
// many they were.
func (w *Worker) answerAll(port int) int {
	f := &w.flood
	n := f.made.Len()
	if n == 0 {
		return 0
	}
	w.cookies.Cover(&f.made, w.cookies.Current)
	var svc *Service
	var offered, offer synproxy.Offer
	for i := range f.syns[:n] {
		s := &f.syns[i]
		if f.to[i] != svc {
			svc = f.to[i]
			offered = svc.Guard.Offer(w.cookies.Current)
		}
		tally := w.tally.of(svc)
		tally[GuardSYN]++
		tally[GuardCookie]++
		options := optionsOf(&s.Options)
		offered.AnswerIn(&offer, &options)
		cookie := w.cookies.CookieOf(&f.made, i, &options)
		w.say(&s.Options, &offer, s.Options.Val) // they have been read
		size := s.Answer(cookie, offer.Window, &s.Options)
		w.queue(port, xsk.Desc{Addr: f.addrs[i], Len: uint32(size)})
	}
	w.syns += n
	f.made.Clear()
	return n
}

// doubt looks which of these jobs are plain segments of IPv4 that belong to no connection that
// was seen, and bring no good cookie.
func (w *Worker) doubt(order []uint8) {
	f := &w.flood
	for _, i := range order {
		j := &w.jobs[i%batchSize]
		if !j.short || j.plain.Proto != packet.ProtoTCP || j.plain.Is6() {
			continue
		}
		if _, hint := w.lookups.At(int(i % batchSize)); hint != 0 {
			continue
		}
		f.bad |= 1 << i
		seq, next, ack := j.plain.Numbers()
		f.add(i, &j.plain, seq-1, ack-1)
		if next == seq { // it may be a probe of the window, see proof
			f.add(i, &j.plain, seq, ack-1)
		}
	}
	if f.bad == 0 {
		return
	}
	for parity := range f.brought {
		d := &f.brought[parity]
		w.cookies.Cover(&d.Batch, uint32(parity))
		for k := range d.Len() {
			if d.Good(k, d.cookies[k]) {
				f.bad &^= 1 << d.of[k]
			}
		}
		d.Clear()
	}
}

// add adds the cookie that job i may bring to a SYN with that number.
func (f *flood) add(i uint8, p *packet.Plain, isn, cookie uint32) {
	d := &f.brought[synproxy.Parity(cookie)]
	k := d.Len() % synproxy.MaxBatch
	d.cookies[k], d.of[k] = cookie, i
	d.Add(p.Addrs, p.Ports, isn)
}

// reject drops a job that doubt has found bad, if it is of no connection that has been
// made since. It reports whether it has.
func (w *Worker) reject(j *job, key conntrack.Key) bool {
	svc := w.guardedAt(j.plain.Addrs, j.plain.Ports)
	if svc == nil || !svc.Guard.accepts.Load() || svc.SYNProxy.ResetBadACKs || !w.conns.Lacks(key) {
		return false
	}
	w.tally.of(svc)[GuardBad]++
	w.dropped.notePlain(&j.plain, packet.BadCookie, w.now)
	w.dropFrame(j.addr, packet.BadCookie)
	return true
}
