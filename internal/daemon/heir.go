package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/internal/unit"
	"github.com/fnatd/fnatd/lb"
)

// An heir is a fnatd that another one, the owner, has started to take its place; see
// message for what they say. Until the owner is done nothing on the interfaces is the
// heir's to take off, whatever becomes of it. The nil *heir is a fnatd that has begun
// by itself.
type heir struct {
	wire    *wire
	will    *will
	fds     []int // that came with the will
	pinLock *os.File
	settled atomic.Bool // the owner is done
	garbage int         // percent that collections are to begin at when the connections are read
}

// How long an heir waits for the owner. That one has its own, shorter ones.
const ownerTime = 2 * time.Minute

// meetOwner says hello to the fnatd that has started this one, and hears its will; it
// returns nil if none has.
func meetOwner(o Options) (*heir, error) {
	if o.Heir == nil {
		return nil, nil
	}
	w, err := openWire(o.Heir)
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	h := &heir{wire: w}
	if err := w.send(&message{Kind: kindHello, Hello: &hello{Version: o.Version, PID: os.Getpid()}}); err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	m, fds, err := w.receive(kindWill, ownerTime)
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	h.will, h.fds = m.Will, fds
	want := 3
	for _, more := range []bool{h.will != nil && h.will.Pinned, h.will != nil && h.will.Metrics} {
		if more {
			want++
		}
	}
	if h.will == nil || len(h.fds) != want {
		return nil, errors.New("upgrade: the running fnatd's will is not whole")
	}
	return h, nil
}

// giveUp tells the owner why this fnatd ends, if it does before the owner is done.
func (h *heir) giveUp(err error) error {
	if h == nil || h.settled.Load() || err == nil {
		return err
	}
	_ = h.wire.send(&message{Kind: kindFailed, Error: err.Error()}) // else it sees the end
	return err
}

// owns reports whether what is on the interfaces is this fnatd's.
func (h *heir) owns() bool { return h == nil || h.settled.Load() }

