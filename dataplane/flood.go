package dataplane

import (
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/synproxy"
)

// The short way of what floods are made of, in a view with guarded services: SYNs
// that are answered by a cookie, and segments of no connection that bring none. A batch's
// cookies are computed together, as its flows are hashed together. It does what answer
// and prove do, and TestShortWayOfAFlood has both do it; what is not plain goes the long
// way, with nothing changed.

// mostTold is how many of a batch's rejected segments are noted for whoever asks what became
// of one: the notes then reach back for some batches of a flood, and each costs 6 ns. Our choice.
const mostTold = 8

// A flood is what of one batch goes this way.
type flood struct {
	n       int // SYNs
	syns    [batchSize]packet.PlainSYN
	addrs   [batchSize]uint64   // of their frames
	to      [batchSize]*Service // that they are for
	made    synproxy.Batch      // of their cookies
	brought [2]doubts           // cookies that segments may bring, by their parity
	bad     uint64              // bit i: the i-th job is a segment without connection or cookie
	told    int                 // segments of this batch that were rejected and noted

	// The services that were looked up last, of either family.
	at   uint64
	svc  *Service
	at6  packet.Endpoint
	svc6 *Service
}

// doubts are cookies that may be good.
type doubts struct {
	synproxy.Batch
	cookies [synproxy.MaxBatch]uint32
	of      [synproxy.MaxBatch]uint8 // which job brings them
}

// forget makes f look services up anew, in another view.
func (f *flood) forget() { f.at, f.at6, f.svc, f.svc6 = 0, packet.Endpoint{}, nil, nil } // port 0 of nowhere

// tcpServiceTo returns the service that a packet with these ends is to, or nil if there is
// none of TCP.
func (w *Worker) tcpServiceTo(e *packet.Ends) *Service {
	if f := &w.flood; f.at == destination4(e) && !e.Is6() {
		return f.svc
	}
	return w.lookUpTCPService(e)
}

// destination4 returns address and port that a packet of IPv4 is to, as one number.
func destination4(e *packet.Ends) uint64 { return uint64(e.Dst4())<<32 | uint64(uint16(e.Ports)) }

// lookUpTCPService is tcpServiceTo where the last IPv4 destination does not tell.
func (w *Worker) lookUpTCPService(e *packet.Ends) *Service {
	f := &w.flood
	if e.Is6() && f.at6.Port == uint16(e.Ports) && f.at6.Addr == *e.Dst6() {
		return f.svc6
	}
	var flow packet.Flow
	e.SetFlow(&flow, packet.ProtoTCP)
	svc := w.view.service(packet.ProtoTCP, flow.Destination())
	if e.Is6() {
		f.at6, f.svc6 = flow.Destination(), svc
	} else {
		f.at, f.svc = destination4(e), svc
	}
	return svc
}

// meet puts aside the frame of size bytes at addr, if it is a plain SYN that is to be
// answered by a cookie, and reports whether it is.
func (w *Worker) meet(addr uint64, size uint32) bool {
	f := &w.flood
	i := f.n % batchSize
	s, frame := &f.syns[i], (*[packet.TaggedRoom]byte)(w.umem.From(addr, packet.TaggedRoom))
	if !s.Read((*[packet.PlainRoom]byte)(frame[:]), int(size)) && !s.ReadTagged(frame, int(size)) {
		return false
	}
	svc := w.tcpServiceTo(&s.Ends)
	if svc == nil || !svc.Guard.On() {
		return false
	}
	f.addrs[i], f.to[i] = addr, svc
	if s.Is6() {
		f.made.Set6(i, s.Src6(), s.Dst6(), s.Ports, s.ISN)
	} else {
		f.made.Set(i, s.Addrs, s.Ports, s.ISN)
	}
	f.n++
	return true
}

// answerAll answers the SYNs that came by a port and were put aside, and returns how
// many they were.
func (w *Worker) answerAll(port int) int {
	f := &w.flood
	n := f.n
	if n == 0 {
		return 0
	}
	w.cookies.Cover(&f.made, n, w.cookies.Current)
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
	f.n = 0
	return n
}

// doubt looks which of these jobs are plain segments that belong to no connection that was
// seen, and bring no good cookie.
func (w *Worker) doubt(order []uint8) {
	f := &w.flood
	all, odd := 0, 0 // cookies, and those of the odd parity: kept where no load has to wait for a store
	for _, i := range order {
		j := &w.jobs[i%batchSize]
		if !j.short || j.plain.Proto != packet.ProtoTCP || j.plain.Flags.Has(packet.SYN) {
			continue
		}
		if w.lookups.Hint(i) != 0 {
			continue
		}
		f.bad |= 1 << i
		seq, next, ack := j.plain.Numbers()
		parity := int(synproxy.Parity(ack - 1))
		k, n := all-odd, 1
		if parity != 0 {
			k = odd
		}
		if next == seq {
			n = 2 // it may also be a probe of the window, see proof
		}
		d := &f.brought[parity]
		d.SetPair(k, &j.plain.Ends, seq-1)
		d.cookies[k], d.cookies[k+1] = ack-1, ack-1
		d.of[k], d.of[k+1] = i, i
		all += n
		odd += n * parity
	}
	if f.bad == 0 {
		return
	}
	for parity, n := range [2]int{all - odd, odd} {
		d := &f.brought[parity]
		w.cookies.Cover(&d.Batch, n, uint32(parity))
		for k := range n {
			if d.Good(k, d.cookies[k]) {
				f.bad &^= 1 << d.of[k]
			}
		}
	}
}

// reject drops job i, which doubt has found bad, if it is of no connection that has been
// made since. It reports whether it has.
func (w *Worker) reject(i uint8) bool {
	j := &w.jobs[i%batchSize]
	svc := w.tcpServiceTo(&j.plain.Ends)
	if svc == nil || !svc.Guard.accepts.Load() || svc.SYNProxy.ResetBadACKs {
		return false
	}
	if (w.admitted || !w.lookups.Absent(int(i))) && !w.conns.Lacks(w.lookups.Key(i)) {
		return false
	}
	w.tally.of(svc)[GuardBad]++
	if f := &w.flood; f.told < mostTold {
		f.told++
		w.dropped.notePlain(&j.plain, packet.BadCookie, w.now)
	}
	w.dropFrame(j.addr, packet.BadCookie)
	return true
}

// rejectAll rejects what it can of a batch of bad jobs, and returns the rest.
func (w *Worker) rejectAll(order []uint8) (rest []uint8) {
	rest = order[:0]
	for _, i := range order {
		if !w.reject(i) {
			rest = append(rest, i)
		}
	}
	return rest
}
