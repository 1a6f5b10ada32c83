package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/tests/bench/load"
	"github.com/fnatd/fnatd/tests/harness"
)

// killsVariable is how often fnatd is killed in each variant of the test below, if it is
// not to be as often as is good for every day. FNATD_TEST_KILLS=100 takes two minutes
// for each.
const killsVariable = "FNATD_TEST_KILLS"

// TestKilledUnderChurn kills fnatd again and again, at any instant of its life and of its
// start, while clients make 2,000 connections a second. No connection that was
// established may break: short ones, others that wait, others that talk all the time.
// What each fnatd has left is looked at before the next one comes.
func TestKilledUnderChurn(t *testing.T) {
	kills := 25
	if n := os.Getenv(killsVariable); n != "" {
		var err error
		if kills, err = strconv.Atoi(n); err != nil {
			t.Fatalf("%s: %v", killsVariable, err)
		}
	}
	for _, v := range []variant{
		{netns.TwoArm, 1, fourToFour, false, ""},
		{netns.OneArm, 2, fourToFour, false, "userspace"},
	} {
		t.Run(v.String(), func(t *testing.T) { killedUnderChurn(newBed(t, v, 2), kills) })
	}
}

func killedUnderChurn(b *bed, kills int) {
	b.inMemory()
	b.repeatSoon()
	stop := b.loadServers()
	defer stop()
	// A TCP that kill after kill loses what it sends may wait longer to repeat a FIN
	// than fnatd waits for it by default.
	patient := `syn_received = "2m"
fin_wait = "2m"
close_wait = "2m"
last_ack = "2m"`
	keys := ""
	if b.guard != "" { // a server whose queue is full may be silent for longer than fnatd waits by default
		keys = fmt.Sprintf("synproxy = { answer = %q, syn_retries = 5 }", b.guard)
	}
	short := harness.Service{Name: "short", Virtual: b.vip(81), Keys: keys, Timeout: patient, Servers: b.to(load.ShortPort, 0, 1)}
	echo := harness.Service{Name: "echo", Virtual: b.vip(80), Keys: keys, Timeout: patient, Servers: b.to(load.EchoPort, 0, 1)}
	b.start(short, echo)

	waiting, talking := b.kept(300, 80), b.talk(40)
	enough, churned := make(chan struct{}), make(chan error, 1)
	var churn *load.ShortResult
	go func() {
		var err error
		churn, err = (&load.Short{
			Target: b.vip(81), Sources: []netip.Addr{b.clientAddr()}, InFlight: 10_000, Rate: 2000,
			Patience: 90 * time.Second, Time: time.Hour, Enough: enough,
		}).Run(b.Context(), b.Client, 0)
		churned <- err
	}()

	first := map[netip.AddrPort]string{}
	inStart, half := 0, 0
	for i := range kills {
		if i%3 == 2 { // in its start, or soon after
			fnatd, err := b.Balancer.Background(bin+"/fnatd", "-c", harness.ConfigFile(b.dir))
			if err != nil {
				b.Fatal(err)
			}
			time.Sleep(rand.N(250 * time.Millisecond))
			fnatd.Kill()
			if !strings.Contains(fnatd.Output(), "msg=forwarding") {
				inStart++
			}
		} else {
			if b.lb == nil {
				b.start(short, echo)
				if a := b.adoption(); a.lost != 0 {
					b.Fatalf("kill %d: adopted %+v, want nothing lost:\n%s", i, a, b.lb.Log())
				}
			}
			b.each(waiting, func(i int) error { return bounce(waiting[i]) })
			time.Sleep(rand.N(500 * time.Millisecond))
			b.kill()
		}
		half += b.checkLeft(load.EchoPort, first)
	}
	b.start(short, echo)
	close(enough)
	if err := <-churned; err != nil {
		b.Fatal(err)
	}
	b.each(waiting, func(i int) error { return bounce(waiting[i]) })
	for _, err := range talking() {
		b.Error(err)
	}
	b.Logf("%d kills, %d of them before fnatd forwarded; of %d short connections %d were answered; %d half-open ones were found in the tables left",
		kills, inStart, churn.Begun, churn.Done, half)
	if churn.Broken != 0 {
		b.Errorf("%d of %d short connections broke after they were established", churn.Broken, churn.Begun)
		if b.guard != "" {
			b.Logf("SYNPROXY has counted %v", b.guardStats().Events)
		}
	}
	if churn.Done < kills*100 {
		b.Errorf("only %d short connections came to their end", churn.Done)
	}
}

