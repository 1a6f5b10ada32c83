package dataplane

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/lb"
)

// A yard makes queues for engines, each worker's on a UMEM that it keeps.
type yard struct {
	testing.TB
	umems   []*xsk.UMEM
	sources []*source
}

// queues returns queues for so many workers: two of the first interface, which
// bring left frames each, and one of the second.
func (y *yard) queues(workers, left int) (all []Queue) {
	y.Helper()
	for i := range workers {
		if i == len(y.umems) {
			umem, err := xsk.NewUMEM(xsk.Config{Frames: 512})
			if err != nil {
				y.Fatal(err)
			}
			y.Cleanup(func() { umem.Close() })
			y.umems = append(y.umems, umem)
		}
		s := [3]*source{}
		for j := range s {
			s[j] = &source{umem: y.umems[i], rand: rand.New(rand.NewPCG(uint64(i), uint64(j)))}
		}
		s[0].left, s[1].left = left, left
		y.sources = append(y.sources, s[:]...)
		all = append(all, Queue{
			UMEM:  y.umems[i],
			Ports: [][]Port{{s[0], s[1]}, {s[2]}},
			Wait:  func(time.Duration) { time.Sleep(time.Millisecond) },
		})
	}
	return all
}

// TestReshape gives an engine one number of workers after another, while the
// configuration is reloaded all the time: no counter goes back, connections stay,
// and a reload never waits for a worker that does not run.
func TestReshape(t *testing.T) {
	w := newWorld(t, twoServers)
	conns := newConns(t, conntrack.Config{MaxConnections: 20_000})
	y := &yard{TB: t}
	tables := []*lb.Table{w.compile(twoServers, nil)}
	tables = append(tables, w.compile(tcpService, tables[0]))
	e, err := New(Config{
		Conns: conns, Router: lockedRouter{fakeRouter: w.router, mu: new(sync.Mutex)},
		Epoch: time.Now(), Queues: y.queues(1, 3000),
	}, tables[0])
	if err != nil {
		t.Fatal(err)
	}

	var ended atomic.Bool
	var reloading sync.WaitGroup
	reloading.Go(func() {
		for i := 0; !ended.Load(); i++ {
			if err := e.Apply(tables[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	meter := e.View().Services[0].Meter // of one worker; later ones share its cell
	received, metered := uint64(0), uint64(0)
	for _, workers := range []int{1, 3, 2, 0, 4} {
		e.Reshape(y.queues(workers, 3000))
		received += uint64(workers) * 2 * 3000
		var stop atomic.Bool
		var running sync.WaitGroup
		running.Go(func() { e.Run(&stop, func(_ int, run func()) { run() }) })
		for sum(e).RxPackets < received {
			time.Sleep(time.Millisecond)
		}
		stop.Store(true)
		running.Wait()

		if got := sum(e).RxPackets; got != received {
			t.Errorf("%d workers: got %d packets received, want %d", workers, got, received)
		}
		if got := meter.Read().InPackets; got < metered || workers > 0 && got == metered {
			t.Errorf("%d workers: meter stands at %d after %d", workers, got, metered)
		} else {
			metered = got
		}
		made, ended := meter.Read().Connections, sum(e).Events
		if got, want := conns.Stats().Connections, int(made-ended[ConnExpired]-ended[ConnEvicted]); got != want {
			t.Errorf("%d workers: %d connections are left, want %d", workers, got, want)
		}
		for i, umem := range y.umems {
			if c := umem.Census(); !c.Conserved() {
				t.Errorf("worker %d: frames: %+v", i, c)
			}
		}
	}
	ended.Store(true)
	reloading.Wait()
	if got := len(e.Workers()); got != 4 {
		t.Errorf("got %d workers in all, want 4", got)
	}
	if err := conns.Check(); err != nil {
		t.Error(err)
	}
}

// sum adds up what the engine's workers have received, and their events.
func sum(e *Engine) (all Counts) {
	for _, w := range e.Workers() {
		c := w.Counts()
		all.RxPackets += c.RxPackets
		for i, n := range c.Events {
			all.Events[i] += n
		}
	}
	return all
}

// TestEveryQueueIsServed has two workers serve an interface with three queues and
// one with two.
func TestEveryQueueIsServed(t *testing.T) {
	w := newWorld(t, tcpService, workers(2))
	third := &fakePort{umem: w.umem, room: -1}
	w.engine.Reshape([]Queue{
		{UMEM: w.umem, Ports: [][]Port{{w.ports[wan], third}, {w.ports[lan]}}},
		{UMEM: w.sides[1].umem, Ports: [][]Port{{w.sides[1].ports[wan]}, {w.sides[1].ports[lan]}}},
	})
	w.put(wan, make([]byte, 60)) // what does not matter is dropped
	third.received, w.ports[wan].received = w.ports[wan].received, nil
	before := w.counts()
	w.run()
	if got := sum(w.engine).RxPackets; got != 1 || w.counts() == before {
		t.Errorf("got %d packets from the third queue, want 1", got)
	}
	k := w.connect(client)
	k.pass(lan, k.fromReal(0x10, "", "x"))
	if len(third.done) != 0 {
		t.Error("sent by the third queue, want by the first")
	}
}
