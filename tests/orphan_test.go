package tests

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/tests/harness"
)

// A server on the balancer itself listens on the port of the VIP that fnatd
// serves. Clients see it only when fnatd has been dead for as long as is
// configured, and no longer than that.

const passAfterASecond = "orphaned = \"pass\"\norphaned_after = \"1s\""

func TestOrphanedPass(t *testing.T) {
	for name, guard := range map[string]string{"plain": "", "with_cookies_in_xdp": "xdp"} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, guard}, 1)
			accepted, host := b.orphanServers()
			b.startWith(passAfterASecond, b.web(0))
			b.passesWhenKilled(accepted, host)
		})
	}
}

func TestOrphanedPassByReload(t *testing.T) {
	b := newBed(t, variant{netns.OneArm, 1, sixToSix, false, ""}, 1)
	accepted, host := b.orphanServers()
	b.start(b.web(0))
	if _, err := b.lb.Reload(harness.Config(b.Rig, b.dir, passAfterASecond, b.web(0))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // two signs of life
	b.passesWhenKilled(accepted, host)
}

func TestOrphanedDrop(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	accepted, host := b.orphanServers()
	b.start(b.web(0))
	b.connect(accepted).exchange()
	b.lb.Kill()
	if _, err := b.dial(b.vip(80), 2500*time.Millisecond); err == nil || !os.IsTimeout(err) {
		t.Errorf("got %v, want silence", err)
	}
	b.start(b.web(0))
	b.connect(accepted).exchange()
	if n := len(host); n > 0 {
		t.Errorf("the host's own server got %d connections, want none", n)
	}
}

// orphanServers starts a real server and the balancer's own.
func (b *bed) orphanServers() (accepted, host <-chan *net.TCPConn) {
	b.Helper()
	return b.listen(b.Servers[0], b.rip(0, 8080)), b.listen(b.Balancer, netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
}

// passesWhenKilled kills a fnatd that is to be missed for a second, and starts
// another one in the end.
func (b *bed) passesWhenKilled(accepted, host <-chan *net.TCPConn) {
	b.Helper()
	old := b.connect(accepted)
	old.exchange()
	killed := time.Now()
	b.lb.Kill()

	// The first SYN is dropped, and the one that repeats it after a second passes. Half
	// a second is less than the shortest time that may be between the two.
	b.connect(host).exchange()
	if passed := time.Since(killed); passed < 500*time.Millisecond {
		b.Errorf("the host's own server was reached %v after the kill", passed)
	}
	// What belongs to nobody's connection the kernel answers as it always does.
	old.client.Write([]byte("is anybody there?"))
	if _, err := old.client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		b.Errorf("old connection: got %v, want a RST of the kernel's", err)
	}

	b.startWith(passAfterASecond, b.web(0))
	b.connect(accepted).exchange()
	if n := len(host); n > 0 {
		b.Errorf("fnatd is back and the host's own server got %d connections more", n)
	}
}

// TestTakeoverIsSilent has a client knock all the time between the death of one
// fnatd and the start of the next, which must at no moment leave a SYN to the kernel.
func TestTakeoverIsSilent(t *testing.T) {
	b := newBed(t, variant{netns.TwoArm, 1, fourToFour, false, ""}, 1)
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	b.connect(accepted).exchange()
	seen, err := b.Client.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	b.lb.Kill()
	var knocking sync.WaitGroup
	done := make(chan struct{})
	knocking.Go(func() {
		for ticks := time.Tick(5 * time.Millisecond); ; {
			select {
			case <-done:
				return
			case <-ticks:
				knocking.Go(func() {
					if c, err := b.dial(b.vip(80), 100*time.Millisecond); err == nil {
						c.Close()
					}
				})
			}
		}
	})
	b.start(b.web(0))
	close(done)
	knocking.Wait()
	frames, err := seen.Stop()
	if err != nil {
		t.Fatal(err)
	}
	all := segments(frames)
	syns := only(all, func(s *segment) bool { return s.sent && s.flags.Has(packet.SYN) })
	resets := only(all, func(s *segment) bool { return s.src == b.vip(80) && s.flags.Has(packet.RST) })
	if len(syns) < 10 || len(resets) > 0 {
		t.Errorf("the client sent %d SYNs and got %d RSTs, want many and none", len(syns), len(resets))
	}
}
