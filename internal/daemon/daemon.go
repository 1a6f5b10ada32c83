// Package daemon is the life of fnatd: it assembles the packet path from a
// configuration, serves the control socket and metrics, reloads, and takes
// everything down again. It forwards nothing itself.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/internal/unit"
	"github.com/fnatd/fnatd/lb"
)

// ErrConfig is what every error about the configuration file wraps.
var ErrConfig = errors.New("configuration refused")

// Options say how to run.
type Options struct {
	ConfigFile string
	Version    string
	Reload     <-chan os.Signal // each value has the file read again, or a new binary started
	State      *os.File         // state without a path, of this process before it began anew; nil: there is none
	Heir       *os.File         // where a running fnatd, which this one is to replace, is met; nil: there is none
	Log        *slog.Logger
}

// tend is how often the daemon looks after what has outlived its use.
const tend = 5 * time.Second

// A Daemon is one running fnatd.
type Daemon struct {
	opts    Options
	log     *slog.Logger
	started time.Time

	conns       *conntrack.Table
	router      *route.Resolver
	addresses   *route.Addresses
	xdp         bpf.Options
	program     *bpf.Program
	predecessor *bpf.Predecessor // that packets come by until then; nil: there is none
	inPlace     chan struct{}    // closed when program is attached
	ports       []port           // by interface
	settings    config.Dataplane // of the start; what is used of them no reload changes
	cpus        []int            // that the process may run on; read before any worker is bound
	fleet       fleet
	nics        []*xsk.RSS // by port; nil where it is not known
	steered     time.Time  // when nics were last read
	engine      *dataplane.Engine
	homes       map[packet.Addr]string // interface of each LIP, also of those that have left
	ward        ward
	lifeline    lifeline

	epochTicks uint32 // what monotonicTicks was at the engine's epoch

	state    *state.File
	legacy   legacy
	notes    notes            // that an earlier fnatd has left, or none
	recalled dataplane.Counts // of the workers of earlier ones
	forget   atomic.Bool      // the state is to be removed at the end
	quit     func()           // begins a clean stop

	control, metrics net.Listener
	lock             *os.File
	pauses           chan *pause
	upgrading        sync.Mutex    // held by the upgrade under way
	heir             *heir         // of another fnatd; nil: of none
	handed           chan struct{} // closed when another fnatd has taken over
	left             chan struct{} // closed when whoever wanted that knows

	tallies tallies

	notesLock sync.Mutex // held while notes are written; before mu

	mu          sync.Mutex // guards what a reload changes
	guards      guards
	cfg         *config.Config // in force, but for what drains has to say
	drains      drains
	loaded      time.Time
	reloadError string
	notesTaken  time.Time // the last time
	notesFailed retry
}

// Run runs fnatd until ctx ends, or another one has taken over. It returns nil after a
// clean stop.
func Run(ctx context.Context, o Options) (err error) {
	d := &Daemon{
		opts: o, log: o.Log, started: time.Now(), loaded: time.Now(), homes: map[packet.Addr]string{}, drains: newDrains(),
		pauses: make(chan *pause), handed: make(chan struct{}), left: make(chan struct{}), inPlace: make(chan struct{}),
	}
	d.guards.past = map[bpf.ServiceKey]bpf.GuardCounts{}
	if d.heir, err = meetOwner(o); err != nil {
		return err
	}
	defer func() { err = d.heir.giveUp(err) }()
	l, err := load(o.ConfigFile)
	if err != nil {
		return err
	}
	d.cfg = l.cfg
	d.tell(l.notes)

	// First, or who lacks privileges would be told of the first file he may not write.
	if err := bpf.Probe(bpf.Options{}); err != nil {
		return err
	}
	var undo cleanup
	defer func() {
		if d.owns() {
			err = errors.Join(err, undo.run())
		}
	}()
	if err := d.listen(&undo); err != nil {
		return err
	}
	if err := d.ward.listen(d, l.table, &undo); err != nil {
		return err
	}
	if err := d.assemble(l.table, &undo); err != nil {
		return err
	}
	return d.serve(ctx, &undo)
}

// owns reports whether what is on the interfaces is this fnatd's, to be taken off by it.
func (d *Daemon) owns() bool {
	select {
	case <-d.handed:
		return false
	default:
		return d.heir.owns()
	}
}

// listen makes this fnatd the only one of its control socket, and opens that and the
// metrics.
func (d *Daemon) listen(undo *cleanup) (err error) {
	if d.heir != nil {
		return d.heir.listen(d, undo)
	}
	c := &d.cfg.Daemon
	if d.lock, err = unit.Lock("fnatd", c.Control, "set control in [daemon] to another path"); err != nil {
		return err
	}
	undo.add(d.lock.Close)
	if d.control, err = ctl.Listen(c.Control, c.Group); err != nil {
		return err
	}
	undo.add(d.control.Close)
	d.metrics, err = listenMetrics(c.Metrics)
	return err
}