// listen goes on with the owner's control socket and metrics, and has its state at hand.
func (h *heir) listen(d *Daemon, undo *cleanup) (err error) {
	if err := h.will.check(d.cfg); err != nil {
		return err
	}
	next := func(name string) *os.File {
		fd := h.fds[0]
		h.fds = h.fds[1:]
		return os.NewFile(uintptr(fd), name)
	}
	if d.state, err = state.Inherit(next("state"), d.cfg.Daemon.State); err != nil {
		return cannotInherit(err)
	}
	undo.add(d.state.Close)
	d.lock = next("lock")
	undo.add(d.lock.Close)
	if d.control, err = ctl.Inherit(next("control socket")); err != nil {
		return err
	}
	undo.add(d.control.Close)
	if h.will.Pinned {
		h.pinLock = next(pinDir()) // whose name is where the pins are
	}
	if h.will.Metrics {
		f := next("metrics")
		defer f.Close() // FileListener duplicates it
		if d.metrics, err = net.FileListener(f); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

// cannotInherit says what to do about a state that this fnatd cannot go on with.
func cannotInherit(err error) error {
	return fmt.Errorf("state: %w: stop the old one and start this one, whose table will be empty", err)
}

// inherit makes ready all that can be made beforehand, and then has the owner stop and
// goes on with its state, frames and sockets. From the owner's stop until workers run
// packets wait in the rings.
func (h *heir) inherit(d *Daemon, table *lb.Table, counts []int) error {
	if err := h.checkPorts(d.ports, counts); err != nil {
		return err
	}
	for i := range d.ports {
		p, was := &d.ports[i], &h.will.Ports[i]
		p.xdp, p.reason, p.frames, p.since = was.XDP, was.Reason, was.Frames, was.Since
		p.sends = bpf.Sends(p.index, p.xdp)
	}
	d.meet(&lb.Table{}, table)
	d.state.Touch()
	h.rehearse(d)
	if err := h.wire.send(&message{Kind: kindReady}); err != nil {
		return err
	}
	m, fds, err := h.wire.receive(kindEstate, ownerTime)
	if err != nil {
		return err
	}
	if m.Estate == nil {
		return errors.New("an empty estate")
	}
	want := 0
	for i := range m.Estate.Workers {
		want += m.Estate.Workers[i].files()
	}
	if len(fds) != want {
		return fmt.Errorf("%d descriptors have come, want %d", len(fds), want)
	}
	began := time.Now()
	d.legacy.began = began
	if d.conns, err = conntrack.Open(d.state.Table()); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	d.readNotes(d.state)
	d.legacy.table = d.conns
	return d.inheritQueues(m.Estate.Workers, fds, counts)
}

// Our choice: what a start with a table of the usual size allocates, and some more.
const heapAhead = 16 << 20 // bytes

// rehearse does beforehand, for nothing, what is slow only the first time: the notes are
// read, whatever they say now, and the heap is given the pages that it will need. No
// garbage is collected from here on until the connections are read; see serve.
func (h *heir) rehearse(d *Daemon) {
	if b, _ := d.state.Notes(); b != nil {
		_ = json.Unmarshal(b, new(notes))
	}
	ahead := make([]byte, heapAhead)
	for at := 0; at < len(ahead); at += os.Getpagesize() {
		ahead[at] = 1
	}
	runtime.KeepAlive(ahead)
	ahead = nil
	runtime.GC()
	h.garbage = debug.SetGCPercent(-1)
}

// checkPorts refuses what the owner's frames and sockets do not fit.
func (h *heir) checkPorts(ports []port, counts []int) error {
	if len(ports) != len(h.will.Ports) {
		return fmt.Errorf("%d interfaces, the running fnatd has %d", len(ports), len(h.will.Ports))
	}
	for i, p := range ports {
		was := &h.will.Ports[i]
		if p.name != was.Name || p.mtu != was.MTU || counts[i] != was.Queues {
			return fmt.Errorf("interface %q with MTU %d and %d queues, the running fnatd has %q with MTU %d and %d: restart fnatd",
				p.name, p.mtu, counts[i], was.Name, was.MTU, was.Queues)
		}
	}
	return nil
}

// inheritQueues goes on with the workers' frames and sockets.
func (d *Daemon) inheritQueues(workers []workerEstate, fds, counts []int) error {
	cpus := d.placement(len(workers))
	for i := range workers {
		n := workers[i].files()
		umem, sockets, err := xsk.Inherit(workers[i].UMEM, fds[:n])
		fds = fds[n:]
		if err != nil {
			return fmt.Errorf("worker %d: %w", i, err)
		}
		d.fleet.umems = append(d.fleet.umems, umem)
		w := queue{umem: umem, cpu: cpus[i], sockets: make([][]*xsk.Socket, len(d.ports)), budgets: make([][]*synBudget, len(d.ports))}
		d.fleet.queues = append(d.fleet.queues, w)
		said := workers[i].UMEM.Sockets
		for j := range d.ports {
			for q := i; q < counts[j]; q += len(workers) {
				if len(sockets) == 0 || said[0].Ifindex != d.ports[j].index || said[0].Queue != q {
					return fmt.Errorf("worker %d: no socket for interface %q queue %d has come", i, d.ports[j].name, q)
				}
				if err := d.serveSocket(&d.fleet.queues[i], j, q, sockets[0]); err != nil {
					return err
				}
				sockets, said = sockets[1:], said[1:]
			}
		}
	}
	d.fleet.counts = counts
	return nil
}

// takeOver puts the XDP program in the place of the owner's, whose packets come to the
// same sockets, and tells the owner.
func (h *heir) takeOver(d *Daemon) error {
	if h == nil {
		return nil
	}
	if err := d.attach(); err != nil {
		return err
	}
	if err := unit.TakeLock(d.lock); err != nil {
		d.log.Warn("the lock's file names the fnatd before this one", "error", err)
	}
	if err := h.wire.send(&message{Kind: kindServing}); err != nil {
		return err
	}
	go func() {
		// The owner is done, or it is no more. One that is not content ends this process.
		_, _, err := h.wire.receive(kindDone, ownerTime)
		if err != nil {
			d.log.Warn("upgrade: the fnatd before this one did not end as it should", "error", err)
		}
		h.settled.Store(true)
		d.settleState()
		h.wire.close()
	}()
	return nil
}
