package tests

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// A bed is a rig for one test, and the fnatd that runs on it.
type bed struct {
	testing.TB
	*netns.Rig
	families
	guard string         // of TCP services: where SYNs are answered, or none
	lb    *harness.Fnatd // nil: none
	dir   string         // for files, which every user may read
}

// newBed returns a bed without fnatd.
func newBed(t testing.TB, v variant, servers int) *bed {
	t.Helper()
	b := newBedOf(t, netns.Topology{Shape: v.shape, Servers: servers, Queues: v.queues})
	b.families, b.guard = v.families, v.guard
	if v.guard == "xdp" { // a veth takes what XDP_TX sends only if it runs a program itself
		b.attach(b.Client, "eth0", asm.Mov.Imm(asm.R0, xdpPass), asm.Return())
	}
	return b
}

// newBedOf returns a bed on a rig of any topology, for IPv4.
func newBedOf(t testing.TB, topology netns.Topology) *bed {
	t.Helper()
	rig := netns.ForTest(t, topology)
	b := &bed{TB: t, Rig: rig, families: fourToFour, dir: t.TempDir()}
	for _, dir := range []string{b.dir, filepath.Dir(b.dir)} { // made for us alone
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.RemoveAll(b.pinDir()) // of a killed test's namespace that had the same number
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
	if b.lb, err = harness.Start(b.Rig, bin+"/fnatd", b.dir, harness.Config(b.Rig, b.dir, dataplane, b.guarded(services)...)); err != nil {
		b.Fatal(err)
	}
}

// reload puts these services in force, and returns what fnatd says has changed.
func (b *bed) reload(services ...harness.Service) []string {
	b.Helper()
	r, err := b.lb.Reload(harness.Config(b.Rig, b.dir, "", b.guarded(services)...))
	if err != nil {
		b.Fatal(err)
	}
	return r.Changes
}

// guarded returns services with SYNPROXY on, if the bed's are to have it.
func (b *bed) guarded(services []harness.Service) []harness.Service {
	services = slices.Clone(services)
	for i := range services {
		if s := &services[i]; b.guard != "" && s.Protocol != "udp" && !strings.Contains(s.Keys, "synproxy") {
			s.Keys += fmt.Sprintf("\nsynproxy = { answer = %q }", b.guard)
		}
	}
	return services
}

// configure writes these services to the configuration file, without a reload.
func (b *bed) configure(services ...harness.Service) {
	b.Helper()
	if err := b.lb.Configure(harness.Config(b.Rig, b.dir, "", b.guarded(services)...)); err != nil {
		b.Fatal(err)
	}
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
		for _, trace := range []string{"xdp", b.vip(0).Addr().String(), netns.LIP(0).String(), netns.LIP(1).String(), netns.LIP6(0).String(), netns.LIP6(1).String()} {
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

// accept has a host serve each TCP connection to an endpoint, and close it then.
func (b *bed) accept(on *netns.Host, at netip.AddrPort, serve func(net.Conn)) {
	b.Helper()
	l, err := on.Listen("tcp", at.String())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

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
