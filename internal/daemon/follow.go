package daemon

import (
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/dataplane/xsk"
)

// Our choices.
const (
	// lookPeriod is how often the interfaces' queues are counted. What comes to a
	// queue before it is served is lost.
	lookPeriod = 500 * time.Millisecond
	// steerPeriod is how often the interfaces are asked how they spread packets,
	// which goes to a card's firmware.
	steerPeriod = 5 * time.Second
	// A change that fails is tried again after the first of these times, then
	// after twice as long each time up to the last: each costs the packets of the
	// moment.
	firstRetry, lastRetry = time.Second, time.Minute
)

// work runs the workers until quit is closed, and has them follow the interfaces
// when their queues change.
func (d *Daemon) work(quit <-chan struct{}) {
	looks := time.NewTicker(lookPeriod)
	defer looks.Stop()
	var r retry
	for {
		// A worker that spins holds a processor of the Go scheduler: leave one
		// for everything else.
		runtime.GOMAXPROCS(runtime.NumCPU() + len(d.fleet.queues))
		var stop atomic.Bool
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			d.runWorkers(&stop)
		}()
		counts, p := d.changed(quit, looks.C, &r)
		stop.Store(true)
		<-ended
		switch {
		case p != nil:
			close(p.atRest)
			select {
			case <-p.over:
			case <-quit:
				return
			}
		case counts == nil:
			return
		default:
			d.follow(counts, &r)
		}
	}
}

// runWorkers runs every worker on its own thread until stop is set.
func (d *Daemon) runWorkers(stop *atomic.Bool) {
	d.engine.Run(stop, func(i int, run func()) {
		if err := bind(d.fleet.queues[i].cpu); err != nil {
			d.log.Error("worker runs on any cpu", "worker", i, "error", err)
		}
		run()
	})
}

// A pause is a time in which no worker runs.
type pause struct{ atRest, over chan struct{} }

// rest has the workers come to rest, until what it returns is called.
func (d *Daemon) rest() (resume func()) {
	p := &pause{make(chan struct{}), make(chan struct{})}
	d.pauses <- p
	<-p.atRest
	return func() { close(p.over) }
}

// changed waits until the interfaces have other queues than are served, and
// returns how many, or until there is to be a pause; it returns neither when quit is
// closed.
func (d *Daemon) changed(quit <-chan struct{}, looks <-chan time.Time, r *retry) ([]int, *pause) {
	for {
		select {
		case <-quit:
			return nil, nil
		case p := <-d.pauses:
			return nil, p
		case now := <-looks:
			select {
			case <-d.inPlace:
			default:
				continue
			}
			if d.steered.Add(steerPeriod).Before(now) {
				d.steer(now)
			}
			counts, err := d.countQueues()
			if r.isNews(err) {
				d.log.Warn("queues of the interfaces are not known", "error", err)
			}
			if err == nil && !slices.Equal(counts, d.fleet.counts) && r.due(counts, now) {
				return counts, nil
			}
		}
	}
}

// follow serves the queues that the interfaces have now. No worker runs. If that
// fails, the queues that were served until now are served on as far as they are
// still there, and r says when to try again.
func (d *Daemon) follow(counts []int, r *retry) {
	d.fleet.mu.Lock()
	defer d.fleet.mu.Unlock()
	if err := d.program.Renew(); err != nil {
		d.log.Error("new queues may lead to the kernel instead of here", "error", err)
	}
	before := d.fleet.counts
	if err := errors.Join(d.countFrames(), d.closeQueues()); err != nil {
		d.log.Error("queues not closed as they should be", "error", err)
	}
	for i, p := range d.ports {
		if counts[i] != before[i] {
			d.log.Info("queues have changed", "interface", p.name, "from", before[i], "to", counts[i])
		}
	}
	if err := d.openQueues(counts); err == nil {
		*r = retry{}
	} else {
		wait := r.failed(counts, time.Now())
		d.log.Error("queues have changed and cannot be served", "error", err, "next try in", wait)
		if err := d.openQueues(common(before, counts)); err != nil {
			d.log.Error("nothing is forwarded", "error", err, "next try in", wait)
		}
	}
	d.engine.Reshape(d.fleet.forEngine())
	d.steer(time.Now())
	d.log.Info("forwarding", "workers", len(d.fleet.queues), "queues", d.fleet.counts)
}

// common returns the queues that there were and still are, but at least one.
func common(before, now []int) []int {
	c := slices.Clone(now)
	for i := range c {
		c[i] = max(min(c[i], before[i]), 1)
	}
	return c
}

// countQueues returns how many queues each port has.
func (d *Daemon) countQueues() (counts []int, err error) {
	for _, p := range d.ports {
		n, err := xsk.Queues(p.name)
		if err != nil {
			return nil, err
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// steer tells the engine how the ports spread packets, if that has changed.
func (d *Daemon) steer(now time.Time) {
	d.steered = now
	var nics []*xsk.RSS
	for _, p := range d.ports {
		nic, err := xsk.ReadRSS(p.name)
		if err != nil {
			nic = nil // then its packets come as they come
		}
		nics = append(nics, nic)
	}
	if !slices.EqualFunc(nics, d.nics, (*xsk.RSS).Equal) {
		d.nics = nics
		d.engine.Steer(nics)
		for i, p := range d.ports {
			if nics[i] != nil && len(d.fleet.queues) > 1 {
				d.log.Info("replies are steered", "interface", p.name, "tcp", nics[i].Ports[xsk.TCP4], "udp", nics[i].Ports[xsk.UDP4])
			}
		}
	}
}

// A retry says when to try again what failed. The zero retry has not failed.
type retry struct {
	counts    []int // that could not be served
	at        time.Time
	wait      time.Duration
	complaint string // about the last look; empty if there was none
}

// due reports whether to serve counts now.
func (r *retry) due(counts []int, now time.Time) bool {
	return !slices.Equal(counts, r.counts) || !now.Before(r.at)
}

// failed notes that counts could not be served, and returns how long to wait.
func (r *retry) failed(counts []int, now time.Time) time.Duration {
	if !slices.Equal(counts, r.counts) {
		r.wait = 0
	}
	r.wait = min(max(2*r.wait, firstRetry), lastRetry)
	r.counts, r.at = counts, now.Add(r.wait)
	return r.wait
}

// isNews reports whether err is one and not the same as the last time.
func (r *retry) isNews(err error) bool {
	before := r.complaint
	r.complaint = ""
	if err != nil {
		r.complaint = err.Error()
	}
	return err != nil && r.complaint != before
}
