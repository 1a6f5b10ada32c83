package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/synproxy"
)

// A GuardEvent is something countable that SYNPROXY does for a service. Its String
// is its label in metrics.
type GuardEvent uint8

// What a Guard counts. What the XDP program answers by itself is not among it.
const (
	GuardSYN         GuardEvent = iota // SYN to be answered by a cookie
	GuardCookie                        // SYN-ACK with a cookie sent
	GuardGood                          // segment with a good cookie
	GuardBad                           // segment of no connection without one
	GuardDeferred                      // good cookie, but the service waits for data
	GuardJoined                        // real server connected, and the two halves joined
	GuardRefused                       // real server refused
	GuardRetried                       // SYN to a real server repeated
	GuardSilent                        // real server given up, for it does not answer
	GuardMoved                         // and another one tried in its place
	GuardFailed                        // client reset, for no real server has answered
	GuardReplaced                      // old connection given up for the client's new one
	GuardMismatch                      // real server without the timestamps that its client was promised
	GuardOpened                        // handshake begun by a SYN that was forwarded
	GuardEstablished                   // and finished
	NumGuardEvents
)

var guardEventNames = [NumGuardEvents]string{
	GuardSYN: "syn", GuardCookie: "cookie_sent", GuardGood: "good_ack", GuardBad: "bad_ack", GuardDeferred: "deferred",
	GuardJoined: "joined", GuardRefused: "refused", GuardRetried: "syn_retried", GuardSilent: "silent", GuardMoved: "moved",
	GuardFailed: "failed", GuardReplaced: "replaced", GuardMismatch: "mismatch",
	GuardOpened: "opened", GuardEstablished: "established",
}

func (e GuardEvent) String() string { return guardEventNames[e] }

// GuardCounts are the counts of a Guard.
type GuardCounts [NumGuardEvents]uint64

// A Guard is a TCP service's SYNPROXY as it is now: kept over reloads, and the same
// for all workers. Workers read it and count; the control goroutine writes it, see
// Engine.Tend.
type Guard struct {
	on      atomic.Bool // SYNs are answered by cookies
	accepts atomic.Bool // cookies are accepted: also for a while after

	// offers are what SYN-ACKs say, by the parity of the epoch in which they were
	// sent. What an epoch offers does not change, so that a cookie tells what its
	// SYN-ACK has said; see synproxy.Offer.Pack.
	offers [2]atomic.Uint64

	cells  []guardCell // by worker
	number int         // among all that there have ever been

	// Of the control goroutine.
	lastOn time.Time
	mode   lb.Mode
	pace   pace
}

type guardCell struct {
	counters [NumGuardEvents]atomic.Uint64
	_        [128 - 8*NumGuardEvents]byte // whole cache lines: cells do not share one
}

func newGuard(number, workers int, initial synproxy.Offer) *Guard {
	g := &Guard{number: number, cells: make([]guardCell, max(workers, 1))}
	for i := range g.offers {
		g.offers[i].Store(initial.Pack())
	}
	return g
}

// On reports whether SYNs are answered by cookies now.
func (g *Guard) On() bool { return g.on.Load() }

// Offer returns what the SYN-ACKs of an epoch say to a client that offers
// everything.
func (g *Guard) Offer(parity uint32) synproxy.Offer {
	return synproxy.UnpackOffer(g.offers[parity].Load())
}

// Counts returns the sums over all workers.
func (g *Guard) Counts() (sum GuardCounts) {
	for i := range g.cells {
		for e := range sum {
			sum[e] += g.cells[i].counters[e].Load()
		}
	}
	return sum
}

// guardTally gathers one batch's counts by service, so that the shared ones are
// written once per service and batch.
type guardTally struct {
	rows    []guardRow // by Guard.number
	touched []*Guard
}

type guardRow struct {
	counts GuardCounts
	listed bool
}

// of returns the row of svc, for the caller to add to.
func (y *guardTally) of(svc *Service) *GuardCounts {
	g := svc.Guard
	if g.number >= len(y.rows) {
		y.rows = append(y.rows, make([]guardRow, g.number+1-len(y.rows))...)
	}
	row := &y.rows[g.number]
	if !row.listed {
		row.listed = true
		y.touched = append(y.touched, g)
	}
	return &row.counts
}

// publish empties the tally into the services' guards.
func (y *guardTally) publish(worker int) {
	for _, g := range y.touched {
		row := &y.rows[g.number]
		cell := &g.cells[worker%len(g.cells)]
		for e, n := range row.counts {
			if n != 0 {
				cell.counters[e].Add(n)
			}
		}
		*row = guardRow{}
	}
	y.touched = y.touched[:0]
}
