package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// A manager stands for systemd: it hears what fnatd has to say. As with NotifyAccess=main
// it hears one process alone, which may name another one to be heard from then on.
type manager struct {
	*bed
	*net.UnixConn
	main int32
}

// startManaged runs fnatd as systemd would, with this long a watchdog.
func (b *bed) startManaged(watchdog time.Duration) *manager {
	b.Helper()
	path := filepath.Join(b.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	raw, err := l.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	}
	if err != nil {
		b.Fatal(err)
	}
	cmd := b.Balancer.Command(context.Background(), "sh", "-c", `WATCHDOG_PID=$$ exec "$0" "$@"`, bin+"/fnatd", "-c", harness.ConfigFile(b.dir))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	if b.lb, err = harness.StartCommand(b.Rig, cmd, b.dir, harness.Config(b.Rig, b.dir, "", b.web(0))); err != nil {
		b.Fatal(err)
	}
	return &manager{b, l, int32(b.lb.PID())}
}

// hear returns what fnatd says next, or nothing if it keeps silent for so long.
func (m *manager) hear(patience time.Duration) string {
	m.Helper()
	m.SetReadDeadline(time.Now().Add(patience))
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, _, _, _, err := m.ReadMsgUnix(buf, oob)
		if os.IsTimeout(err) {
			return ""
		}
		if err != nil {
			m.Fatal(err)
		}
		said, from := string(buf[:n]), m.sender(oob)
		if from != m.main {
			continue
		}
		if _, pid, named := strings.Cut(said, "MAINPID="); named {
			fmt.Sscan(pid, &m.main)
		}
		return said
	}
}

// sender returns the process that sent a datagram, by its control message.
func (m *manager) sender(oob []byte) (pid int32) {
	m.Helper()
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(all) != 1 {
		m.Fatalf("got %d control messages, %v", len(all), err)
	}
	cred, err := unix.ParseUnixCredentials(&all[0])
	if err != nil {
		m.Fatal(err)
	}
	return cred.Pid
}

// TestWatchdog has fnatd feed systemd's watchdog while its worker works, and only
// then. Killed by systemd's signal it is not taken for badly configured, which its
// unit would not start again.
func TestWatchdog(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	const interval = 2 * time.Second
	m := b.startManaged(interval)
	if got := m.hear(interval); got != "READY=1" {
		t.Fatalf("got %q, want READY=1", got)
	}
	for range 4 {
		if got := m.hear(interval); got != "WATCHDOG=1" {
			t.Fatalf("got %q, want WATCHDOG=1", got)
		}
	}

	goOn := b.hang(b.worker())
	for begin := time.Now(); m.hear(interval) != ""; {
		if time.Since(begin) > patience {
			t.Fatal("the worker is stopped and fnatd says that all is well")
		}
	}
	if want := "worker is stuck"; !strings.Contains(b.lb.Log(), want) {
		t.Errorf("the log lacks %q", want)
	}
	goOn()
	if got := m.hear(interval); got != "WATCHDOG=1" {
		t.Errorf("the worker goes on: got %q, want WATCHDOG=1", got)
	}
	b.connect(accepted).exchange()

	// As the unit's LimitCORE= has it.
	if err := unix.Prlimit(b.lb.PID(), unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.lb.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := b.lb.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGABRT {
		t.Errorf("after SIGABRT fnatd ended by %v, want that signal", err)
	}
	b.start(b.web(0))
	b.connect(accepted).exchange()
}

// TestWatchdogOverAnUpgrade has another process take over, which systemd must come to
// know as the one that is ready, and that feeds the watchdog from then on.
func TestWatchdogOverAnUpgrade(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	const interval = 2 * time.Second
	m := b.startManaged(interval)
	// next returns what is said next besides that all is well, which may not be left out.
	next := func() (said string) {
		for said = "WATCHDOG=1"; said == "WATCHDOG=1"; {
			said = m.hear(interval)
		}
		return said
	}
	if got := next(); got != "READY=1" {
		t.Fatalf("got %q, want READY=1", got)
	}
	for range 2 {
		before := b.lb.PID()
		if _, err := b.lb.Upgrade(""); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"RELOADING=1", fmt.Sprintf("MAINPID=%d\nREADY=1", b.lb.PID())} {
			if got := next(); got != want {
				t.Errorf("pid %d: got %q, want %q", before, got, want)
			}
		}
		for range 4 {
			if got := m.hear(interval); got != "WATCHDOG=1" {
				t.Fatalf("pid %d has taken over: got %q, want WATCHDOG=1", m.main, got)
			}
		}
	}
}

// worker returns the thread of fnatd's one worker: the one that sleeps in ppoll(2),
// as nothing else in a Go program does.
func (b *bed) worker() (tid int) {
	b.Helper()
	ppoll := fmt.Sprintf("%d ", unix.SYS_PPOLL)
	b.eventually("one thread of fnatd is in ppoll(2)", func() bool {
		found := 0
		calls, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", b.lb.PID()))
		for _, name := range calls {
			if call, _ := os.ReadFile(name); strings.HasPrefix(string(call), ppoll) {
				tid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
				found++
			}
		}
		return found == 1
	})
	return tid
}

// hang stops one thread of fnatd's, and returns how to have it go on. Only a tracer
// can, and it must be one thread all the time.
func (b *bed) hang(tid int) (goOn func()) {
	b.Helper()
	runtime.LockOSThread()
	if err := errors.Join(unix.PtraceSeize(tid), unix.PtraceInterrupt(tid)); err != nil {
		b.Fatal(err)
	}
	if _, err := unix.Wait4(tid, nil, unix.WALL, nil); err != nil {
		b.Fatal(err)
	}
	return func() {
		b.Helper()
		if err := unix.PtraceDetach(tid); err != nil {
			b.Fatal(err)
		}
		runtime.UnlockOSThread()
	}
}
