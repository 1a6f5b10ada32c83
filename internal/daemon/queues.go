package daemon

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
)

// A queue is what one worker owns: of W workers the i-th has the queues i, i+W,
// i+2W… of every port, so that each queue of each is served.
type queue struct {
	umem    *xsk.UMEM
	sockets [][]*xsk.Socket // by port
	budgets [][]*synBudget  // of the sockets
	cpu     int             // that the worker is bound to; -1 is any
}

// A fleet is the queues of all workers. It changes only while no worker runs.
type fleet struct {
	mu     sync.RWMutex // guards what follows, and that no socket is closed while others look at it
	counts []int        // by port: its queues that are served
	queues []queue      // by worker
	umems  []*xsk.UMEM  // by worker, also those that have no queues now
	past   map[spot]*xsk.Stats
}

// A spot is where a socket is, or was.
type spot struct{ port, queue int }

// workers returns how many workers serve ports with so many queues. Each needs a
// queue of every port, so the smallest number is the bound; limit, if it is not
// 0, is what the operator wants.
func workers(counts []int, limit int) int {
	n := slices.Min(counts)
	if limit > 0 {
		n = min(n, limit)
	}
	return n
}

// openQueues opens a socket on every queue of every port, for so many workers as
// there can be. If one cannot be opened, none is.
func (d *Daemon) openQueues(counts []int) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.closeQueues())
		}
	}()
	n := workers(counts, d.settings.Queues)
	cpus := d.placement(n)
	size, _ := frameSize(d.ports)
	for i := range n {
		if i == len(d.fleet.umems) {
			umem, err := xsk.NewUMEM(xsk.Config{Frames: d.settings.Frames, FrameSize: size, HugePages: true})
			if err != nil {
				return err
			}
			d.fleet.umems = append(d.fleet.umems, umem)
		}
		d.fleet.queues = append(d.fleet.queues, queue{
			umem: d.fleet.umems[i], cpu: cpus[i], sockets: make([][]*xsk.Socket, len(d.ports)), budgets: make([][]*synBudget, len(d.ports)),
		})
		for j := range d.ports {
			for q := i; q < counts[j]; q += n {
				if err := d.openSocket(&d.fleet.queues[i], j, q); err != nil {
					return tooLong(fmt.Errorf("interface %q: queue %d: %w", d.ports[j].name, q, err), d.ports)
				}
			}
		}
	}
	d.fleet.counts = counts
	return nil
}

// openSocket opens worker w's socket on a queue of port j.
func (d *Daemon) openSocket(w *queue, j, q int) error {
	p := &d.ports[j]
	_, multi := frameSize(d.ports)
	s, err := xsk.Open(w.umem, p.index, q, xsk.Options{
		Mode: bindMode(d.settings.Mode, p.xdp), BusyPoll: d.settings.BusyPoll, MultiBuffer: multi,
	})
	if err != nil {
		return err
	}
	return d.serveSocket(w, j, q, s)
}

// serveSocket has worker w serve a socket on a queue of port j.
func (d *Daemon) serveSocket(w *queue, j, q int, s *xsk.Socket) error {
	p := &d.ports[j]
	w.sockets[j] = append(w.sockets[j], s)
	if q == 0 {
		p.frames, p.since = s.Mode(), s.Reason()
	}
	budget := &synBudget{}
	w.budgets[j] = append(w.budgets[j], budget)
	if d.program == nil {
		return d.predecessor.SetSocket(p.index, q, s.FD())
	}
	return d.place(j, q, w, s, budget)
}

// place has this fnatd's own XDP program lead to a socket.
func (d *Daemon) place(j, q int, w *queue, s *xsk.Socket, budget *synBudget) error {
	of, err := d.program.SYNBudget(d.ports[j].index, q, w.umem.RingSize())
	if err != nil {
		return err
	}
	budget.of.Store(of)
	return d.program.SetSocket(d.ports[j].index, q, s.FD())
}

// A synBudget is that of a socket as its worker sees it: none is told of what the
// program of an earlier fnatd counts.
type synBudget struct{ of atomic.Pointer[bpf.SYNBudget] }

// Received implements dataplane.Budget.
func (b *synBudget) Received(n, syns int) {
	if of := b.of.Load(); of != nil {
		of.Received(n, syns)
	}
}

// closeQueues closes every socket, and keeps their counters and the UMEMs. A
// zero-copy socket takes its time, so workers' are closed side by side.
func (d *Daemon) closeQueues() error {
	f := &d.fleet
	errs := make([]error, len(f.queues))
	f.each(func(at spot, s *xsk.Socket) {
		st := f.stats(at, s)
		f.past[at] = &st
	})
	var closing sync.WaitGroup
	for i, w := range f.queues {
		closing.Go(func() {
			for _, s := range slices.Concat(w.sockets...) {
				errs[i] = errors.Join(errs[i], s.Close())
			}
		})
	}
	closing.Wait()
	f.queues, f.counts = nil, make([]int, len(d.ports))
	return errors.Join(errs...)
}

// takeDown closes everything.
func (d *Daemon) takeDown() error {
	d.fleet.mu.Lock()
	defer d.fleet.mu.Unlock()
	errs := []error{d.closeQueues()}
	for _, umem := range d.fleet.umems {
		errs = append(errs, umem.Close())
	}
	d.fleet.umems = nil
	return errors.Join(errs...)
}

// each calls do with every open socket.
func (f *fleet) each(do func(spot, *xsk.Socket)) {
	for i := range f.queues {
		f.eachOf(i, do)
	}
}

// eachOf calls do with every open socket of a worker.
func (f *fleet) eachOf(worker int, do func(spot, *xsk.Socket)) {
	for j, sockets := range f.queues[worker].sockets {
		for k, s := range sockets {
			do(spot{j, worker + k*len(f.queues)}, s)
		}
	}
}

// stats returns what a socket, and those before it at its spot, have counted.
func (f *fleet) stats(at spot, s *xsk.Socket) xsk.Stats {
	st := s.Stats()
	if past := f.past[at]; past != nil {
		st.Add(past)
	}
	return st
}

// total returns what all sockets have counted since the start.
func (f *fleet) total() (sum xsk.Stats) {
	for _, past := range f.past {
		sum.Add(past)
	}
	f.each(func(_ spot, s *xsk.Socket) {
		st := s.Stats()
		sum.Add(&st)
	})
	return sum
}

// forEngine returns the fleet as the packet path sees it.
func (f *fleet) forEngine() (all []dataplane.Queue) {
	for _, w := range f.queues {
		e := dataplane.Queue{UMEM: w.umem}
		for i, sockets := range w.sockets {
			var ports []dataplane.Port
			var budgets []dataplane.Budget
			for k, s := range sockets {
				ports = append(ports, s)
				budgets = append(budgets, w.budgets[i][k])
			}
			e.Ports, e.Budgets = append(e.Ports, ports), append(e.Budgets, budgets)
		}
		every := slices.Concat(w.sockets...)
		e.Wait = func(t time.Duration) { xsk.Wait(every, t) }
		all = append(all, e)
	}
	return all
}
