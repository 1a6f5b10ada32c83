// Package harness runs fnatd on the rig, as a process like any other: its
// configuration, its start and stop, its control socket. Tests and the demo use
// it; it checks nothing itself.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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
	heir int // process number of the one that has taken over; 0: none has
}

// Start writes the configuration to dir and runs the program bin with it. It
// returns when fnatd forwards; if fnatd ends first, the error is what it said.
func Start(rig *netns.Rig, bin, dir, config string) (*Fnatd, error) {
	return StartCommand(rig, rig.Balancer.Command(context.Background(), bin, "-c", ConfigFile(dir)), dir, config)
}

// StartCommand is Start for a command that the Balancer's Command made and the
// caller has changed. It runs fnatd with ConfigFile(dir).
func StartCommand(rig *netns.Rig, cmd *exec.Cmd, dir, config string) (*Fnatd, error) {
	f := &Fnatd{Rig: rig, Ctl: ctl.NewClient(Socket(dir)), dir: dir}
	if err := f.Configure(config); err != nil {
		return nil, err
	}
	cmd.WaitDelay = 0 // its outputs pass to the one that takes over
	// Whose parent has ended is this process's to wait for, as elsewhere it is PID 1's.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	var err error
	if f.proc, err = rig.Balancer.BackgroundCommand(cmd); err != nil {
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

// ConfigFile returns the configuration file of a fnatd that runs in dir.
func ConfigFile(dir string) string { return filepath.Join(dir, "lb.toml") }

// Configure replaces the configuration file, without a reload.
func (f *Fnatd) Configure(config string) error {
	return os.WriteFile(ConfigFile(f.dir), []byte(config), 0o644)
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
func (f *Fnatd) PID() int {
	if f.heir != 0 {
		return f.heir
	}
	return f.proc.PID()
}

// Signal sends fnatd a signal.
func (f *Fnatd) Signal(s syscall.Signal) error { return syscall.Kill(f.PID(), s) }

// Upgrade has another binary take over, or the same if binary is empty.
func (f *Fnatd) Upgrade(binary string) (ctl.Upgrade, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*startTime)
	defer cancel()
	u, err := f.Ctl.Upgrade(ctx, ctl.UpgradeOrder{Binary: binary})
	if err == nil {
		err = f.inherit(u.PID)
	}
	return u, err
}

// Follow goes on with the fnatd that has taken over.
func (f *Fnatd) Follow() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	s, err := f.Ctl.Status(ctx)
	if err != nil {
		return err
	}
	return f.inherit(s.PID)
}

// inherit notes that another process has taken over, and waits for the end of the one
// before it.
func (f *Fnatd) inherit(pid int) error {
	was := f.heir
	f.heir = pid
	if was != 0 { // else its outputs, which stay open, are waited for
		if err := reap(was); err != nil {
			return err
		}
	}
	return f.settle()
}

// settle waits until the fnatd that has taken over is this process's to wait for: the one
// before it has ended.
func (f *Fnatd) settle() error {
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.heir))
		if err != nil {
			return err
		}
		// Behind the name in parentheses: state, parent.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[1] == strconv.Itoa(os.Getpid()) {
			return nil
		}
	}
	return fmt.Errorf("fnatd, pid %d: its predecessor still runs after %v", f.heir, startTime)
}

// reap waits for a process that is a child by way of PR_SET_CHILD_SUBREAPER. It is an
// error if its exit code is not 0.
func reap(pid int) error {
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		switch {
		case err != nil:
			return fmt.Errorf("fnatd, pid %d: %w", pid, err)
		case got == pid && status.ExitStatus() != 0:
			return fmt.Errorf("fnatd, pid %d: exit status %d, signal %v", pid, status.ExitStatus(), status.Signal())
		case got == pid:
			return nil
		}
	}
	return fmt.Errorf("fnatd, pid %d: still runs after %v", pid, startTime)
}

// Wait waits for fnatd's end and returns its error as exec.Cmd does.
func (f *Fnatd) Wait() error { return f.proc.Wait() }

// Kill ends fnatd at once, without giving it a chance to clean up.
func (f *Fnatd) Kill() { f.proc.Kill() }

// Stop has fnatd stop cleanly and waits for it. It is an error if fnatd's exit
// code is not 0, as when it finds that it has lost a frame.
func (f *Fnatd) Stop() error {
	if err := f.stop(); err != nil {
		return fmt.Errorf("fnatd: %w\n%s", err, f.Log())
	}
	return nil
}

func (f *Fnatd) stop() error {
	if f.heir == 0 {
		return f.proc.Stop()
	}
	if err := f.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := reap(f.heir); err != nil {
		return err
	}
	return f.proc.Wait()
}
