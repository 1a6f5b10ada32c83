package daemon

import (
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/dataplane/bpf"
)

// signOfLife is how often the XDP program gets one. The shortest orphaned_after is
// four of them, so that one may be late. Each is a write to a map, about 1 µs.
const signOfLife = 250 * time.Millisecond

// A lifeline tells the XDP program again and again how long to wait for the next
// fnatd, if this one dies.
type lifeline struct {
	passAfter atomic.Int64 // config.Dataplane's; a time.Duration
}

// hold begins to give signs of life, and leaves in undo how to end that. The program
// has the first one when it returns.
func (l *lifeline) hold(d *Daemon, undo *cleanup) error {
	l.passAfter.Store(int64(d.cfg.Dataplane.PassAfter()))
	if err := l.sign(d.program); err != nil {
		return err
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for failed := false; ; {
			select {
			case <-quit:
				return
			case <-time.After(signOfLife):
			}
			err := l.sign(d.program)
			if err != nil && !failed {
				d.log.Error("if fnatd dies now, orphaned in [dataplane] is not followed", "error", err)
			}
			failed = err != nil
		}
	}()
	undo.add(func() error { close(quit); <-ended; return nil })
	return nil
}

func (l *lifeline) sign(p *bpf.Program) error { return p.PassAfter(time.Duration(l.passAfter.Load())) }

// follow has the next sign of life follow a reloaded configuration.
func (l *lifeline) follow(d *Daemon, cfg *config.Config) {
	was, is := &d.cfg.Dataplane, &cfg.Dataplane
	if was.PassAfter() == is.PassAfter() {
		return
	}
	l.passAfter.Store(int64(is.PassAfter()))
	d.log.Info("changed", "what", "[dataplane] orphaned", "to", is.Orphaned, "after", is.PassAfter())
}
