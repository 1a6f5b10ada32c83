package unit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestWatchdogPeriod(t *testing.T) {
	for _, test := range []struct {
		name, usec, pid string
		want            time.Duration
	}{
		{"not_watched", "", "", 0},
		{"a_quarter", "5000000", "", 1250 * time.Millisecond},
		{"ours", "1000000", strconv.Itoa(os.Getpid()), 250 * time.Millisecond},
		{"our_parents", "1000000", strconv.Itoa(os.Getppid()), 0},
		{"off", "0", "", 0},
		{"no_number", "5s", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", test.usec)
			t.Setenv("WATCHDOG_PID", test.pid)
			if got := WatchdogPeriod(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestSuccessor(t *testing.T) {
	env := []string{"A=1", "WATCHDOG_PID=4711", "WATCHDOG_USEC=5000000"}
	if got, want := Successor(env), []string{"A=1", "WATCHDOG_USEC=5000000"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if env[1] != "WATCHDOG_PID=4711" {
		t.Errorf("the environment itself has become %q", env)
	}
}

func TestFeedWatchdog(t *testing.T) {
	manager := listen(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var well atomic.Bool
		well.Store(true)
		go FeedWatchdog(ctx, time.Second, well.Load)
		// after lets seconds pass, and checks how many times the manager was told so.
		after := func(seconds, want int) {
			t.Helper()
			time.Sleep(time.Duration(seconds) * time.Second)
			synctest.Wait()
			for range want {
				if got, err := manager.receive(); got != "WATCHDOG=1" {
					t.Errorf("got %q, %v, want WATCHDOG=1", got, err)
				}
			}
			if got, err := manager.receive(); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("got %q, %v, want nothing more", got, err)
			}
		}
		time.Sleep(500 * time.Millisecond) // to be between two calls from now on
		after(0, 0)
		after(1, 1)
		after(5, 5)
		well.Store(false)
		after(10, 0)
		well.Store(true)
		after(3, 3)
		cancel()
		after(10, 0)
	})
}

// A program that nobody watches is not slowed down, nor does it look at itself.
func TestNobodyWatches(t *testing.T) {
	FeedWatchdog(t.Context(), 0, func() bool { t.Error("asked"); return false })
}

// A manager is the socket of a service manager.
type manager int

// listen makes the manager that Notify tells.
func listen(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	return manager(fd)
}

// receive returns what was told next, without waiting for it.
func (m manager) receive() (string, error) {
	buf := make([]byte, 64)
	n, _, err := unix.Recvfrom(int(m), buf, unix.MSG_DONTWAIT)
	return string(buf[:max(n, 0)]), err
}
