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
	"github.com/cilium/ebpf/asm"
	bpflink "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// BenchmarkFnatrsCost tells what fnatrs costs a server behind fnatd, in requests a
// second, attached and detached in turn, and what programs that do nothing cost where
// its programs are: the part of it that is the kernel's, which no program can have
// for less. Each operation is a round of all three, short, so that the machine is the
// same in each, and in changing order.
//
//	%-fewer            the median of the rounds' ratios
//	%-fewer-low, -high between these it is with 95 % certainty: ranks of the ratios
//	                   by the binomial distribution, which supposes nothing of them
//	%-hooks, -low …    the same with the programs that do nothing
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
		args       []string
	}{
		{"connect", "connect", nginx, []string{"--trust", trustLIPs}},
		{"keepalive", "keepalive", nginx, []string{"--trust", trustLIPs}},
		{"dns", "dns", unbound, []string{"--trust", trustLIPs}},
		{"dns_without_notices", "dns", unbound, []string{"--trust", trustNobody}},
		{"dns_no_syn", "dns", unbound, []string{"--trust", trustLIPs, "--no-syn"}},
		{"echo", "udp", echo, []string{"--trust", trustLIPs}},
		{"echo_without_notices", "udp", echo, []string{"--trust", trustNobody}},
	} {
		b.Run(load.name, func(b *testing.B) {
			r := newRealServer(b)
			r.startShowers("", []*shower{load.server})
			c := newCost(r, load.mode, load.args, r.vip(load.server.port))
			c.yield()
			c.requests() // what is cold
			bpf := c.inPrograms()
			var without, with, hooks measured
			round := []func(){
				func() { c.round(&without) },
				func() { c.attached(&with) },
				func() { c.hooked(&hooks) },
			}
			for n := 0; b.Loop(); n++ {
				for i := range round {
					round[(i+n)%len(round)]()
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(without.rate), "req/s-without")
			b.ReportMetric(median(with.rate), "req/s-with")
			reportFewer(b, "fewer", &without, &with)
			reportFewer(b, "hooks", &without, &hooks)
			b.ReportMetric(median(without.server), "server-ns/req-without")
			b.ReportMetric(median(with.server), "server-ns/req-with")
			b.ReportMetric(bpf, "bpf-ns/req")
		})
	}
}

// reportFewer tells how many requests a second fewer there were in a state than without.
func reportFewer(b *testing.B, name string, without, with *measured) {
	b.Helper()
	ratios := make([]float64, len(with.rate))
	for i := range ratios {
		ratios[i] = with.rate[i] / without.rate[i]
	}
	b.Logf("%s: ratios: %.4f", name, ratios)
	low, high := interval(ratios)
	b.ReportMetric(100*(1-median(ratios)), "%-"+name)
	b.ReportMetric(100*(1-high), "%-"+name+"-low")
	b.ReportMetric(100*(1-low), "%-"+name+"-high")
}

// measured is a load's rounds: requests a second, and nanoseconds of the server's
// processor time for each.
type measured struct{ rate, server []float64 }

// A cost is a server under load.
type cost struct {
	*realServer
	load  []string // command
	args  []string // of fnatrs
	empty []bpflink.CgroupOptions
}

const (
	// trustNobody is a --trust by which no notice counts.
	trustNobody = "192.0.2.0/24"
	// loadTime is how long a load lasts, in seconds.
	loadTime = 0.25
	// settleTime is for what the kernel still frees when programs have gone.
	settleTime = 100 * time.Millisecond
)

func newCost(r *realServer, mode string, args []string, at netip.AddrPort) *cost {
	r.Helper()
	name := filepath.Join(r.dir, "load")
	if out, err := exec.Command("cc", "-O2", "-o", name, "testdata/load.c").CombinedOutput(); err != nil {
		r.Fatalf("cc: %v\n%s", err, out)
	}
	const clients = "32"
	return &cost{realServer: r, args: args,
		load: []string{name, mode, at.Addr().String(), fmt.Sprint(at.Port()), clients, fmt.Sprint(loadTime)}}
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
	c.attach(c.args...)
	c.round(m)
	c.detach()
}

// hooked is a round with programs that do nothing attached where fnatrs's were.
func (c *cost) hooked(m *measured) {
	c.Helper()
	var all []bpflink.Link
	for _, o := range c.empty {
		l, err := bpflink.AttachCgroup(o)
		if err != nil {
			c.Fatal(err)
		}
		all = append(all, l)
	}
	c.round(m)
	for _, l := range all {
		if err := l.Close(); err != nil {
			c.Fatal(err)
		}
	}
}

// cgroupHooks are the hooks of fnatrs's features that are of cgroups.
var cgroupHooks = map[string]ebpf.AttachType{
	"getpeername4": ebpf.AttachCgroupInet4GetPeername, "getpeername6": ebpf.AttachCgroupInet6GetPeername,
	"getsockopt": ebpf.AttachCGroupGetsockopt, "sock_ops": ebpf.AttachCGroupSockOps, "inet_ingress": ebpf.AttachCGroupInetIngress,
	"recvmsg4": ebpf.AttachCGroupUDP4Recvmsg, "recvmsg6": ebpf.AttachCGroupUDP6Recvmsg,
	"sendmsg4": ebpf.AttachCGroupUDP4Sendmsg, "sendmsg6": ebpf.AttachCGroupUDP6Sendmsg,
	"connect4": ebpf.AttachCGroupInet4Connect, "connect6": ebpf.AttachCGroupInet6Connect,
}

// loadEmpty loads a program that does nothing for a hook of the cgroup.
func (c *cost) loadEmpty(hook string, kind ebpf.ProgramType) {
	c.Helper()
	at, ok := cgroupHooks[hook]
	if !ok {
		return
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "empty", Type: kind, AttachType: at, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		c.Fatalf("%s: %v", hook, err)
	}
	c.Cleanup(func() { p.Close() })
	c.empty = append(c.empty, bpflink.CgroupOptions{Path: c.cgroup.Path, Attach: at, Program: p})
}

// round has the load run once.
func (c *cost) round(m *measured) {
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

// inPrograms returns the nanoseconds that a request takes in fnatrs's programs, and
// loads those for hooked.
func (c *cost) inPrograms() (sum float64) {
	c.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		c.Fatal(err)
	}
	defer stats.Close()
	c.attach(c.args...)
	defer c.detach()
	n, _ := c.requests()
	status, err := c.rs.Status()
	if err != nil {
		c.Fatal(err)
	}
	for _, a := range status.Programs {
		s, kind := c.program(a.ID)
		c.loadEmpty(a.Hook, kind)
		if s.RunCount == 0 {
			continue
		}
		c.Logf("%s: %.2f runs a request of %d ns", a.Program, float64(s.RunCount)/n, s.Runtime.Nanoseconds()/int64(s.RunCount))
		sum += float64(s.Runtime) / n
	}
	return sum
}

func (c *cost) program(id uint32) (*ebpf.ProgramStats, ebpf.ProgramType) {
	c.Helper()
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		c.Fatal(err)
	}
	defer p.Close()
	s, err := p.Stats()
	if err != nil {
		c.Fatal(err)
	}
	return s, p.Type()
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
