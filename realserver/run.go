// Package realserver is the life of fnatrs: it attaches BPF programs to a
// cgroup, by which the servers in there see the clients behind the balancer,
// answers for its state on a control socket, and detaches. It forwards
// nothing, and is not in the way of a packet once a connection is made.
//
// It serves TCP. Clients of UDP servers are not shown.
package realserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fnatd/fnatd/internal/unit"
)

// DefaultSocket is where a running fnatrs answers for its state.
const DefaultSocket = "/run/fnatrs/fnatrs.sock"

// Options say how to run.
type Options struct {
	Trust   Prefixes // where client addresses are believed from; required
	Kinds   Kinds    // of the TCP options to read
	Cgroup  string   // whose servers see clients; empty is the root of the v2 tree
	Socket  string   // control socket; a lock file is made beside it
	Version string
	Log     *slog.Logger
}

// Run shows clients to servers until ctx ends. It returns nil after a clean
// stop, and in any case leaves nothing attached.
func Run(ctx context.Context, o Options) (err error) {
	if len(o.Trust) == 0 {
		return errors.New("no trusted prefix: name the networks of the balancer's local addresses")
	}
	if o.Cgroup == "" {
		if o.Cgroup, err = RootCgroup(); err != nil {
			return err
		}
	}
	if err := checkCgroup(o.Cgroup); err != nil {
		return err
	}
	unlock, err := unit.Lock("fnatrs", o.Socket, "name another path with --socket")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := checkFree(o.Cgroup); err != nil {
		return err
	}
	p, err := load(o.Trust, o.Kinds, o.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	control, err := listen(o.Socket)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := p.attach(o.Cgroup); err != nil {
		return err
	}
	a := answerer{opts: o, started: time.Now(), programs: p}
	served := make(chan error, 1)
	go func() { served <- a.serve(control) }()
	o.Log.Info("servers see their clients", "cgroup", o.Cgroup, "trust", o.Trust.String(), "kinds", o.Kinds.String())
	unit.Notify("READY=1")
	select {
	case <-ctx.Done():
		unit.Notify("STOPPING=1")
		control.Close()
		<-served
		o.Log.Info("stopped")
		return nil
	case err := <-served:
		return fmt.Errorf("control socket: %w", err)
	}
}
