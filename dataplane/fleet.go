package dataplane

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fnatd/fnatd/dataplane/xsk"
)

// Which workers an Engine has, and what they serve. Reshape and Run are for one
// goroutine, as the former is for between two of the latter.

// Reshape gives the engine other queues, and with them another number of workers.
// None may run. Workers that are left over stay at rest, with their counters and
// their frames, until they are needed again; their sockets must be closed.
func (e *Engine) Reshape(queues []Queue) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := slices.Clone(e.Workers())
	for len(all) < len(queues) {
		all = append(all, newWorker(e, len(all)))
	}
	for i, q := range queues {
		all[i].assign(q, len(queues))
	}
	e.all.Store(&all)
	e.serving = len(queues)
	e.spread()
}

// Steer tells the engine how each interface spreads packets over its queues, with
// nil for those where that is not known. Connections that exist stay as they are.
func (e *Engine) Steer(nics []*xsk.RSS) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nics = nics
	e.spread()
}

// spread has new connections steered by what is known.
func (e *Engine) spread() {
	var spreads []*spread
	for _, r := range e.nics {
		spreads = append(spreads, newSpread(r, e.serving))
	}
	e.spreads.Store(&spreads)
}

// Workers returns all workers that there have been. The first ones serve queues,
// those that a Reshape has left over are at rest.
func (e *Engine) Workers() []*Worker { return *e.all.Load() }

// Run runs every worker that has queues, each through start, which gives it a
// thread, until stop is set; it returns when all have returned.
func (e *Engine) Run(stop *atomic.Bool, start func(worker int, run func())) {
	var done sync.WaitGroup
	for i, w := range e.Workers()[:e.serving] {
		w.round.Store(e.Now())
		w.running.Store(true) // from now on Apply waits for it
		done.Go(func() {
			defer w.running.Store(false)
			start(i, func() { w.Run(stop) })
		})
	}
	done.Wait()
}
