package route

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
)

// Our choices.
const (
	// refreshEvery is how often the kernel hears that a neighbour is in use: it
	// sees none of our packets. It keeps a confirmed neighbour for 15 to 45 s
	// (RFC 4861, section 6.3.2, and the same for ARP) and probes a stale one 5 s
	// after it was used, so a working neighbour is never given up.
	refreshEvery = 10 * time.Second
	// settle is how long a change waits for those that come with it: setting a
	// link up makes a dozen events.
	settle = 2 * time.Millisecond
	// rest is the shortest time between two tables, in units of what the last one
	// took to make, so that a routing daemon with a full table cannot take more
	// than a tenth of a core.
	rest = 10
	// queued and breath bound what a flood towards unknown neighbours can make the
	// resolver do: so many wants are looked at, and then none for so long.
	queued = 256
	breath = time.Millisecond
	// askAgain is how often the kernel is asked for one neighbour that is not
	// known, and maxAsked for how many in that time: as many as the kernel keeps
	// unless told otherwise (gc_thresh3).
	askAgain = time.Second
	maxAsked = 1024
)

// A Resolver follows the kernel's view of the network in the namespace in which
// it was opened, and publishes it as Tables. Its methods may be called from any
// goroutine; Table, Want, Use and Reflect are for the hot path.
type Resolver struct {
	table     atomic.Pointer[Table]
	reflected *reflected
	used      [1 << 16 / 32]atomic.Uint32 // a bit for each HopID
	wants     chan packet.Addr

	log    *slog.Logger
	kernel *kernel
	events chan []event
	done   chan struct{}
	wait   sync.WaitGroup

	// Of the goroutine in run.
	refresh  time.Duration // refreshEvery, but in tests
	known    *snapshot
	stale    bool // known must be read anew
	asked    map[neighbourKey]struct{}
	askedAt  time.Time
	complain time.Time // when the next warning may be logged
}

// Open returns a Resolver for the named Ethernet interfaces, whose order numbers
// the ports. It works in the network namespace of the calling thread.
func Open(interfaces []string, log *slog.Logger) (*Resolver, error) {
	return open(interfaces, log, refreshEvery)
}

func open(interfaces []string, log *slog.Logger, refresh time.Duration) (*Resolver, error) {
	kernel, err := dial(interfaces)
	if err != nil {
		return nil, fmt.Errorf("route: netlink: %w", err)
	}
	r := &Resolver{
		reflected: newReflected(),
		wants:     make(chan packet.Addr, queued),
		log:       log,
		kernel:    kernel,
		events:    make(chan []event),
		done:      make(chan struct{}),
		refresh:   refresh,
		asked:     make(map[neighbourKey]struct{}),
	}
	if err := r.first(); err != nil {
		kernel.close()
		return nil, fmt.Errorf("route: %w", err)
	}
	r.wait.Go(r.receive)
	r.wait.Go(r.run)
	return r, nil
}

// first makes the first table, which must have all its interfaces.
func (r *Resolver) first() error {
	var err error
	if r.known, err = r.kernel.snapshot(); err != nil {
		return err
	}
	for _, l := range r.known.links {
		if l.index == 0 {
			err = errors.Join(err, fmt.Errorf("interface %q: no such interface", l.name))
		}
	}
	r.table.Store(build(r.known, nil, r.reflected))
	r.askGateways()
	return err
}

// Close ends the following. The last Table stays valid.
func (r *Resolver) Close() {
	close(r.done)
	r.kernel.events.Close()
	r.wait.Wait()
	r.kernel.close()
}

// Table returns the current table, never nil.
func (r *Resolver) Table() *Table { return r.table.Load() }

// Want asks for the neighbour that packets to dst need. It does not wait: if it is
// found, a later Table has it. When many are wanted at once some are forgotten;
// the next packet wants again.
func (r *Resolver) Want(dst packet.Addr) {
	select {
	case r.wants <- dst:
	default:
	}
}

// Use marks a hop as in use, so that its neighbour is kept fresh. To call it once
// a batch or once in some seconds is enough: every 10 s the marks are collected.
func (r *Resolver) Use(id HopID) {
	word, bit := &r.used[id/32], uint32(1)<<(id%32)
	if word.Load()&bit == 0 { // as a rule it is set: no write, no cache line moves
		word.Or(bit)
	}
}

// receive hands events from the kernel to run.
func (r *Resolver) receive() {
	for {
		events, err := r.kernel.receive()
		if err != nil {
			select {
			case <-r.done:
			default:
				r.log.Error("routes and neighbours are followed no longer", "error", err)
			}
			return
		}
		select {
		case r.events <- events:
		case <-r.done:
			return
		}
	}
}

