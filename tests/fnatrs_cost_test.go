package tests

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkFnatrsCost tells what fnatrs costs a server behind fnatd, in requests a
// second, attached and detached in turn. Each operation is a round of both, short,
// so that the machine is the same in both, and in changing order.
//
//	%-fewer            the median of the rounds' ratios
//	%-fewer-low, -high between these it is with 95 % certainty: ranks of the ratios
//	                   by the binomial distribution, which supposes nothing of them
//	server-ns/req      processor time of the server for a request, without and with:
//	                   what runs in interrupts is not in there
//	bpf-ns/req         time in the BPF programs for a request, by the kernel's own
//	                   count, which adds some to each run; -v shows it by program
//
// Only an idle machine and enough rounds give a narrow interval, and a narrower one
// if all runs on one processor, which is then never idle and does not hand over:
//
//	nice -n -10 taskset -c 1 go test ./tests -run '^$' -bench FnatrsCost -benchtime 40x -v
//
// Then a request takes the processor as long as client, server and fnatd work for it,
// and a server that has it to itself loses more by the same nanoseconds.
//
// -v also prints the rounds' ratios, so that those of several runs can be put together.
func BenchmarkFnatrsCost(b *testing.B) {
	nginx := &shower{name: "nginx", protocol: "tcp", port: portNginx, start: startNginx}
	unbound := &shower{name: "unbound", protocol: "udp", port: 53, start: startQuietUnbound}
	echo := &shower{name: "echo", protocol: "udp", port: portRecvfrom, start: startC("recvfrom")}
	for _, load := range []struct {
		name, mode string
		server     *shower
		trust      string
	}{
		{"connect", "connect", nginx, trustLIPs},
		{"keepalive", "keepalive", nginx, trustLIPs},
		{"dns", "dns", unbound, trustLIPs},
		{"dns_without_notices", "dns", unbound, trustNobody},
		{"echo", "udp", echo, trustLIPs},
		{"echo_without_notices", "udp", echo, trustNobody},
	} {
		b.Run(load.name, func(b *testing.B) {
			r := newRealServer(b)
			r.startShowers("", []*shower{load.server})
			c := newCost(r, load.mode, load.trust, r.vip(load.server.port))
			c.yield()
			c.requests() // what is cold
			var without, with measured
			for b.Loop() {
				if len(with.rate)%2 == 0 {
					c.attached(&with)
					c.detached(&without)
				} else {
					c.detached(&without)
					c.attached(&with)
				}
			}
			ratios := make([]float64, len(with.rate))
			for i := range ratios {
				ratios[i] = with.rate[i] / without.rate[i]
			}
			b.Logf("ratios: %.4f", ratios)
			low, high := interval(ratios)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(without.rate), "req/s-without")
			b.ReportMetric(median(with.rate), "req/s-with")
			b.ReportMetric(100*(1-median(ratios)), "%-fewer")
			b.ReportMetric(100*(1-high), "%-fewer-low")
			b.ReportMetric(100*(1-low), "%-fewer-high")
			b.ReportMetric(median(without.server), "server-ns/req-without")
			b.ReportMetric(median(with.server), "server-ns/req-with")
			b.ReportMetric(c.inPrograms(), "bpf-ns/req")
		})
	}
}

// measured is a load's rounds: requests a second, and nanoseconds of the server's
// processor time for each.
type measured struct{ rate, server []float64 }

// A cost is a server under load.
type cost struct {
	*realServer
	load  []string // command
	trust string   // of fnatrs
}

const (
	// trustNobody is a --trust by which no notice counts.
	trustNobody = "192.0.2.0/24"
	// loadTime is how long a load lasts, in seconds.
	loadTime = 0.25
	// settleTime is for what the kernel still frees when programs have gone.
	settleTime = 100 * time.Millisecond
)

func newCost(r *realServer, mode, trust string, at netip.AddrPort) *cost {
	r.Helper()
	name := filepath.Join(r.dir, "load")
	if out, err := exec.Command("cc", "-O2", "-o", name, "testdata/load.c").CombinedOutput(); err != nil {
		r.Fatalf("cc: %v\n%s", err, out)
	}
	const clients = "32"
	return &cost{r, []string{name, mode, at.Addr().String(), fmt.Sprint(at.Port()), clients, fmt.Sprint(loadTime)}, trust}
}

// yield has fnatd wait for client and server: its worker spins between packets, which
// on a processor that they share would leave them a quarter of it, and cost them four
// times what it is.
func (c *cost) yield() {
	c.Helper()
	const last = 19
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.lb.PID()))
	if err != nil {
		c.Fatal(err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, id, last)); err != nil {
			c.Fatal(err)
		}
	}
}

func (c *cost) attached(m *measured) {
	c.Helper()
	c.attach("--trust", c.trust)
	c.detached(m)
	c.detach()
}

func (c *cost) detached(m *measured) {
	c.Helper()
	time.Sleep(settleTime)
	before := c.serverTime()
	all, timed := c.requests()
	m.rate = append(m.rate, timed/loadTime)
	m.server = append(m.server, float64(c.serverTime()-before)/all)
}

// requests has the load run; it returns how many requests were answered, and how
// many of them within loadTime.
func (c *cost) requests() (all, timed float64) {
	c.Helper()
	out := c.run(c.Client, c.load[0], c.load[1:]...)
	if _, err := fmt.Sscan(out, &all, &timed); err != nil || timed == 0 {
		c.Fatalf("load printed %q", out)
	}
	return all, timed
}

// inPrograms returns the nanoseconds that a request takes in fnatrs's programs.
func (c *cost) inPrograms() (sum float64) {
	c.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		c.Fatal(err)
	}
	defer stats.Close()
	c.attach("--trust", c.trust)
	defer c.detach()
	n, _ := c.requests()
	status, err := c.rs.Status()
	if err != nil {
		c.Fatal(err)
	}
	for _, a := range status.Programs {
		s := c.programStats(ebpf.ProgramID(a.ID))
		if s.RunCount == 0 {
			continue
		}
		c.Logf("%s: %.2f runs a request of %d ns", a.Program, float64(s.RunCount)/n, s.Runtime.Nanoseconds()/int64(s.RunCount))
		sum += float64(s.Runtime) / n
	}
	return sum
}

func (c *cost) programStats(id ebpf.ProgramID) *ebpf.ProgramStats {
	c.Helper()
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		c.Fatal(err)
	}
	defer p.Close()
	s, err := p.Stats()
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// serverTime returns the processor time of the processes in the cgroup.
func (c *cost) serverTime() time.Duration {
	c.Helper()
	text, err := os.ReadFile(filepath.Join(c.cgroup.Path, "cpu.stat"))
	if err != nil {
		c.Fatal(err)
	}
	var micros int64
	if _, err := fmt.Sscanf(string(text), "usage_usec %d", &micros); err != nil {
		c.Fatalf("cpu.stat: %v in %q", err, text)
	}
	return time.Duration(micros) * time.Microsecond
}

// interval returns the two samples between which the median is with 95 %
// certainty: the sign test's.
func interval(all []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(all))
	n := float64(len(sorted))
	rank := max(0, int((n-1.96*math.Sqrt(n))/2))
	return sorted[rank], sorted[len(sorted)-1-rank]
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
