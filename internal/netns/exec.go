package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// stopGrace is how long a program may take to end after SIGTERM: longer than
// nginx, the slowest of ours, takes with connections open.
const stopGrace = 10 * time.Second

// Command returns a command for Start. It ends with the context, with the Rig and
// with this process, and its children by fork with it.
//
// It runs in the host's network and in the file system of this process: unlike
// under ip netns exec, which mounts another /sys, programs there find the bpffs
// and the cgroups.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for pipes that a stray grandchild holds open
	return cmd
}

// Start starts a command in the namespace. The caller waits for it.
func (h *Host) Start(cmd *exec.Cmd) error {
	started := make(chan error)
	h.spawn <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// starter runs what Start sends it on one thread that stays in the namespace. A
// program that it starts gets a SIGKILL when that thread ends (PR_SET_PDEATHSIG),
// which a thread of any other goroutine might do too early.
func (h *Host) starter(ready chan<- error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		ready <- err
		return
	}
	defer home.Close()
	err = netns.Set(h.ns)
	ready <- err
	if err != nil {
		return
	}
	for start := range h.spawn {
		start()
	}
	if netns.Set(home) == nil {
		runtime.UnlockOSThread()
	}
}

// Run runs a program in the namespace and returns what it printed to both of its
// outputs. If it fails, the error says what it printed.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := h.Command(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := h.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return out.String(), err
}

// A Process is a program that runs in a Host's namespace until it ends, is
// stopped, or the Rig is closed.
type Process struct {
	cmd  *exec.Cmd
	out  output
	done chan struct{}
	err  error // of Wait; read after done
}

// Background starts a program, most often a server, and returns at once.
func (h *Host) Background(name string, args ...string) (*Process, error) {
	return h.BackgroundCommand(h.Command(context.Background(), name, args...))
}

// BackgroundCommand is Background for a command that Command made and the caller
// has changed, its environment for example. It takes the command's outputs.
func (h *Host) BackgroundCommand(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if err := h.Start(cmd); err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.children = append(h.children, p)
	h.mu.Unlock()
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the program's process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns what the program has printed so far, to both of its outputs.
func (p *Process) Output() string { return p.out.String() }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end and returns its error as exec.Cmd does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends a signal to the program alone, not to its children.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the program to end, by SIGTERM, and waits for it. It is an error if
// the program has to be killed.
func (p *Process) Stop() error {
	if err := p.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return p.Wait()
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(stopGrace):
		p.Kill()
		return fmt.Errorf("%s: still running %v after SIGTERM", p.cmd, stopGrace)
	}
}

// Kill ends the program and its children by SIGKILL and waits for it.
func (p *Process) Kill() {
	select {
	case <-p.done: // its number may be another's by now
	default:
		syscall.Kill(-p.PID(), syscall.SIGKILL)
		<-p.done
	}
}

// killAll ends the programs that have left their parents, as daemons do, and are
// still in the namespace.
func (h *Host) killAll() error {
	want, err := os.Stat(h.Path)
	if err != nil {
		return err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if is, err := os.Stat(dir + "/ns/net"); err == nil && os.SameFile(want, is) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return nil
}

// output collects what a running program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
