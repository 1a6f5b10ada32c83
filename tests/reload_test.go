package tests

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fnatd/fnatd/tests/harness"
)

// reloadInMidStream changes the configuration all the time under a download and
// an iperf3. Neither may notice.
func reloadInMidStream(b *bed) {
	n := b.nginx(0)
	b.nginx(1)
	b.iperfServer(0)
	want := n.file(b, "file", hundredMB)
	b.start(b.web(0), b.bulk(0))

	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	type result struct {
		out string
		err error
	}
	start := func(name string, args ...string) <-chan result {
		done := make(chan result, 1)
		go func() {
			out, err := b.Client.Run(ctx, name, args...)
			done <- result{out, err}
		}()
		return done
	}
	down := filepath.Join(b.dir, "down")
	curl := start("curl", "-sS", "--fail", "--limit-rate", "30M", "-o", down, b.url("/file"))
	iperf := start("iperf3", "-c", b.vip(0).Addr().String(), "-t", "3", "-b", "200M", "--json")
	b.eventually("both run", func() bool {
		return b.service("web").Traffic.OutBytes > 1<<20 && b.service("bulk").Traffic.InBytes > 1<<20
	})

	added, weighted, drained := b.web(0, 1), b.web(0, 1), b.web(0, 1)
	weighted.Servers[1].Keys = "weight = 7"
	drained.Servers[0].Keys = "weight = 0"
	other := harness.Service{Name: "other", Virtual: b.vip(81), Servers: b.to(8080, 1)}
	steps := []struct {
		services []harness.Service
		want     string // among what has changed
	}{
		{[]harness.Service{added, b.bulk(0)}, "+ service"},
		{[]harness.Service{weighted, b.bulk(0)}, "weight 1 -> 7"},
		{[]harness.Service{drained, b.bulk(0), other}, "weight 1 -> 0"},
		{[]harness.Service{b.web(1), b.bulk(0), other}, "- service"}, // the download's server: its connection lives on
		{[]harness.Service{b.web(0), b.bulk(0)}, "+ service"},
	}
	reloads := 0
	for running := true; running; reloads++ {
		step := steps[reloads%len(steps)]
		if changes := b.reload(step.services...); !strings.Contains(strings.Join(changes, "\n"), step.want) {
			b.Errorf("reload %d: got changes %q, want %q", reloads, changes, step.want)
		}
		select {
		case r := <-iperf:
			if r.err != nil {
				b.Fatal(r.err)
			}
			b.iperfBytes(r.out)
			running = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	if reloads < len(steps) {
		b.Errorf("got %d reloads while iperf3 ran, want %d", reloads, len(steps))
	}
	if r := <-curl; r.err != nil {
		b.Fatal(r.err)
	}
	if got := b.hash(down); got != want {
		b.Errorf("got a file with hash %s, want %s", got, want)
	}
}

func badReloadChangesNothing(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	p := b.connect(accepted)
	p.exchange()

	bad := b.web(1)
	bad.Keys = "scheduler = \"best\"\ncolour = \"blue\""
	bad.Servers[0].Keys = "weight = -1"
	_, err := b.lb.Reload(harness.Config(b.Rig, b.dir, "busy_poll = 1", bad))
	if err == nil {
		b.Fatal("a bad configuration was put in force")
	}
	for _, want := range []string{`busy_poll`, `scheduler "best"`, `colour`, `weight -1`} {
		if !strings.Contains(err.Error(), "lb.toml:") || !strings.Contains(err.Error(), want) {
			b.Errorf("the error does not tell of %s:\n%v", want, err)
		}
	}
	if out, err := b.ctl("reload"); err == nil || !strings.Contains(out, `scheduler "best"`) {
		b.Errorf("fnatctl reload: got %v, want the same refused\n%s", err, out)
	}
	// What needs a restart is refused as well, and said.
	if _, err := b.lb.Reload(harness.Config(b.Rig, b.dir, "frames = 16384", b.web(1))); err == nil || !strings.Contains(err.Error(), "restart") {
		b.Errorf("reload with other frames: got %v, want to be told to restart", err)
	}
	if got := b.service("web"); got.Scheduler != "rr" || len(got.Servers) != 1 || got.Servers[0].Real != b.rip(0, 8080) {
		b.Errorf("after refused reloads: got %+v, want the first configuration", got)
	}
	if got := b.metrics()["fnatd_config_last_reload_successful"]; got != 0 {
		b.Errorf("fnatd_config_last_reload_successful: got %v, want 0", got)
	}
	if got := b.stats().ReloadError; !strings.Contains(got, "restart") {
		b.Errorf("reload_error: got %q, want the last error", got)
	}
	p.exchange()
	b.connect(accepted).exchange()

	// A good one, by SIGHUP.
	if err := b.lb.Configure(harness.Config(b.Rig, b.dir, "", b.web(0, 1))); err != nil {
		b.Fatal(err)
	}
	if err := b.lb.Signal(syscall.SIGHUP); err != nil {
		b.Fatal(err)
	}
	b.eventually("the good configuration is in force", func() bool { return len(b.service("web").Servers) == 2 })
	b.eventually("the error is forgotten", func() bool { return b.metrics()["fnatd_config_last_reload_successful"] == 1 })
	p.exchange()
}
