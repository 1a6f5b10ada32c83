// Package realserver is the life of fnatrs: it attaches BPF programs to a
// cgroup, by which the servers in there see the clients behind the balancer,
// answers for its state on a control socket, and detaches. It forwards
// nothing, and is not in the way of a packet once a connection is made.
package realserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cilium/ebpf"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/unit"
)

// Defaults of Options.
const (
	DefaultSocket      = "/run/fnatrs/fnatrs.sock"
	DefaultMetrics     = "127.0.0.1:9633"
	DefaultMaxMappings = 65536
	// What ip_vs_ca documents.
	DefaultTCPTimeout = 90 * time.Second
	DefaultUDPTimeout = 180 * time.Second
)

// minMappings is less than which the kernel's LRU maps evict at random.
const minMappings = 1024

// Options say how to run.
type Options struct {
	Trust      Prefixes // where client addresses are believed from; required
	Kinds      Kinds    // of the TCP options to read
	TTM        TTM      // one more option to read
	Cgroup     string   // whose servers see clients; empty is the root of the v2 tree
	Interfaces []string // where notices are read; none: by ICMP sockets
	NoUDP      bool     // leave UDP sockets alone
	NoSYN      bool     // read no options of SYNs, only those of the segments that complete handshakes
	// How long a client is known of whom nothing is heard, where no socket holds
	// it: of a UDP flow, and of a TCP connection that is not made yet.
	TCPTimeout, UDPTimeout time.Duration
	MaxMappings            uint32 // of each kind
	Socket                 string // control socket; a lock file is made beside it
	Metrics                string // where Prometheus finds /metrics; empty: nowhere
	Version                string
	Log                    *slog.Logger
	// Beside lets another fnatrs serve the cgroup, too, as a self-test has to.
	Beside bool
	// Dearer takes the ways that cost more, as a kernel may need; a self-test does both.
	Dearer bool

	// older takes from the programs what an older kernel would refuse; only tests set it.
	older func(*ebpf.CollectionSpec)
}

// Check is an error if the options contradict themselves.
func (o *Options) Check() error {
	if len(o.Trust) == 0 {
		return errors.New("--trust is missing: name the networks of the balancer's local addresses, as --trust 10.0.1.0/24")
	}
	if t := min(o.TCPTimeout, o.UDPTimeout); t < time.Second {
		return fmt.Errorf("timeout %v: too short (want a second or more)", t)
	}
	if o.MaxMappings < minMappings {
		return fmt.Errorf("%d mappings: too few (want %d or more)", o.MaxMappings, minMappings)
	}
	return o.TTM.check(o.Kinds)
}

// Run shows clients to servers until ctx ends. It returns nil after a clean
// stop, and in any case leaves nothing attached.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	if o.Cgroup == "" {
		if o.Cgroup, err = cgroup.Root(); err != nil {
			return err
		}
	}
	if err := cgroup.Check(o.Cgroup); err != nil {
		return err
	}
	lock, err := unit.Lock("fnatrs", o.Socket, "name another path with --socket")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if !o.Beside {
		if err := checkFree(o.Cgroup); err != nil {
			return err
		}
	}
	p, err := load(&o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	a := &answerer{opts: o, started: time.Now(), programs: p}
	served, shutdown, err := a.listen()
	if err != nil {
		return err
	}
	defer shutdown()
	if err := p.attach(&o); err != nil {
		return err
	}
	a.serve(served)
	o.Log.Info("servers see their clients", "cgroup", o.Cgroup, "trust", o.Trust.String(), "kinds", o.Kinds.String())
	unit.Notify("READY=1")
	select {
	case <-ctx.Done():
		unit.Notify("STOPPING=1")
		o.Log.Info("stopped")
		return nil
	case err := <-served:
		return err
	}
}
