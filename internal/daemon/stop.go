package daemon

import (
	"context"
	"os"

	"github.com/fnatd/fnatd/internal/ctl"
)

// Stop implements ctl.Backend.
func (d *Daemon) Stop(ctx context.Context, o ctl.StopOrder) ctl.Stopping {
	d.log.Info("stop", "by", ctl.PeerOf(ctx), "forget", o.Forget)
	s := ctl.Stopping{PID: os.Getpid(), Connections: d.conns.Stats().Connections}
	if o.Forget {
		d.forget.Store(true)
	}
	if !d.forget.Load() {
		s.State = d.state.Path()
	}
	d.quit() // the control socket lets the answer out first
	return s
}

// leaveState ends the state of a fnatd that stops: with last notes, or by removing it if
// that is what was asked for. Nothing runs any more.
func (d *Daemon) leaveState() {
	if !d.forget.Load() {
		d.writeNotes()
		return
	}
	if err := d.state.Remove(); err != nil {
		d.log.Error("state not removed: the next fnatd adopts it", "state", d.state.Path(), "error", err)
		return
	}
	d.log.Info("state removed", "state", d.state.Path())
}
