package tests

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/tests/harness"
)

// before builds the fnatd that knows the state's version before this one, and no other.
func (b *bed) before() (binary string) {
	b.Helper()
	binary = filepath.Join(b.dir, "before")
	cmd := exec.Command("go", "build", "-tags", "fnatd_state_before", "-trimpath", "-buildvcs=false", "-ldflags", "-X main.version=before", "-o", binary, "../cmd/fnatd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// newBefore returns a bed in which the fnatd of the version before runs, that binary, and
// connections by it.
func newBefore(t *testing.T) (b *bed, before string, conns []net.Conn) {
	b = newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	b.inMemory()
	b.nginx(0).file(b, "index.html", 100)
	before = b.before()
	b.startFrom(before, b.web(0))
	return b, before, b.kept(200, 80)
}

// startFrom is start of another binary.
func (b *bed) startFrom(binary string, services ...harness.Service) {
	b.Helper()
	var err error
	if b.lb, err = harness.Start(b.Rig, binary, b.dir, harness.Config(b.Rig, b.dir, "", services...)); err != nil {
		b.Fatal(err)
	}
}

// isOfVersion checks what fnatd says of its state: that it is of a version, from a build.
func (b *bed) isOfVersion(version uint64, build string) {
	b.Helper()
	s, err := b.lb.Ctl.Status(b.Context())
	if err != nil || s.State.Version != version || s.State.WrittenBy != build {
		b.Errorf("the state is of version %d, written by %q, %v; want %d, by %q", s.State.Version, s.State.WrittenBy, err, version, build)
	}
}

// TestVersionStep kills a fnatd and starts the one of the next version of the state, which
// goes on with all connections; and then the one before again, which cannot, and keeps them
// for who can.
func TestVersionStep(t *testing.T) {
	b, before, conns := newBefore(t)
	b.request(conns)
	b.isOfVersion(state.Version-1, "before")
	b.kill()
	b.start(b.web(0))
	b.request(conns)
	b.checkVerdict(t, "lost=0")
	b.isOfVersion(state.Version, "devel")
	if want := fmt.Sprintf("from=%d to=%d", state.Version-1, state.Version); strings.Count(b.lb.Log(), want) != 1 {
		t.Errorf("want %q once in the log:\n%s", want, b.lb.Log())
	}

	b.kill()
	whole := b.stateFile()
	b.startFrom(before, b.web(0))
	b.checkVerdict(t, fmt.Sprintf("it is of version %d, written by fnatd devel at ", state.Version))
	b.isOfVersion(state.Version-1, "before")
	aside := fmt.Sprintf("%s.v%d", harness.State(b.dir), state.Version)
	if said := b.tell("status"); !strings.Contains(said, fmt.Sprintf("this fnatd knows %d: for its connections `mv %s %s`", state.Version-1, aside, harness.State(b.dir))) {
		t.Errorf("fnatctl status does not say how to go back:\n%s", said)
	}
	if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, whole) {
		t.Errorf("the state is not kept as it was: %v", err)
	}

	// As it says: back to who knows it, before others have got the connections' ports.
	if err := os.Rename(aside, harness.State(b.dir)); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.start(b.web(0))
	b.checkVerdict(t, "lost=0")
	b.request(conns)
}

// TestUpgradeByAVersionStep upgrades to a fnatd of the next version, which ends while it
// is looked at: the one before goes on with its state. Then to one that does not end. And
// then to the one before again, which does not know the state.
func TestUpgradeByAVersionStep(t *testing.T) {
	b, before, conns := newBefore(t)
	b.request(conns)
	owner := b.lb.PID()

	failed := make(chan error, 1)
	go func() {
		_, err := b.lb.Upgrade(bin + "/fnatd")
		failed <- err
	}()
	b.eventually("the new fnatd forwards", func() bool { return strings.Count(b.lb.Log(), "msg=forwarding") == 2 })
	for _, pid := range children(owner) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "the old fnatd starts again") {
		t.Errorf("got %v, want the old fnatd to start again", err)
	}
	b.request(conns)
	if b.lb.PID() != owner {
		t.Errorf("fnatd is pid %d, want %d", b.lb.PID(), owner)
	}
	b.eventually("the old fnatd answers", func() bool { _, err := b.lb.Ctl.Status(b.Context()); return err == nil })
	b.isOfVersion(state.Version-1, "before")

	if _, err := b.lb.Upgrade(bin + "/fnatd"); err != nil {
		t.Fatal(err)
	}
	b.request(conns)
	if a := b.adoption(); a.lost != 0 || a.connections < len(conns) {
		t.Errorf("adopted %+v, want %d connections and none lost", a, len(conns))
	}
	b.eventually("the state is converted", func() bool { return strings.Contains(b.lb.Log(), "state converted") })
	b.isOfVersion(state.Version, "devel")

	pid := b.lb.PID()
	_, err := b.lb.Upgrade(before)
	want := fmt.Sprintf("it is of version %d, written by fnatd devel at ", state.Version)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the old fnatd goes on") {
		t.Errorf("got %v, want %q", err, want)
	}
	if b.lb.PID() != pid {
		t.Errorf("fnatd is pid %d, want %d", b.lb.PID(), pid)
	}
	b.request(conns)
	b.isOfVersion(state.Version, "devel")
}

// children returns the processes that one has started.
func children(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list) // threads come and go
		for _, field := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(field); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}
