package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/fnatd/fnatd/internal/unit"
)

// minSilence is the shortest time after which a worker counts as stuck, however
// often the service manager wants to hear of it: ten times as long as an idle one
// sleeps, since it may have to wait for a core.
const minSilence = 500 * time.Millisecond

// A watchdog watches the workers on behalf of the service manager: a worker that is
// stuck forwards no more than a dead fnatd.
type watchdog struct {
	log     *slog.Logger
	silence func() []time.Duration // the engine's
	limit   time.Duration          // of silence
	stuck   map[int]bool           // workers that were at the last look
}

// feedWatchdog tells the service manager that fnatd is well as long as every worker
// that serves queues makes progress, and returns how to end that.
func (d *Daemon) feedWatchdog() (end func()) {
	period := unit.WatchdogPeriod()
	w := watchdog{log: d.log, silence: d.engine.Silence, limit: max(period, minSilence), stuck: map[int]bool{}}
	ctx, end := context.WithCancel(context.Background())
	go unit.FeedWatchdog(ctx, period, w.well)
	return end
}

// well reports whether no worker is stuck. It logs each that begins to be, and each
// that goes on.
func (w *watchdog) well() bool {
	well := true
	for i, silence := range w.silence() {
		was, is := w.stuck[i], silence > w.limit
		w.stuck[i] = is
		switch {
		case is && !was:
			w.log.Error("worker is stuck: the service manager is not told that fnatd is well", "worker", i, "for", silence)
		case was && !is:
			w.log.Warn("worker goes on", "worker", i)
		}
		well = well && !is
	}
	return well
}
