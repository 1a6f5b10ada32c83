// Package harness runs fnatd on the rig, as a process like any other: its
// configuration, its start and stop, its control socket. Tests and the demo use
// it; it checks nothing itself.
package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
)

// startTime is how long fnatd may take until it answers.
const startTime = 20 * time.Second

// A Fnatd is a running fnatd in the Balancer's namespace of a rig.
type Fnatd struct {
	Rig  *netns.Rig
	Ctl  *ctl.Client
	dir  string
	proc *netns.Process
}

// Start writes the configuration to dir and runs the program bin with it. It
// returns when fnatd answers; if fnatd ends first, the error is what it said.
func Start(rig *netns.Rig, bin, dir, config string) (*Fnatd, error) {
	f := &Fnatd{Rig: rig, Ctl: ctl.NewClient(Socket(dir)), dir: dir}
	if err := f.Configure(config); err != nil {
		return nil, err
	}
	var err error
	if f.proc, err = rig.Balancer.Background(bin, "-c", f.ConfigFile()); err != nil {
		return nil, err
	}
	deadline := time.After(startTime)
	for {
		if f.ready() {
			return f, nil
		}
		select {
		case <-f.proc.Done():
			return nil, fmt.Errorf("fnatd ended: %w\n%s", f.proc.Wait(), f.proc.Output())
		case <-deadline:
			return nil, errors.Join(fmt.Errorf("fnatd does not answer:\n%s", f.proc.Output()), f.proc.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ready reports whether fnatd forwards: it logs so when the kernel hands over.
func (f *Fnatd) ready() bool { return strings.Contains(f.Log(), "msg=forwarding") }

// Socket returns the control socket of a fnatd that runs in dir.
func Socket(dir string) string { return filepath.Join(dir, "fnatd.sock") }

// ConfigFile returns where the configuration is.
func (f *Fnatd) ConfigFile() string { return filepath.Join(f.dir, "lb.toml") }

// Configure replaces the configuration file, without a reload.
func (f *Fnatd) Configure(config string) error {
	return os.WriteFile(f.ConfigFile(), []byte(config), 0o644)
}

// Reload replaces the configuration and has it read.
func (f *Fnatd) Reload(config string) (ctl.Reload, error) {
	if err := f.Configure(config); err != nil {
		return ctl.Reload{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	return f.Ctl.Reload(ctx)
}

// Log returns what fnatd has printed so far.
func (f *Fnatd) Log() string { return f.proc.Output() }

// PID returns fnatd's process number.
func (f *Fnatd) PID() int { return f.proc.PID() }

// Signal sends fnatd a signal.
func (f *Fnatd) Signal(s syscall.Signal) error { return f.proc.Signal(s) }

// Kill ends fnatd at once, without giving it a chance to clean up.
func (f *Fnatd) Kill() { f.proc.Kill() }

// Stop has fnatd stop cleanly and waits for it.
func (f *Fnatd) Stop() error {
	if err := f.proc.Stop(); err != nil {
		return fmt.Errorf("fnatd: %w\n%s", err, f.Log())
	}
	return nil
}

// Config returns a configuration for the rig: the tables that every fnatd
// needs, with extra lines for [dataplane], and then the services as given. The
// local pool "lan" has two LIPs.
func Config(rig *netns.Rig, dir, dataplane, services string) string {
	var interfaces []string
	for _, name := range rig.Interfaces() {
		interfaces = append(interfaces, fmt.Sprintf("%q", name))
	}
	return fmt.Sprintf(`[daemon]
control = %q
metrics = "127.0.0.1:9632"

[dataplane]
interfaces      = [%s]
max_connections = 100_000
%s

[[local_pool]]
name      = "lan"
interface = %q
addresses = ["%s-%s"]
ports     = "1024-65535"

%s`, Socket(dir), strings.Join(interfaces, ", "), dataplane, rig.ServerSide(), netns.LIP(0), netns.LIP(1), services)
}