// inMemory has the bed's files lie in memory, as the state of a fnatd should.
func (b *bed) inMemory() {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fnatd-test-")
	if err != nil {
		b.Fatal(err)
	}
	b.dir = dir
	b.Cleanup(func() { os.RemoveAll(dir) })
}

// repeatSoon has both ends repeat what is lost every second at least (Linux 6.15), and
// for as long as the test takes. Where they double their patience instead, one that
// meets kill after kill may outwait its cookie, or the test.
func (b *bed) repeatSoon() {
	b.Helper()
	for _, h := range append([]*netns.Host{b.Client}, b.Servers...) {
		if err := h.Sysctl("net/ipv4/tcp_rto_max_ms", "1000"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.Fatal(err)
		}
		for _, retries := range []string{"tcp_syn_retries", "tcp_synack_retries", "tcp_orphan_retries", "tcp_retries2"} {
			if err := h.Sysctl("net/ipv4/"+retries, "100"); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// loadServers has every server of the bed serve the ports of load.
func (b *bed) loadServers() (stop func()) {
	b.Helper()
	s, err := load.NewServer(b.Servers)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, 0) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// talk makes so many connections on which something is under way at every moment,
// until the result is called, which returns what went wrong.
func (b *bed) talk(n int) (finish func() []error) {
	b.Helper()
	conns := b.kept(n, 80)
	quit := make(chan struct{})
	errs := make(chan error, n)
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			for {
				select {
				case <-quit:
					return
				case <-time.After(rand.N(20 * time.Millisecond)):
				}
				if err := bounce(c); err != nil {
					errs <- fmt.Errorf("talking connection %d: %w", i, err)
					return
				}
			}
		})
	}
	return func() (failed []error) {
		close(quit)
		all.Wait()
		close(errs)
		for err := range errs {
			failed = append(failed, err)
		}
		return failed
	}
}

// checkLeft looks at what a killed fnatd has left: the table must be whole, and the
// connections with a port of the servers must have the local ports, real servers and
// IDs that they have in first, which is filled by the first call. It returns how many
// half-open connections there are.
func (b *bed) checkLeft(port uint16, first map[netip.AddrPort]string) (half int) {
	b.Helper()
	f, err := state.Open(b.copyOf(filepath.Join(b.dir, "state")))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	table, found, err := conntrack.Adopt(f.Table())
	if err != nil {
		b.Fatal(err)
	}
	if err := table.Check(); err != nil || found.Lost() > 0 || found.Entries > 0 {
		b.Fatalf("the state left: %v, %+v, want all to be sound", err, *found)
	}
	is := map[netip.AddrPort]string{}
	each := func(c *conntrack.Conn) {
		if c.State.HalfOpen() {
			half++
		}
		if real := table.Binding(c.Binding()).Real; real.Port == port {
			client := netip.AddrPortFrom(c.Client.Netip(), c.ClientPort)
			is[client] = fmt.Sprint(c.Binding(), real, c.Local, table.Local(c.Local).Addr, c.LocalPort)
		}
	}
	table.WhenRead(func(s *conntrack.Shard) { s.Each(each) })
	if len(first) == 0 {
		for client, conn := range is {
			first[client] = conn
		}
	}
	for client, conn := range first {
		if is[client] != conn {
			b.Fatalf("connection of %v: %q was left among %d, want %q", client, is[client], len(is), conn)
		}
	}
	return half
}

// copyOf copies a file beside itself.
func (b *bed) copyOf(path string) string {
	b.Helper()
	from, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(path + ".copy")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		b.Fatal(err)
	}
	if err := to.Close(); err != nil {
		b.Fatal(err)
	}
	return path + ".copy"
}
