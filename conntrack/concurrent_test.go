package conntrack

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// Several workers open, find, touch, close and expire connections of the same
// few clients, while others count and reconfigure. The bound must hold at every
// moment, and nothing may be lost or found twice at the end.
func TestWorkersTogether(t *testing.T) {
	const (
		bound   = 300
		workers = 4
		clients = 200
		rounds  = 20_000
	)
	tb := newTestTable(t, Config{MaxConnections: bound, Shards: 16})
	b := [2]BindingID{
		mustBind(t, tb, packet.ProtoTCP, virtual, real1),
		mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real1),
	}
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 2047), mustAddLocal(t, tb, "10.0.1.11", 1024, 2047)}

	var wg sync.WaitGroup
	var done atomic.Bool
	wg.Go(func() { // the control path
		counts, lines := newCounts(tb)
		for n := uint16(0); !done.Load(); n++ {
			tb.Stats()
			var set BindingSet
			set.Add(b[n%2])
			tb.Know(counts, lines, &set)
			extra, err := tb.Bind(Binding{packet.ProtoTCP, virtual, packet.Endpoint{Addr: real2.Addr, Port: n % 8}})
			if err != nil {
				t.Error(err)
			}
			tb.Unbind(extra)
			if _, err := tb.AddLocal(Local{tb.Local(l[0]).Addr, 1024, 2047 + n%2}); err != nil {
				t.Error(err)
			}
			tb.RemoveLocal(l[0])
		}
	})
	run := run{T: t, tb: tb, locals: l, bound: bound}
	var group sync.WaitGroup
	for id := range workers {
		group.Go(func() {
			w := worker{run: &run, Rand: rand.New(rand.NewPCG(uint64(id), 1))}
			for range rounds {
				w.step(b[w.IntN(2)], clientN(w.IntN(clients)), run.clock.Add(1))
			}
		})
	}
	group.Wait()
	done.Store(true)
	wg.Wait()

	st := tb.Stats()
	if got, want := int64(st.Connections), run.live.Load(); got != want {
		t.Errorf("%d connections are left, want %d", got, want)
	}
	if got := tb.used.Load(); got != int64(st.Connections) {
		t.Errorf("%d places are reserved for %d connections", got, st.Connections)
	}
	if run.evicted.Load() == 0 || run.expired.Load() == 0 || run.caught.Load() == 0 {
		t.Errorf("too little happened: %d evicted, %d expired, %d caught", run.evicted.Load(), run.expired.Load(), run.caught.Load())
	}
}

// A run is what the workers share.
type run struct {
	*testing.T
	tb     *Table
	locals []LocalID
	bound  int64
	clock  atomic.Uint32

	// live counts a connection from after its insertion to before its end, so it
	// is never above the true number.
	live             atomic.Int64
	evicted, expired atomic.Int64
	caught           atomic.Int64
}

type worker struct {
	*run
	*rand.Rand
	batch Batch
}

// step does what a packet of a client would.
func (w *worker) step(b BindingID, client packet.Endpoint, now uint32) {
	f := flow(packet.ProtoTCP, client, w.tb.Binding(b).Virtual)
	k := w.tb.InboundKey(&f)
	if w.IntN(16) == 0 {
		w.tb.Expire(k.Shard(), now, 4, func(*Shard, *Conn) uint32 {
			w.live.Add(-1)
			w.expired.Add(1)
			return 0
		})
	}
	p := plain(w.T, &f)
	w.batch.SetPlain(0, &p, false)
	lookAhead(w.tb, &w.batch, 1)
	hint := w.batch.Hint(0)
	if c, _ := catch(w.tb, hint, k, &p); c != nil {
		w.caught.Add(1)
		c.FirstData++ // the packet path's, which the race detector looks at
		moved := c.MoveOn([]State{c.State, FinWait, TimeWait}[w.IntN(3)], 3000, now)
		c.Release()
		if moved && w.IntN(4) > 0 {
			return
		}
	}
	s := w.tb.Lock(k)
	if c := s.Find(k, &f); c != nil {
		switch p := w.IntN(100); {
		case p < 50:
			s.SetState(c, Established, 3000, now)
		case p == 50:
			w.live.Add(-1)
			s.Remove(c)
		case p == 51:
			s.SetState(c, Closed, 10, now)
		default:
			s.Touch(c, 3000, now)
		}
		s.Unlock()
		return
	}
	s.Unlock()
	w.open(b, &f, k, now)
}

// open is Reserve and Insert with, in between, no lock held: another worker may
// have been faster.
func (w *worker) open(b BindingID, f *packet.Flow, k Key, now uint32) {
	_, evicted, ok := w.tb.Reserve()
	if evicted {
		w.live.Add(-1)
		w.evicted.Add(1)
	}
	if !ok {
		return
	}
	s := w.tb.Lock(k)
	defer s.Unlock()
	if s.Find(k, f) != nil {
		w.tb.Release()
		return
	}
	if _, why := s.Insert(k, f, b, w.locals, nil, now); why != packet.Kept {
		w.tb.Release()
		return
	}
	if n := w.live.Add(1); n > w.bound {
		w.Errorf("%d connections of %d", n, w.bound)
	}
}
