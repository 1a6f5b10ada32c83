package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// often enough for a test, with a bound for the slow machine.
const quickCheck = "interval = \"200ms\"\ntimeout = \"2s\"\nfall = 2\nrise = 2\nwarmup = \"0s\"\n"

// healthy returns the states of a service's real servers.
func (b *bed) healthy(service string) (states []string) {
	b.Helper()
	for _, r := range b.service(service).Servers {
		states = append(states, r.Health)
	}
	return states
}

// whoAnswers asks the service "web" so often, and returns how many answers came
// from each server.
func (b *bed) whoAnswers(times int) map[string]int {
	b.Helper()
	got := map[string]int{}
	for range times {
		got[strings.TrimSpace(b.curl("-o", "/dev/null", "-w", "%header{x-server}", b.url("/echo/")))]++
	}
	return got
}

func (b *bed) url(path string) string { return fmt.Sprintf("http://%v%s", b.vip(80), path) }

// TestHealth runs what fnatd does about the health of real servers.
func TestHealth(t *testing.T) {
	for name, run := range map[string]func(*bed){
		"dead_server_is_left_out_and_comes_back": deadServerIsLeftOut,
	} {
		t.Run(name, func(t *testing.T) {
			run(newBed(t, variant{shape: netns.TwoArm, queues: 1, families: fourToFour}, 3))
		})
	}
}

func deadServerIsLeftOut(b *bed) {
	servers := []*nginx{b.nginx(0), b.nginx(1)}
	web := b.web(0, 1)
	web.Health = "type = \"http\"\npath = \"/echo/health\"\n" + quickCheck
	b.start(web)
	if got := b.whoAnswers(10); got["0"] != 5 || got["1"] != 5 {
		b.Errorf("both up: got answers %v, want 5 of each", got)
	}
	if err := servers[0].Stop(); err != nil {
		b.Log(err)
	}
	b.eventually("the dead server is down", func() bool { return b.healthy("web")[0] == ctl.HealthDown })
	if got := b.whoAnswers(10); got["1"] != 10 {
		b.Errorf("one down: got answers %v, want 10 of server 1", got)
	}
	if got := b.service("web").Servers[0]; !strings.Contains(got.Reason, "connection refused") {
		b.Errorf("reason: got %q, want it to say connection refused", got.Reason)
	}
	servers[0] = b.nginx(0)
	b.eventually("it is up again", func() bool { return b.healthy("web")[0] == ctl.HealthUp })
	if got := b.whoAnswers(10); got["0"] != 5 || got["1"] != 5 {
		b.Errorf("both up again: got answers %v, want 5 of each", got)
	}
}

var _ harness.Service
