package netns

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	runDir = "/run/netns" // where ip netns and others look for namespaces
	prefix = "fnatd-"     // of our names there: fnatd-<process>-<rig>-<role>
)

// RequireRoot skips a test that may not make namespaces and interfaces, or fails
// it if FNATD_TEST_ROOT=1 promises that it may.
func RequireRoot(t TB) {
	t.Helper()
	err := capable()
	switch {
	case err == nil:
	case os.Getenv("FNATD_TEST_ROOT") == "1":
		t.Fatalf("FNATD_TEST_ROOT=1, but %v", err)
	default:
		t.Skipf("%v", err)
	}
}

// capable says what the process lacks to build a Rig.
func capable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // the sets' low and high halves
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	var errs []error
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}} {
		if data[0].Effective&(1<<c.bit) == 0 {
			errs = append(errs, fmt.Errorf("%s is missing: run as root", c.name))
		}
	}
	return errors.Join(errs...)
}

// sweep removes the namespaces of processes that did not live to close their
// rigs: a test that is killed, or runs into its time limit, runs no Cleanup.
func sweep() error {
	entries, err := os.ReadDir(runDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		number, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(number)
		if !ours || err != nil || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue
		}
		// Another process may be sweeping the same.
		if err := netns.DeleteNamed(e.Name()); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("namespace %q: left by a dead process: %w", e.Name(), err)
		}
	}
	return nil
}
