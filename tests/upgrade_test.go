package tests

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// TestUpgrade has fnatd replaced in mid-traffic. Nobody may notice.
func TestUpgrade(t *testing.T) {
	for _, v := range []variant{
		{netns.TwoArm, 1, fourToFour, false, ""},
		{netns.OneArm, 2, sixToSix, false, ""},
		{netns.TwoArm, 2, sixToFour, false, "userspace"},
		{netns.TwoArm, 1, fourToFour, false, "xdp"},
	} {
		t.Run(v.String(), func(t *testing.T) { upgradedInTraffic(newBed(t, v, 2)) })
	}
}

func upgradedInTraffic(b *bed) {
	b.nginx(0).file(b, "index.html", 100)
	b.nginx(1).file(b, "index.html", 100)
	b.start(b.web(0, 1), b.streamService())
	conns := b.kept(500, 80)
	b.request(conns)
	s := startStream(b, b.Rig, b.streamService(), 100*time.Microsecond)
	for range 3 {
		before := b.lb.PID()
		if _, err := b.lb.Upgrade(""); err != nil {
			b.Fatal(err)
		}
		if b.lb.PID() == before {
			b.Error("it is the same process")
		}
		b.request(conns)
		b.request(b.kept(10, 80))
	}
	if got := s.stop(b); got.lost != 0 {
		b.Errorf("%d datagrams lost, longest gap %v", got.lost, got.gap)
	}
	if a := b.adoption(); a.lost != 0 || a.connections < 500 {
		b.Errorf("adopted %+v, want 500 connections and none lost", a)
	}
}

// streamService is where startStream sends.
func (b *bed) streamService() harness.Service {
	return harness.Service{
		Name: "stream", Protocol: "udp", Virtual: b.vip(7), Keys: `client_address = "none"`, Servers: b.to(7, 0),
	}
}

// TestUpgradeToTheBad has successors that are no good, each in its own way: the old
// fnatd goes on, and nothing is lost but packets.
func TestUpgradeToTheBad(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	b.nginx(0).file(b, "index.html", 100)
	b.start(b.web(0))
	conns := b.kept(100, 80)
	b.request(conns)
	bad := filepath.Join(b.dir, "bad")
	if out, err := exec.Command("go", "build", "-o", bad, "./testdata/heir").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for how, want := range map[string]string{
		"/no/such/fnatd":        "no such file",
		"/bin/false":            `it ended before it said "hello"`,
		"ends_at_once":          `it ended before it said "hello"`,
		"hangs_at_once":         `it has not said "hello" within`,
		"lies_at_once":          `it said "nonsense" where "hello" was due`,
		"ends_unready":          `it ended before it said "ready"`,
		"ends_with_the_estate":  `it ended before it said "serving"; the old fnatd starts again`,
		"hangs_with_the_estate": `it has not said "serving" within`,
		"ends_in_service":       `it ended: exit status 3; the old fnatd starts again`,
		"forwards_nothing":      `packets in the ring of "wan0" queue 0; the old fnatd starts again`,
	} {
		t.Run(how, func(t *testing.T) {
			binary := how
			if !filepath.IsAbs(how) {
				binary = filepath.Join(b.dir, how)
				if err := os.Link(bad, binary); err != nil {
					t.Fatal(err)
				}
			}
			stop := b.knock()
			defer stop()
			pid := b.lb.PID()
			_, err := b.lb.Upgrade(binary)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the old fnatd goes on") {
				t.Errorf("got %v, want %q", err, want)
			}
			b.request(conns)
			s, err := b.lb.Ctl.Status(b.Context())
			if err != nil || s.PID != pid {
				t.Errorf("fnatd is pid %d, %v, want %d", s.PID, err, pid)
			}
		})
	}
	begun := func() int { return strings.Count(b.lb.Log(), "msg=forwarding") }
	b.eventually("fnatd has begun anew as often as its estate was given away", func() bool { return begun() >= 5 }) // the last time it forwards before it says so
	if n := begun(); n != 5 {
		t.Errorf("fnatd has begun %d times, want once, and again after each of 4 that had got its estate", n)
	}
}

// knock sends SYNs again and again until stop is called, so that there is something to
// forward.
func (b *bed) knock() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
				go func() {
					if c, err := b.Client.Dial(b.Context(), "tcp", b.vip(80).String()); err == nil {
						io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
						c.Close()
					}
				}()
			}
		}
	}()
	return func() { close(quit); <-done }
}