// listenMetrics returns the listener of the metrics, or nil if there are to be
// none. Whoever serves it closes it.
func listenMetrics(addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w (set metrics in [daemon] to another address, or to \"\" for none)", err)
	}
	return l, nil
}

// serve runs the workers and the listeners, and returns when ctx has ended or
// one of them has failed.
func (d *Daemon) serve(ctx context.Context, undo *cleanup) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.quit = func() { cancel(nil) }
	quit := make(chan struct{})
	var running sync.WaitGroup
	start := func(what string, f func() error) {
		running.Go(func() {
			if err := f(); err != nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}

	d.ward.open(d)
	// Before any worker runs: connections of an earlier fnatd bring new ones at once,
	// which are not to go to servers that are known to be down. But packets that wait in
	// the rings of a fnatd that is being replaced come first.
	if d.heir != nil {
		running.Go(func() { d.work(quit) })
	}
	if err := d.beginChecks(); err != nil {
		cancel(err)
	}
	if d.heir == nil {
		running.Go(func() { d.work(quit) })
	}
	if err := d.takePlace(undo); err != nil {
		d.stopHealth()
		close(quit)
		cancel(nil)
		running.Wait()
		return err
	}
	if d.heir != nil {
		debug.SetGCPercent(d.heir.garbage) // rehearse had it off
	}
	close(d.inPlace)
	running.Go(func() { d.drainDue(ctx) })
	running.Go(func() { d.watchRates(ctx) })
	running.Go(func() { d.takeNotes(ctx) })
	start("control socket", func() error { return ctl.Serve(ctx, d.control, ctl.NewServer(d)) })
	if d.metrics != nil {
		start("metrics", func() error { return ctl.Serve(ctx, d.metrics, MetricsHandler(d)) })
	}
	if d.heir == nil {
		d.meet(&lb.Table{}, d.engine.View().Table)
	}
	if err := d.open(); err != nil {
		cancel(err)
	} else {
		if d.heir == nil {
			d.settleState()
		}
		running.Go(func() { d.guard(ctx) })
		defer d.feedWatchdog()() // until all is at rest: while it stops, too
		unit.Notify("READY=1")
		d.log.Info("forwarding", "services", len(d.engine.View().Services), "workers", len(d.engine.Workers()))
	}
	if d.heir == nil {
		d.announce()
	}
	running.Go(func() { d.watch(ctx) })
	running.Go(func() { d.state.Gather(ctx.Done()) })
	d.attend(ctx)
	d.upgrading.Lock() // whoever is to take over does, or does not
	if !d.owns() {
		<-d.left
		return nil
	}

	unit.Notify("STOPPING=1")
	d.log.Info("stopping", "connections", d.conns.Stats().Connections)
	d.stopHealth()
	d.closeGates()
	close(quit)
	cancel(nil)
	running.Wait()
	d.leaveState()
	if err := d.countFrames(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// beginChecks begins to check the real servers.
func (d *Daemon) beginChecks() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.check(d.engine.View().Table)
}

// open has the kernel hand over what is to be forwarded.
func (d *Daemon) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.openGates(d.engine.View().Table); err != nil {
		return err
	}
	return d.heir.takeOver(d)
}

// attend reloads on demand and looks after leftovers until ctx ends.
func (d *Daemon) attend(ctx context.Context) {
	ticks := time.NewTicker(tend)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.handed:
			return
		case <-d.opts.Reload:
			// What became of it is in the log and in fnatctl stats.
			if binary, replaced := replacedBinary(); replaced {
				go func() { _, _ = d.Upgrade(ctx, binary) }()
			} else {
				_, _ = d.Reload(ctx)
			}
		case <-ticks.C:
			if d.engine.Retire() {
				d.mu.Lock()
				err := d.openGates(d.engine.View().Table)
				d.mu.Unlock()
				if err != nil {
					d.log.Error("retired local addresses not taken down", "error", err)
				}
			}
		}
	}
}

// countFrames makes sure that no worker has lost a frame. The workers are at rest.
func (d *Daemon) countFrames() (err error) {
	for i, w := range d.engine.Workers() {
		if c := w.Census(); !c.Conserved() || c.Held != 0 {
			err = errors.Join(err, fmt.Errorf("worker %d: frames are missing or in two places, a bug of fnatd's: %+v", i, c))
		}
	}
	return err
}

// A cleanup undoes, last first, what was done.
type cleanup struct{ steps []func() error }

func (c *cleanup) add(step func() error) { c.steps = append(c.steps, step) }

func (c *cleanup) run() error {
	var errs []error
	for i := len(c.steps) - 1; i >= 0; i-- {
		errs = append(errs, c.steps[i]())
	}
	return errors.Join(errs...)
}
