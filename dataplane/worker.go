// Package dataplane is the packet path: workers that take frames from AF_XDP
// rings, decide by services, connections and routes where they belong, rewrite
// them in place and send them on. It assembles nothing and reads no
// configuration; internal/daemon does.
package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/synproxy"
)

// Our choices for the loop.
const (
	batchSize   = conntrack.MaxBatch     // frames
	burst       = 4                      // full batches of a queue that are sent at once; see xsk/ARCHITECTURE.md
	spin        = 100 * time.Microsecond // after the last packet, before waiting in poll(2)
	nap         = 50 * time.Millisecond  // longest wait, so that timers and orders are served
	heldNap     = time.Millisecond       // while segments are held
	sweepPeriod = 128                    // ms in which every shard is visited once by its owner
	sweepLimit  = 1024                   // connections expired per visit; the rest wait for the next

	// isnShift makes the clock of initial sequence numbers tick every 64 ns:
	// ahead of a connection that sends 15 MB/s, and round in 274 s, well over
	// the 60 s that a real server keeps TIME_WAIT.
	isnShift = 6
)

// A Port is one queue of one interface, as a worker uses it: a *xsk.Socket, or
// a fake ring in tests. Frames that Recv hands out belong to the worker until
// Send takes them. Both move whole packets, which may be in several descriptors.
type Port interface {
	Recv([]xsk.Desc) int
	Refill()
	Send([]xsk.Desc) int
	Kick()
	Complete() int
}

// A Worker serves its queues of every interface. It owns its frames and
// counters; the connection table it shares with all other workers. Only Run's
// goroutine may call anything but Counts and Census.
type Worker struct {
	index  int
	shared *Engine // the view in force, and what workers have in common
	conns  *conntrack.Table
	router Router

	// What it serves. These change only while it is at rest, see assign.
	of      int // workers that serve, of which it is one
	umem    *xsk.UMEM
	ports   [][]Port            // by interface: its queues there; the first one also sends
	wait    func(time.Duration) // until a frame comes or the time is over
	budgets [][]Budget          // of the ports, or nil
	home    uint8               // its mark in a connection's Flags

	reflect  bool
	fullSums []bool // by port, see Config.FullChecksums
	busyPoll bool
	isnKey   siphash.Key

	// What one batch works with. view and hops change only between rounds, so
	// that no packet meets two of them; but for hops where a packet would be dropped.
	view           *View
	hops           *route.Table
	now            uint32 // ms since the table's epoch
	isnClock       uint32 // 64 ns units, see isnShift
	timestampClock uint32 // ms, no slower than any client's clock (RFC 7323, section 5.4)
	cookies        *synproxy.Keys
	cookieClock    uint32 // of the timestamps in SYN-ACKs, see Engine.cookieClock
	from           int    // port by which the batch came
	descs          [batchSize]xsk.Desc
	jobs           [batchSize]job
	lookups        conntrack.Batch
	order          [2][batchSize]uint8 // in which jobs are carried; see batch
	opening        bool                // there are SYNs among jobs that may go the short way
	late           job                 // for fragments that have waited
	cuts           [2]packet.Packet    // for packets that are cut into pieces
	out            [][]xsk.Desc        // by interface: rewritten frames that wait for the end of the batch
	option         [packet.MaxAddressOption]byte
	views          [][]byte // see tail
	sight          sight
	aiming         conntrack.Aim // by sight; made once

	flood    flood
	inbox    inbox
	errors   uint32    // ICMP errors that may be sent now; see mayReport
	errorsAt uint32    // as of when
	waiting  []waiting // early fragments
	dropped  lastDrops
	held     []held          // segments whose real server is being connected
	kept     []held          // room for them, see releaseHeld
	ready    []conntrack.Key // flows of those that need not wait any longer
	decided  uint64          // Engine.decided, as of which held was looked through
	syns     int             // to guarded services, in this batch
	admitted bool            // a connection, in this batch
	own      packet.Packet   // that originateSegment makes
	tally    guardTally
	usedHops [1 << 16]byte // by HopID: 1, since reportHops
	realHops realHops
	ledger   ledger
	counts   Counts
	last     Counts // as last published
	shown    published
	shownAt  uint32 // when they were last published
	running  atomic.Bool
	round    atomic.Uint32 // now, as of the last round; see Engine.Silence
	seen     atomic.Uint64 // generation of the view that the current batch uses

	swept     uint32 // when the sweep was last advanced
	nextShard int    // that the sweep visits next
	reported  uint32 // when hops were last reported
	onDue     func(*conntrack.Shard, *conntrack.Conn) uint32

	openings openings        // of this batch
	caught   *conntrack.Conn // joined, and latched, or nil; see decline
}

// newWorker returns a worker at rest, with nothing to serve.
func newWorker(e *Engine, index int) *Worker {
	w := &Worker{
		index: index, shared: e, home: home(index),
		conns: e.cfg.Conns, router: e.cfg.Router,
		reflect: e.cfg.ReflectClientMAC, busyPoll: e.cfg.BusyPoll, isnKey: e.cfg.ISNKey,
		swept: e.millis(time.Now()), errors: errorBurst,
	}
	w.onDue = w.due
	w.aiming = conntrack.Aim{Class: index, Hits: w.sight.hits}
	return w
}

