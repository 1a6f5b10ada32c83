// The whole program on the rig. fnatd runs in the balancer's namespace, between
// programs that know nothing of it:
//
//	client              balancer                  switch       server0, server1 …
//	198.18.0.2         198.18.0.1  198.19.0.1                  198.19.0.101 …
//	┌───────┐         ┌──────────────────────┐    ┌─────┐      ┌────────────┐
//	│   eth0├─────────┤wan0   fnatd      lan0├────┤ br0 ├──────┤eth0        │   two-arm
//	└───────┘         └──────────────────────┘    └─────┘      └────────────┘
//	curl, iperf3       VIP          LIP                        nginx, iperf3
//	dnsperf, ping      198.18.0.100 198.19.0.10, .11           unbound
//
//	┌───────┐                                     ┌─────┐      ┌────────────┐
//	│   eth0├─────────────────────────────────────┤     ├──────┤eth0        │   one-arm
//	└───────┘         ┌──────────────────────┐    │ br0 │      └────────────┘
//	                  │       fnatd      eth0├────┤     │
//	                  └──────────────────────┘    └─────┘
//
// Addresses are the same in both. Nobody else forwards: what reaches the other
// side has been carried there by fnatd. TestFnatd runs every scenario on every
// variant, each on a rig and a fnatd of its own.
package tests

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// bin is where TestMain has built fnatd and fnatctl.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "fnatd-bin-"); err == nil {
		defer os.RemoveAll(bin)
		err = harness.Build("..", bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// A variant is one point of the matrix that every scenario is run on.
type variant struct {
	shape  netns.Shape
	queues int
}

var matrix = []variant{
	{netns.TwoArm, 1},
	{netns.OneArm, 1},
}

func (v variant) String() string {
	if v.queues == 1 {
		return v.shape.String()
	}
	return fmt.Sprintf("%v_%d_queues", v.shape, v.queues)
}

// scenarios is what fnatd does for its users.
var scenarios = []struct {
	name string
	run  func(*bed)
}{
	{"download_and_upload_of_100_MB_are_intact", downloadAndUpload},
	{"1000_connections_at_a_time_do_not_mix", thousandConnections},
	{"many_requests_on_one_connection", keepAlive},
	{"iperf3_completes_both_ways", iperfBothWays},

	{"either_end_may_close_its_half", halfClose},
	{"reset_reaches_the_other_end", resetReachesOtherEnd},
	{"idle_connection_is_reset_at_both_ends", idleConnectionIsReset},
	{"client_learns_that_its_server_died", serverDies},
	{"connection_survives_links_down_and_up", linkDownAndUp},

	{"round_robin_counts_are_exact", roundRobinIsExact},
	{"persistence_keeps_a_client_on_its_server", persistenceKeepsServer},
	{"weight_0_drains", weightZeroDrains},
	{"upper_threshold_is_respected", upperThresholdIsRespected},

	{"udp_clients_get_their_own_answers", udpEcho},
	{"dns_under_load_loses_nothing", dnsUnderLoad},

	{"servers_are_told_the_client_by_tcp_option", clientAddressOptions},
	{"forged_options_are_blanked", forgedOptionsAreBlanked},
	{"servers_are_told_the_client_by_udp_notice", udpNotices},

	{"reload_in_mid_stream_is_not_noticed", reloadInMidStream},
	{"bad_reload_changes_nothing", badReloadChangesNothing},
	{"figures_are_true", figuresAreTrue},

	{"host_keeps_everything_else", hostKeepsEverythingElse},
	{"killed_fnatd_leaves_silence_and_the_next_takes_over", killAndReturn},

	{"idle_fnatd_hardly_uses_a_processor", idleIsCheap},
	{"busy_poll_uses_its_core", busyPollUsesItsCore},
}

func TestFnatd(t *testing.T) {
	for _, v := range matrix {
		t.Run(v.String(), func(t *testing.T) {
			for _, s := range scenarios {
				t.Run(s.name, func(t *testing.T) { s.run(newBed(t, v, 3)) })
			}
		})
	}
}

// A bed is a rig for one test, and the fnatd that runs on it.
type bed struct {
	*testing.T
	*netns.Rig
	lb  *harness.Fnatd // nil: none
	dir string         // for files, which every user may read
}

// newBed returns a bed without fnatd.
func newBed(t *testing.T, v variant, servers int) *bed {
	t.Helper()
	rig := netns.ForTest(t, netns.Topology{Shape: v.shape, Servers: servers, Queues: v.queues})
	b := &bed{T: t, Rig: rig, dir: t.TempDir()}
	for _, dir := range []string{b.dir, filepath.Dir(b.dir)} { // made for us alone
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(b.stop)
	return b
}

// start runs fnatd with these services.
func (b *bed) start(services ...harness.Service) {
	b.Helper()
	b.startWith("", services...)
}

// startWith is start with more lines in [dataplane].
func (b *bed) startWith(dataplane string, services ...harness.Service) {
	b.Helper()
	var err error
	if b.lb, err = harness.Start(b.Rig, bin+"/fnatd", b.dir, harness.Config(b.Rig, b.dir, dataplane, services...)); err != nil {
		b.Fatal(err)
	}
}

// reload puts these services in force, and returns what fnatd says has changed.
func (b *bed) reload(services ...harness.Service) []string {
	b.Helper()
	r, err := b.lb.Reload(harness.Config(b.Rig, b.dir, "", services...))
	if err != nil {
		b.Fatal(err)
	}
	return r.Changes
}

// stop ends fnatd, if it runs. However a test ends, its fnatd must exit with 0,
// which says that no frame was lost, and leave nothing on the interfaces.
func (b *bed) stop() {
	b.Helper()
	if b.lb == nil {
		return
	}
	lb := b.lb
	b.lb = nil
	if b.Failed() {
		b.Logf("fnatd printed:\n%s", lb.Log())
		drops, err := lb.Ctl.Drops(context.Background())
		for _, d := range drops {
			if d.Count > 0 {
				b.Logf("drops: %s %d", d.Reason, d.Count)
			}
		}
		if err != nil {
			b.Log(err)
		}
	}
	if err := lb.Stop(); err != nil {
		b.Error(err)
	}
	b.checkClean()
}

// checkClean fails the test if a trace of fnatd is left on the balancer.
func (b *bed) checkClean() {
	b.Helper()
	for _, trace := range b.traces() {
		b.Errorf("fnatd has stopped and left %s", trace)
	}
	os.RemoveAll(b.pinDir()) // pinned programs would outlive the rig
}

// traces returns what fnatd has put on the balancer's interfaces and in the BPF
// file system.
func (b *bed) traces() (all []string) {
	b.Helper()
	for _, name := range b.Interfaces() {
		out, err := b.Balancer.Run(context.Background(), "ip", "-d", "addr", "show", "dev", name)
		if err != nil {
			b.Error(err)
		}
		for _, trace := range []string{"xdp", netns.VIP(0).String(), netns.LIP(0).String(), netns.LIP(1).String()} {
			if strings.Contains(out, trace) {
				all = append(all, trace+" on "+name)
			}
		}
	}
	if _, err := os.Stat(b.pinDir()); err == nil {
		all = append(all, b.pinDir())
	}
	return append(all, b.pins()...)
}

// pinDir returns where fnatd pins its programs in the balancer's namespace.
func (b *bed) pinDir() string {
	b.Helper()
	var ns syscall.Stat_t
	if err := syscall.Stat(b.Balancer.Path, &ns); err != nil {
		b.Fatal(err)
	}
	return filepath.Join("/sys/fs/bpf/fnatd", strconv.FormatUint(ns.Ino, 10))
}

// pins returns what is pinned there.
func (b *bed) pins() []string {
	b.Helper()
	pins, _ := filepath.Glob(b.pinDir() + "/*")
	return pins
}

// patience is how long a condition may take to come true. Nothing here is
// about speed: it only ends a test that would wait for ever.
const patience = 30 * time.Second

// eventually waits until cond holds.
func (b *bed) eventually(what string, cond func() bool) {
	b.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			b.Fatalf("after %v still not so: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// vip returns port of the first virtual address.
func vip(port uint16) netip.AddrPort { return netip.AddrPortFrom(netns.VIP(0), port) }

// rip returns port of the i-th server.
func rip(i int, port uint16) netip.AddrPort { return netip.AddrPortFrom(netns.ServerAddr(i), port) }

// to returns the servers with these numbers, all at one port.
func to(port uint16, servers ...int) (all []harness.Server) {
	for _, i := range servers {
		all = append(all, harness.Server{Real: rip(i, port)})
	}
	return all
}

// service asks for the figures of one service.
func (b *bed) service(name string) ctl.Service {
	b.Helper()
	all, err := b.lb.Ctl.Services(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	b.Fatalf("fnatd has no service %q: %+v", name, all)
	return ctl.Service{}
}

// connections asks for the connections in a state, "" for all.
func (b *bed) connections(state string) (all []ctl.Connection) {
	b.Helper()
	for c, err := range b.lb.Ctl.Connections(b.Context(), ctl.Filter{State: state}) {
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// drops asks how many packets were dropped for a reason.
func (b *bed) drops(reason string) uint64 {
	b.Helper()
	all, err := b.lb.Ctl.Drops(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range all {
		if d.Reason == reason {
			return d.Count
		}
	}
	b.Fatalf("fnatd has no drop reason %q", reason)
	return 0
}

// run runs a program on a host to its end, which must be a success.
func (b *bed) run(on *netns.Host, name string, args ...string) string {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	out, err := on.Run(ctx, name, args...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// background starts a program on a host and waits until ready holds.
func (b *bed) background(on *netns.Host, ready func() bool, name string, args ...string) *netns.Process {
	b.Helper()
	p, err := on.Background(name, args...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if b.Failed() && p.Output() != "" {
			b.Logf("%s on %s printed:\n%s", name, on.Name, p.Output())
		}
	})
	b.eventually(name+" is ready", ready)
	return p
}

// answers returns a condition: host i accepts connections at its address.
func (b *bed) answers(on *netns.Host, at netip.AddrPort) func() bool {
	return func() bool {
		c, err := on.Dial(b.Context(), "tcp", at.String())
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
}