// TestUpgradeInMemoryOnly has a state without a path: it passes to another process, and
// to the old one when that has to begin anew.
func TestUpgradeInMemoryOnly(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	b.nginx(0).file(b, "index.html", 100)
	config := harness.Config(b.Rig, b.dir, "", b.web(0))
	config = strings.Replace(config, "[daemon]\n", "[daemon]\nstate = \"\"\n", 1)
	var err error
	if b.lb, err = harness.Start(b.Rig, bin+"/fnatd", b.dir, config); err != nil {
		t.Fatal(err)
	}
	conns := b.kept(10, 80)
	b.request(conns)
	if _, err := b.lb.Upgrade(""); err != nil {
		t.Fatal(err)
	}
	b.request(conns)
	bad := filepath.Join(b.dir, "ends_in_service")
	if out, err := exec.Command("go", "build", "-o", bad, "./testdata/heir").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := b.lb.Upgrade(bad); err == nil || !strings.Contains(err.Error(), "starts again") {
		t.Errorf("got %v, want it refused", err)
	}
	b.request(conns)
	if s, err := b.lb.Ctl.Status(b.Context()); err != nil || s.State.Path != "" {
		t.Errorf("status %+v, %v, want no path", s, err)
	}
}

// TestUpgradeWithAnotherConfiguration reads the file anew: what a reload can change is
// in force then, and what it cannot is refused.
func TestUpgradeWithAnotherConfiguration(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 2)
	b.nginx(0).file(b, "index.html", 100)
	b.nginx(1).file(b, "index.html", 100)
	b.start(b.web(0))
	conns := b.kept(10, 80)
	b.request(conns)
	other := harness.Service{Name: "other", Virtual: b.vip(81), Servers: b.to(8080, 1)}
	b.configure(b.web(0), other)
	if _, err := b.lb.Upgrade(""); err != nil {
		t.Fatal(err)
	}
	b.request(conns)
	b.request(b.kept(10, 81))

	for _, refused := range []struct{ dataplane, want string }{
		{"frames = 16384", "[dataplane] frames: 8192 became 16384, which takes a restart"},
		{"nonsense = 1", "nonsense"},
	} {
		if err := b.lb.Configure(harness.Config(b.Rig, b.dir, refused.dataplane, b.web(0))); err != nil {
			t.Fatal(err)
		}
		pid := b.lb.PID()
		if _, err := b.lb.Upgrade(""); err == nil || !strings.Contains(err.Error(), refused.want) || b.lb.PID() != pid {
			t.Errorf("%s: got %v, want it refused as %q", refused.dataplane, err, refused.want)
		}
		b.request(conns)
	}
}

// TestUpgradeBySignal replaces the binary that fnatd was started from, and says no more
// than that it shall reload.
func TestUpgradeBySignal(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	b.nginx(0).file(b, "index.html", 100)
	binary := filepath.Join(b.dir, "fnatd")
	install := func() {
		content, err := os.ReadFile(bin + "/fnatd")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(binary+".new", content, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(binary+".new", binary); err != nil {
			t.Fatal(err)
		}
	}
	install()
	var err error
	if b.lb, err = harness.Start(b.Rig, binary, b.dir, harness.Config(b.Rig, b.dir, "", b.web(0))); err != nil {
		t.Fatal(err)
	}
	conns := b.kept(10, 80)
	b.request(conns)
	pid := b.lb.PID()
	b.lb.Signal(syscall.SIGHUP)
	b.eventually("the file is read again", func() bool { return strings.Contains(b.lb.Log(), "msg=reloaded") })
	install()
	b.lb.Signal(syscall.SIGHUP)
	b.eventually("another process has taken over", func() bool { return strings.Contains(b.lb.Log(), `msg="upgrade done"`) })
	if err := b.lb.Follow(); err != nil || b.lb.PID() == pid {
		t.Fatalf("pid %d, %v", b.lb.PID(), err)
	}
	b.request(conns)
}

// BenchmarkUpgrade replaces fnatd again and again under a steady stream of 10,000
// datagrams a second, with so many connections in its table, and shows how many were
// lost, the longest gap, and the median of each upgrade's longest.
func BenchmarkUpgrade(b *testing.B) {
	for _, test := range []struct {
		name        string
		connections int
	}{{"empty", 0}, {"million", 1_000_000}} {
		b.Run(test.name, func(b *testing.B) { benchmarkUpgrade(b, test.connections) })
	}
}

func benchmarkUpgrade(b *testing.B, connections int) {
	rig, probe, start := crowded(b, connections, "never")
	lb := start()
	defer func() {
		if err := lb.Stop(); err != nil {
			b.Error(err)
		}
	}()
	s := startStream(b, rig, probe, 100*time.Microsecond)
	var gaps []time.Duration
	s.lap()
	for b.Loop() {
		if _, err := lb.Upgrade(""); err != nil {
			b.Fatal(err)
		}
		gaps = append(gaps, s.lap())
	}
	slices.Sort(gaps)
	stats, err := lb.Ctl.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if stats.Table.Connections < connections {
		b.Errorf("%d connections are left of %d", stats.Table.Connections, connections)
	}
	got := s.stop(b)
	b.ReportMetric(ms(got.gap), "ms-gap")
	b.ReportMetric(ms(gaps[len(gaps)/2]), "ms-gap-median")
	b.ReportMetric(ms(got.sent), "ms-gap-of-sender")
	b.ReportMetric(float64(got.lost), "lost")
}
