package dataplane

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
)

// A sticky port brings no frames, and holds its worker until stuck is closed. Each
// look at it takes time, for synctest's clock stands still while a worker spins.
type stickyPort struct {
	source
	stuck chan struct{} // nil: it never holds it
}

func (p *stickyPort) Recv([]xsk.Desc) int {
	if p.stuck != nil {
		<-p.stuck
	}
	time.Sleep(10 * time.Microsecond)
	return 0
}

// TestSilence has one worker nap and another hang, and both at rest for a while.
func TestSilence(t *testing.T) {
	w := newWorld(t, tcpService)
	table := w.compile(tcpService, nil)
	synctest.Test(t, func(t *testing.T) {
		conns := newConns(t, conntrack.Config{MaxConnections: 1000})
		queues := func(stuck ...chan struct{}) (all []Queue) {
			for _, s := range stuck {
				p := &stickyPort{source{umem: w.umem, rand: rand.New(rand.NewPCG(0, 0))}, s}
				all = append(all, Queue{UMEM: w.umem, Ports: [][]Port{{p}}, Wait: time.Sleep})
			}
			return all
		}
		stuck := make(chan struct{})
		e, err := New(Config{
			Conns: conns, Router: w.router, Epoch: time.Now(), Queues: queues(nil, stuck),
		}, table)
		if err != nil {
			t.Fatal(err)
		}
		// check compares how long each worker is silent with at least and at most.
		check := func(when string, want ...[2]time.Duration) {
			t.Helper()
			got := e.Silence()
			if !slices.EqualFunc(got, want, func(s time.Duration, want [2]time.Duration) bool { return want[0] <= s && s <= want[1] }) {
				t.Errorf("%s: silent for %v, want between %v", when, got, want)
			}
		}
		const ms = time.Millisecond
		lively, resting := [2]time.Duration{0, nap + 2*ms}, [2]time.Duration{}
		check("before the start", resting, resting)

		var stop atomic.Bool
		var running sync.WaitGroup
		run := func(start func(int, func())) { running.Go(func() { e.Run(&stop, start) }) }
		run(func(_ int, run func()) { run() })
		time.Sleep(time.Second)
		check("one hangs", lively, [2]time.Duration{998 * ms, 1000 * ms})
		time.Sleep(time.Minute)
		check("one hangs for long", lively, [2]time.Duration{60_998 * ms, 61_000 * ms})
		close(stuck)
		time.Sleep(time.Second)
		check("it goes on", lively, lively)

		stop.Store(true)
		running.Wait()
		time.Sleep(time.Hour)
		check("at rest", resting, resting)

		// The queues change: other workers begin, and their rest does not count. One
		// hangs before its first round, as in binding it to a core.
		e.Reshape(queues(nil, nil, nil))
		stop.Store(false)
		begin := make(chan struct{})
		run(func(i int, run func()) {
			if i == 2 {
				<-begin
			}
			run()
		})
		synctest.Wait()
		check("after an hour's rest", lively, lively, lively)
		time.Sleep(time.Second)
		check("one does not begin", lively, lively, [2]time.Duration{1000 * ms, 1000 * ms})
		close(begin)
		time.Sleep(time.Second)
		check("it has begun", lively, lively, lively)
		stop.Store(true)
		running.Wait()
	})
}
