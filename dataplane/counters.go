package dataplane

import (
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/packet"
)

// An Event is something countable that is neither a drop nor traffic. Its
// String is its label in metrics.
type Event uint8

const (
	ConnReused      Event = iota // connection begun anew by a SYN in its old place
	ConnEvicted                  // half-open connection removed at max_connections
	ConnExpired                  // connection removed because it was idle
	ConnClosed                   // connection ended because its real server is down or gone
	ResetSent                    // RST sent because an established connection expired or was closed
	TemplateCreated              // persistence template created
	ErrorPassed                  // ICMP error passed on to the end whose packet it is about
	ErrorSent                    // ICMP error of fnatd's own sent
	ReplyElsewhere               // reply that came by another worker than its client's packets
	NumEvents
)

var eventNames = [NumEvents]string{
	ConnReused: "conn_reused", ConnEvicted: "conn_evicted", ConnExpired: "conn_expired",
	ConnClosed: "conn_closed", ResetSent: "reset_sent", TemplateCreated: "template_created",
	ErrorPassed: "icmp_error_passed", ErrorSent: "icmp_error_sent",
	ReplyElsewhere: "reply_elsewhere",
}

func (e Event) String() string { return eventNames[e] }

// NumBatchSizes is the length of Counts.BatchSizes.
const NumBatchSizes = 7

// Counts are a worker's own counters, published once per batch.
type Counts struct {
	Drops              [packet.NumReasons]uint64
	Events             [NumEvents]uint64
	BatchSizes         [NumBatchSizes]uint64 // [i]: batches of more than 2^(i-1) and at most 2^i frames
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
	Sleeps             uint64 // times the worker waited in poll(2)
	Asleep             uint64 // nanoseconds it spent there
}

// Dropped returns the sum of all drops. What was consumed is not among them.
func (c *Counts) Dropped() (n uint64) {
	for why, drops := range c.Drops {
		if !packet.Reason(why).Consumed() {
			n += drops
		}
	}
	return n
}

// published is the copy of a worker's Counts that others read.
type published struct {
	drops                                                  [packet.NumReasons]atomic.Uint64
	events                                                 [NumEvents]atomic.Uint64
	batchSizes                                             [NumBatchSizes]atomic.Uint64
	rxPackets, rxBytes, txPackets, txBytes, sleeps, asleep atomic.Uint64
}

// store copies the counters that changed since last: a batch changes few.
func (p *published) store(c, last *Counts) {
	if *c == *last {
		return
	}
	storeChanged(p.drops[:], c.Drops[:], last.Drops[:])
	storeChanged(p.events[:], c.Events[:], last.Events[:])
	storeChanged(p.batchSizes[:], c.BatchSizes[:], last.BatchSizes[:])
	p.rxPackets.Store(c.RxPackets)
	p.rxBytes.Store(c.RxBytes)
	p.txPackets.Store(c.TxPackets)
	p.txBytes.Store(c.TxBytes)
	p.sleeps.Store(c.Sleeps)
	p.asleep.Store(c.Asleep)
	*last = *c
}

func storeChanged(to []atomic.Uint64, from, last []uint64) {
	for i, n := range from {
		if n != last[i] {
			to[i].Store(n)
		}
	}
}

func (p *published) load() (c Counts) {
	loadAll(c.Drops[:], p.drops[:])
	loadAll(c.Events[:], p.events[:])
	loadAll(c.BatchSizes[:], p.batchSizes[:])
	c.RxPackets, c.RxBytes = p.rxPackets.Load(), p.rxBytes.Load()
	c.TxPackets, c.TxBytes = p.txPackets.Load(), p.txBytes.Load()
	c.Sleeps, c.Asleep = p.sleeps.Load(), p.asleep.Load()
	return c
}

func loadAll(to []uint64, from []atomic.Uint64) {
	for i := range from {
		to[i] = from[i].Load()
	}
}
