package tests

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// TestTenThousandChecks runs fnatd with 1,000 services of 10 real servers each,
// all checked. The rig has three hosts for them, so a server is one of their
// ports and its check asks nginx there.
func TestTenThousandChecks(t *testing.T) {
	b := newBedOf(t, netns.Topology{Shape: netns.TwoArm, Servers: 3, Queues: 1})
	for i := range 3 {
		b.nginx(i)
	}
	services := func(fall int) (all []harness.Service) {
		for i := range 1000 {
			s := harness.Service{
				Name: fmt.Sprintf("s%d", i), Virtual: b.vip(uint16(10_000 + i)), Keys: `scheduler = "rr"`,
				Health: fmt.Sprintf("type = \"tcp\"\nport = 8080\ninterval = \"10s\"\nfall = %d\nalpha = true\n", fall),
			}
			for j := range 10 {
				s.Servers = append(s.Servers, b.to(uint16(9000+j), j%3)...)
			}
			all = append(all, s)
		}
		return all
	}
	b.start(services(3)...)
	up := func() (n int) {
		all, err := b.lb.Ctl.Health(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range all {
			for _, r := range s.Servers {
				if r.State == ctl.HealthUp {
					n++
				}
			}
		}
		return n
	}
	b.eventually("all servers are up", func() bool { return up() == 10_000 })
	if n := b.threads(); n > 100 {
		b.Errorf("fnatd has %d threads, want no more than programs that need none", n)
	}
	for _, fall := range []int{3, 4} {
		began := time.Now()
		changes := b.reload(services(fall)...)
		b.Logf("reload with %d changes took %v", len(changes), time.Since(began))
		if want := (fall - 3) * 10_000; len(changes) != want {
			b.Errorf("reload: got %d changes, want %d", len(changes), want)
		}
	}
	if n := up(); n != 10_000 {
		b.Errorf("after the reload: got %d servers up, want all 10,000", n)
	}
}

var threads = regexp.MustCompile(`(?m)^Threads:\s+(\d+)$`)

// threads returns how many fnatd has.
func (b *bed) threads() int {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.lb.PID()))
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.Atoi(threads.FindStringSubmatch(string(status))[1])
	if err != nil {
		b.Fatal(err)
	}
	return n
}