// run keeps the table up to date.
func (r *Resolver) run() {
	refresh := time.NewTicker(r.refresh)
	defer refresh.Stop()
	publish := time.NewTimer(0)
	defer publish.Stop()
	armed := true          // publish will fire
	var earliest time.Time // of the next table
	// One of these is nil: after some wants there is a pause.
	wants, breathe := r.wants, (<-chan time.Time)(nil)
	for {
		changed := false
		select {
		case <-r.done:
			return
		case events := <-r.events:
			changed = r.apply(events)
		case dst := <-wants:
			r.want(dst)
			wants, breathe = nil, time.After(breath)
		case <-breathe:
			wants, breathe = r.wants, nil
		case <-refresh.C:
			r.refreshUsed()
		case <-publish.C:
			start := time.Now()
			changed, armed = !r.publish(), false // on failure once more
			earliest = start.Add(rest * time.Since(start))
		}
		if changed && !armed {
			publish.Reset(max(settle, time.Until(earliest)))
			armed = true
		}
	}
}

// apply takes over events and reports whether the table must change.
func (r *Resolver) apply(events []event) (changed bool) {
	for _, e := range events {
		if e.neighbour == nil {
			r.stale, changed = true, true
		} else if r.known.learn(e.neighbour, e.deleted) {
			changed = true
		}
	}
	return changed
}

// publish makes a new table. It reports false if that has to be tried again.
func (r *Resolver) publish() bool {
	old := r.table.Load()
	if !r.stale {
		r.table.Store(old.update(r.known))
		return true
	}
	if !r.read() {
		return false
	}
	t := build(r.known, old, r.reflected)
	r.table.Store(t)
	if t.generation != old.generation {
		r.log.Debug("routes changed", "generation", t.generation, "ranges", len(t.prefixes.starts))
		r.askGateways()
	}
	return true
}

// read reads the kernel's state into known. It reports false if it could not.
func (r *Resolver) read() bool {
	s, err := r.kernel.snapshot()
	if err != nil {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			r.warn("routes: cannot be read", "error", err)
		}
		return false
	}
	r.known, r.stale = s, false
	return true
}

// want asks the kernel for the neighbours on the way to dst and to whatever else
// is wanted by now.
func (r *Resolver) want(dst packet.Addr) {
	if now := time.Now(); now.Sub(r.askedAt) >= askAgain {
		r.askedAt = now
		clear(r.asked)
	}
	t := r.table.Load()
	for range queued {
		if k, ok := t.neighbour(dst); ok {
			r.askOnce(neighbourKey{t.links[k.link].index, k.addr})
		}
		select {
		case dst = <-r.wants:
		default:
			return
		}
	}
}

func (r *Resolver) askOnce(key neighbourKey) {
	if _, ok := r.asked[key]; !ok && len(r.asked) < maxAsked {
		r.asked[key] = struct{}{}
		r.ask(key)
	}
}

// refreshUsed tells the kernel of the neighbours that have been used since the
// last time, and of all gateways.
func (r *Resolver) refreshUsed() {
	t := r.table.Load()
	for i := range r.used {
		for word := r.used[i].Swap(0); word != 0; word &= word - 1 {
			id := i*32 + bits.TrailingZeros32(word)
			if id < len(t.keys) && t.keys[id].addr != (packet.Addr{}) {
				r.ask(neighbourKey{t.links[t.keys[id].link].index, t.keys[id].addr})
			}
		}
	}
	r.askGateways()
}

// askGateways keeps the gateways at hand, used or not: they are few, and the first
// packet of the day should find its way.
func (r *Resolver) askGateways() {
	t := r.table.Load()
	for _, id := range t.gateways {
		r.ask(neighbourKey{t.links[t.keys[id].link].index, t.keys[id].addr})
	}
}

// ask tells the kernel that a neighbour is in use.
func (r *Resolver) ask(key neighbourKey) {
	n, ok := r.known.neighbours[key]
	if n.static || key.index == 0 {
		return
	}
	err := r.kernel.use(key, !ok)
	switch {
	case err == nil, errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV):
	case errors.Is(err, unix.EEXIST):
		// The kernel is at it, or the operator has made a static one. Its event
		// is on the way.
	case errors.Is(err, unix.ENOBUFS):
		r.warn("neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3 or its ipv6 twin", "neighbour", key.addr)
	default:
		r.warn("neighbour cannot be resolved", "neighbour", key.addr, "error", err)
	}
}

// warn logs at most once a second: what goes wrong here goes wrong often.
func (r *Resolver) warn(msg string, args ...any) {
	if now := time.Now(); now.After(r.complain) {
		r.complain = now.Add(time.Second)
		r.log.Warn(msg, args...)
	}
}