// assign gives a worker at rest its queues, as one of so many workers.
func (w *Worker) assign(q Queue, of int) {
	w.inbox.ask(func() {
		w.of = of
		w.umem, w.ports, w.wait, w.budgets = q.UMEM, q.Ports, q.Wait, q.Budgets
		w.out = make([][]xsk.Desc, len(q.Ports))
		w.fullSums = make([]bool, len(q.Ports))
		copy(w.fullSums, w.shared.cfg.FullChecksums)
		w.nextShard = w.index
	})
}

// Counts returns the worker's counters as of its last batch. Any goroutine may
// call it.
func (w *Worker) Counts() Counts { return w.shown.load() }

// Run serves the worker's ports until stop is set. It spins while packets come
// and for a while after the last one, unless Crowd forbids that, then waits for the next
// in poll(2); with busy polling it never waits.
func (w *Worker) Run(stop *atomic.Bool) {
	w.inbox.open()
	defer w.inbox.shut()
	defer w.publish(0)
	defer w.dropWaiting()
	defer w.dropAllHeld()
	last := time.Now()
	for !stop.Load() {
		w.inbox.serve()
		now := time.Now()
		if w.poll(now) > 0 {
			last = now
			continue
		}
		if w.busyPoll || now.Sub(last) < spin && !w.shared.crowded.Load() {
			continue
		}
		w.wait(w.nap())
		w.counts.Sleeps++
		w.counts.Asleep += uint64(time.Since(now))
	}
}

// nap returns how long an idle worker may wait: not long while it holds frames, which
// another worker may have made ready to go.
func (w *Worker) nap() time.Duration {
	if len(w.held) > 0 {
		return heldNap
	}
	return nap
}

// poll serves each queue once and then the timers, and returns how much there was
// to do: frames, and a slice of what is to be closed.
func (w *Worker) poll(now time.Time) int {
	if v := w.shared.view.Load(); v != w.view {
		w.publish(0) // what was counted of the old view's bindings
		w.view = v
		w.flood.forget()
		w.ledger.fit(len(v.targets))
		w.seen.Store(v.generation)
	}
	w.hops = w.router.Table()
	if ms := w.shared.millis(now); ms != w.now { // or under load each round would cost a barrier
		w.now = ms
		w.round.Store(ms)
	}
	w.isnClock = uint32(now.UnixNano() >> isnShift)
	w.timestampClock = uint32(now.UnixMilli())
	w.cookies = w.shared.cookies.Load()
	w.cookieClock = w.shared.cookieClock(now)

	work := 0
	for i, queues := range w.ports {
		for k := range queues {
			work += w.serve(i, k)
		}
	}
	if len(w.waiting) > 0 {
		w.releaseWaiting()
	}
	w.sweep()
	if w.closeSome() {
		work++
	}
	if len(w.held) > 0 {
		w.releaseHeld()
	}
	w.transmit()
	w.publish(work)
	return work
}

// serve carries what waits at a queue, at most burst batches, and sends it with one kick. It
// returns how many frames there were.
func (w *Worker) serve(i, k int) (frames int) {
	port := w.ports[i][k]
	port.Complete()
	for n := batchSize; n == batchSize && frames < burst*batchSize; frames += n {
		if n, w.syns = port.Recv(w.descs[:]), 0; n > 0 {
			w.batch(i, n)
		}
		if w.budgets != nil && w.view.guarded {
			w.budgets[i][k].Received(n, w.syns)
		}
	}
	port.Refill()
	if frames > 0 {
		w.transmit()
	}
	return frames
}

// publish lets others see what was counted. A worker that gets a batch's worth of
// frames does so once a millisecond, since to add to counters that others read
// costs as much as to look up a connection.
func (w *Worker) publish(frames int) {
	if w.view == nil || frames >= batchSize && w.now == w.shownAt {
		return
	}
	w.shownAt = w.now
	w.ledger.publish(w.index, w.view.targets)
	w.tally.publish(w.index)
	w.shown.store(&w.counts, &w.last)
}

// tail returns what is in the frames of j behind the first.
func (w *Worker) tail(j *job) [][]byte {
	w.views = w.views[:0]
	for _, d := range j.tail {
		off := w.umem.Offset(d.Addr)
		w.views = append(w.views, w.umem.Chunk(d.Addr)[off:off+int(d.Len)])
	}
	return w.views
}

// sweep advances the timers of the shards that this worker owns, each about
// once per sweepPeriod, a few at a time.
func (w *Worker) sweep() {
	workers, shards := w.of, w.conns.Shards()
	owned := uint32((shards - w.index + workers - 1) / workers)
	due := min((w.now-w.swept)*owned/sweepPeriod, owned)
	if due == 0 {
		return
	}
	w.swept = w.now
	for range due {
		if w.nextShard >= shards {
			w.nextShard = w.index
		}
		w.conns.Expire(w.nextShard, w.now, sweepLimit, w.onDue)
		w.nextShard += workers
	}
	if w.now-w.reported >= 1000 {
		w.reported = w.now
		w.reportHops()
	}
}

// due handles a connection whose time has come: it returns the milliseconds
// after which to look again, or 0 to have it removed.
func (w *Worker) due(s *conntrack.Shard, c *conntrack.Conn) uint32 {
	if c.State == conntrack.Template {
		return 0
	}
	left := int32(c.Deadline - w.now)
	if left > 0 { // the alarm, not the deadline
		w.noticeDue(s, c)
		return uint32(left)
	}
	switch {
	case connecting(c):
		return w.retry(s, c)
	case c.State == conntrack.Established:
		w.sendResets(c)
	}
	w.ended(c)
	w.counts.Events[ConnExpired]++
	return 0
}
