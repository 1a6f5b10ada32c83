package tests

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkFnatrsCost tells what fnatrs costs a server behind fnatd:
//
//	%-fewer      requests a second, attached and detached in turn: the median of
//	             the rounds' ratios. Each operation is a round of both
//	bpf-ns/req   time in the BPF programs for a request, by the kernel's own count
//	cpu-ns/req   processor time of the server for a request, programs included
//
// Only an idle machine gives a %-fewer of use; the other two hardly depend on that.
//
//	go test ./tests -run '^$' -bench FnatrsCost -benchtime 15x
func BenchmarkFnatrsCost(b *testing.B) {
	for _, load := range []struct {
		mode string
		port uint16
	}{{"keepalive", portNginx}, {"connect", portNginx}, {"udp", portRecvfrom}} {
		b.Run(load.mode, func(b *testing.B) {
			r := newRealServer(b)
			r.startShowers("", slices.DeleteFunc(showers(), func(s *shower) bool { return s.port != load.port }))
			c := newCost(r, load.mode, r.vip(load.port))
			c.requests() // what is cold
			var without, with, ratios []float64
			for b.Loop() {
				// The order changes from round to round, as the machine does.
				for i := range 2 {
					if attached := (len(ratios)+i)%2 == 1; attached {
						r.attach("--trust", trustLIPs)
						with = append(with, c.requests())
						r.detach()
					} else {
						without = append(without, c.requests())
					}
				}
				ratios = append(ratios, with[len(with)-1]/without[len(without)-1])
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(without), "req/s-without")
			b.ReportMetric(median(with), "req/s-with")
			b.ReportMetric(100*(1-median(ratios)), "%-fewer")
			programs, server := c.perRequest()
			b.ReportMetric(programs, "bpf-ns/req")
			b.ReportMetric(server, "cpu-ns/req")
		})
	}
}

// A cost is a server under load.
type cost struct {
	*realServer
	load []string // command
}

// loadTime is how long a load lasts, in seconds.
const loadTime = 1

func newCost(r *realServer, mode string, at netip.AddrPort) *cost {
	r.Helper()
	name := filepath.Join(r.dir, "load")
	if out, err := exec.Command("cc", "-O2", "-o", name, "testdata/load.c").CombinedOutput(); err != nil {
		r.Fatalf("cc: %v\n%s", err, out)
	}
	const clients = "32"
	return &cost{r, []string{name, mode, at.Addr().String(), fmt.Sprint(at.Port()), clients, fmt.Sprint(loadTime)}}
}

// requests returns how many requests a second are answered.
func (c *cost) requests() float64 {
	c.Helper()
	out := c.run(c.Client, c.load[0], c.load[1:]...)
	n, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil || n == 0 {
		c.Fatalf("load printed %q", out)
	}
	return n / loadTime
}

// perRequest returns the nanoseconds that a request takes in fnatrs's programs,
// and of the server's processor time.
func (c *cost) perRequest() (programs, server float64) {
	c.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		c.Fatal(err)
	}
	defer stats.Close()
	c.attach("--trust", trustLIPs)
	defer c.detach()
	p0, s0 := c.programTime(), c.serverTime()
	n := c.requests() * loadTime
	return float64(c.programTime()-p0) / n, float64(c.serverTime()-s0) / n
}

// programTime returns how long the programs have run since they were loaded.
func (c *cost) programTime() (sum time.Duration) {
	c.Helper()
	status, err := c.rs.Status()
	if err != nil {
		c.Fatal(err)
	}
	for _, a := range status.Programs {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(a.ID))
		if err != nil {
			c.Fatal(err)
		}
		s, err := p.Stats()
		p.Close()
		if err != nil {
			c.Fatal(err)
		}
		sum += s.Runtime
	}
	return sum
}

// serverTime returns the processor time of the processes in the cgroup: utime
// and stime of proc_pid_stat(5), in hundredths of a second.
func (c *cost) serverTime() (sum time.Duration) {
	c.Helper()
	pids, err := os.ReadFile(filepath.Join(c.cgroup.Path, "cgroup.procs"))
	if err != nil {
		c.Fatal(err)
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			c.Fatal(err)
		}
		_, fields, _ := strings.Cut(string(text), ") ")
		for _, f := range strings.Fields(fields)[11:13] {
			n, err := strconv.Atoi(f)
			if err != nil {
				c.Fatal(err)
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
