package dataplane

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/lb"
)

// A source is a port that makes its own frames: clients' segments at random,
// and nobody cares what leaves.
type source struct {
	umem *xsk.UMEM
	rand *rand.Rand
	left int
	done []uint64
}

func (p *source) Recv(d []xsk.Desc) (n int) {
	flags := []packet.TCPFlags{packet.SYN, packet.SYN, packet.ACK, packet.FIN | packet.ACK, packet.RST}
	for n < len(d) && p.left > 0 {
		addr, ok := p.umem.Alloc()
		if !ok {
			break
		}
		k := talk{client: at(uint16(p.rand.IntN(5000))), virtual: vip, seq: p.rand.Uint32()}
		f := k.fromClient(flags[p.rand.IntN(len(flags))], "", "").Bytes()
		copy(p.umem.Chunk(addr)[packettest.Headroom:], f)
		d[n] = xsk.Desc{Addr: addr + packettest.Headroom, Len: uint32(len(f))}
		n++
		p.left--
	}
	return n
}

func (p *source) Refill() {}
func (p *source) Kick()   {}

func (p *source) Send(d []xsk.Desc) int {
	for _, d := range d {
		p.done = append(p.done, d.Addr)
	}
	return len(d)
}

func (p *source) Complete() int {
	n := len(p.done)
	for _, addr := range p.done {
		p.umem.Free(addr)
	}
	p.done = p.done[:0]
	return n
}

// TestWorkersShareATable has three workers serve the same clients while the
// configuration is reloaded again and again. It is for the race detector, and
// checks that what they share adds up in the end.
func TestWorkersShareATable(t *testing.T) {
	w := newWorld(t, twoServers)
	conns := newConns(t, conntrack.Config{MaxConnections: 1000})
	cfg := Config{Conns: conns, Router: lockedRouter{fakeRouter: w.router, mu: new(sync.Mutex)}, Epoch: time.Now()}
	for i := range 3 {
		umem, err := xsk.NewUMEM(xsk.Config{Frames: 512})
		if err != nil {
			t.Fatal(err)
		}
		defer umem.Close()
		ports := [][]Port{
			{&source{umem: umem, rand: rand.New(rand.NewPCG(uint64(i), 1)), left: 20_000}},
			{&source{umem: umem}},
		}
		cfg.Queues = append(cfg.Queues, Queue{UMEM: umem, Ports: ports, Wait: func(time.Duration) { time.Sleep(time.Millisecond) }})
	}
	tables := []*lb.Table{w.compile(twoServers, nil)}
	tables = append(tables, w.compile(tcpService, tables[0]))
	e, err := New(cfg, tables[0])
	if err != nil {
		t.Fatal(err)
	}

	var stop atomic.Bool
	var running sync.WaitGroup
	running.Go(func() { e.Run(&stop, func(_ int, run func()) { run() }) })
	for i := 0; ; i++ {
		if err := e.Apply(tables[i%2]); err != nil {
			t.Error(err)
		}
		received := uint64(0)
		for _, w := range e.Workers() {
			received += w.Counts().RxPackets
			if c := w.Census(); !c.Conserved() {
				t.Errorf("frames: got %+v, want each in one place", c)
			}
		}
		if received == 3*20_000 {
			break
		}
	}
	stop.Store(true)
	running.Wait()

	if err := conns.Check(); err != nil {
		t.Error(err)
	}
	st := conns.Stats()
	if st.Connections > 1000 {
		t.Errorf("connections: got %d, want at most 1000", st.Connections)
	}
	total := 0
	for _, s := range tables[0].Services[0].Servers {
		total += s.Load.Total()
	}
	if total != st.Connections {
		t.Errorf("loads: got %d connections in sum, want the table's %d", total, st.Connections)
	}
}

// A lockedRouter is a fakeRouter for several workers.
type lockedRouter struct {
	*fakeRouter
	mu *sync.Mutex
}

func (r lockedRouter) Want(a packet.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fakeRouter.Want(a)
}

func (r lockedRouter) Use(id route.HopID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fakeRouter.Use(id)
}
