package harness

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/realserver"
)

// A Fnatrs is a running fnatrs.
type Fnatrs struct {
	socket string
	proc   *netns.Process
}

// StartFnatrs runs the program bin for a cgroup, on a host of the rig that ends
// it with the others. It returns when the programs are attached.
func StartFnatrs(h *netns.Host, bin, dir, cgroup string, args ...string) (*Fnatrs, error) {
	f := &Fnatrs{socket: filepath.Join(dir, "fnatrs.sock")}
	var err error
	f.proc, err = h.Background(bin, append([]string{"run", "--socket", f.socket, "--cgroup", cgroup}, args...)...)
	if err != nil {
		return nil, err
	}
	deadline := time.After(startTime)
	for {
		if _, err := f.Status(); err == nil {
			return f, nil
		}
		select {
		case <-f.proc.Done():
			return nil, fmt.Errorf("fnatrs ended: %w\n%s", f.proc.Wait(), f.proc.Output())
		case <-deadline:
			return nil, errors.Join(fmt.Errorf("fnatrs does not answer:\n%s", f.proc.Output()), f.proc.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Status asks fnatrs for its state.
func (f *Fnatrs) Status() (*realserver.Status, error) { return realserver.Ask(f.socket) }

// Socket returns the path of the control socket.
func (f *Fnatrs) Socket() string { return f.socket }

// Log returns what fnatrs has printed so far.
func (f *Fnatrs) Log() string { return f.proc.Output() }

// Kill ends fnatrs at once, without giving it a chance to clean up.
func (f *Fnatrs) Kill() { f.proc.Kill() }

// Stop has fnatrs stop cleanly and waits for it.
func (f *Fnatrs) Stop() error {
	if err := f.proc.Stop(); err != nil {
		return fmt.Errorf("fnatrs: %w\n%s", err, f.proc.Output())
	}
	return nil
}
