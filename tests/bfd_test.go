package tests

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// bfdScenarios is what fnatd does with BFD, whose other end is bird on the servers.
var bfdScenarios = []struct {
	name string
	run  func(*bed)
}{
	{"a_server_is_out_after_the_detection_time_and_back_with_its_session", bfdOutAndBack},
	{"packets_are_those_of_the_rfcs", bfdOnTheWire},
	{"a_reload_changes_timers_and_takes_nothing_down", bfdReload},
	{"what_was_known_outlasts_a_kill_and_an_upgrade", bfdRestart},
	{"over_several_hops", bfdMultihop},
	{"a_port_that_is_taken_is_named", bfdPortTaken},
}

func TestBFD(t *testing.T) {
	for i, v := range []variant{matrix[0], matrix[1]} {
		t.Run(v.String(), func(t *testing.T) {
			for j, s := range bfdScenarios {
				if i == 0 || j < 2 { // what differs with the IP version
					t.Run(s.name, func(t *testing.T) { s.run(newBed(t, v, 2)) })
				}
			}
		})
	}
}

// birdConfig has bird speak BFD with one neighbor.
const birdConfig = `router id 198.19.0.%[1]d;
log stderr all;
protocol device { scan time 1; }
protocol bfd {
	interface "*" { min rx interval 50 ms; min tx interval 50 ms; idle tx interval 1 s; multiplier 3; };
	multihop { min rx interval 50 ms; min tx interval 50 ms; idle tx interval 1 s; multiplier 3; };
	neighbor %[2]s;
}
`

// bfdDetection is by when bird is lost that speaks by birdConfig, as long as fnatd wants
// no fewer packets.
const bfdDetection = 3 * 50 * time.Millisecond

// A bird is bird on a host.
type bird struct {
	*netns.Process
	b      *bed
	on     *netns.Host
	socket string
}

// bird starts bird on a host, with a neighbor as its configuration names one.
func (b *bed) bird(on *netns.Host, number int, neighbor string) *bird {
	b.Helper()
	config, socket := filepath.Join(b.dir, fmt.Sprintf("bird%d.conf", number)), filepath.Join(b.dir, fmt.Sprintf("bird%d.ctl", number))
	if err := os.WriteFile(config, fmt.Appendf(nil, birdConfig, number+1, neighbor), 0o644); err != nil {
		b.Fatal(err)
	}
	os.Remove(socket) // of one that was killed
	ready := func() bool { _, err := os.Stat(socket); return err == nil }
	return &bird{b.background(on, ready, "bird", "-f", "-c", config, "-s", socket, "-P", config+".pid"), b, on, socket}
}

// birds starts bird on these servers, as a neighbor of the balancer's.
func (b *bed) birds(servers ...int) (all []*bird) {
	b.Helper()
	for _, i := range servers {
		all = append(all, b.bird(b.Servers[i], i, fmt.Sprintf(`%s dev "eth0"`, b.balancerLANAddr())))
	}
	return all
}

// sessions returns what bird says of its sessions.
func (p *bird) sessions() string {
	p.b.Helper()
	return p.b.run(p.on, "birdc", "-s", p.socket, "show", "bfd", "sessions")
}

// bfdWeb is web with a check by BFD.
func (b *bed) bfdWeb(keys string, servers ...int) harness.Service {
	web := b.web(servers...)
	web.Keys += "\ndamping = \"0s\""
	web.Health = "type = \"bfd\"\nmin_tx = \"50ms\"\nmin_rx = \"50ms\"\nmultiplier = 3\n" + keys
	return web
}

// checked returns the health of the servers of the only service.
func (b *bed) checked() []ctl.ServerHealth {
	b.Helper()
	all, err := b.lb.Ctl.Health(b.Context())
	if err != nil || len(all) != 1 {
		b.Fatalf("health: got %d services, error %v", len(all), err)
	}
	return all[0].Servers
}

// sessionsUp waits until the sessions with all servers are up.
func (b *bed) sessionsUp() {
	b.Helper()
	b.eventually("the sessions are up", func() bool {
		for _, r := range b.checked() {
			if r.Checks[0].BFD.State != "up" {
				return false
			}
		}
		return true
	})
}

func bfdOutAndBack(b *bed) {
	birds := b.birds(0, 1)
	b.start(b.bfdWeb("", 0, 1))
	b.sessionsUp()
	if got := b.checked()[0].Checks[0].BFD; got.DetectionSeconds != bfdDetection.Seconds() || got.RemoteDiscriminator == 0 || got.RemoteState != "up" || got.Neighbor != b.rip(0, 0).Addr() {
		b.Errorf("got %+v", got)
	}
	if got := birds[0].sessions(); !strings.Contains(got, "Up") || !strings.Contains(got, "0.050") {
		b.Errorf("bird says\n%s", got)
	}
	for _, how := range []struct {
		what      string
		gone      func()
		back      func()
		why       string
		detection time.Duration
	}{
		{"stopped", func() { birds[0].Signal(syscall.SIGSTOP) }, func() { birds[0].Signal(syscall.SIGCONT) }, "bfd: no packet for 150ms", bfdDetection},
		{"killed", func() { birds[0].Kill() }, func() { birds[0] = b.birds(0)[0] }, "bfd: no packet for 150ms", bfdDetection},
	} {
		began := time.Now()
		how.gone()
		b.becomes("web", "down up")
		r := b.checked()[0]
		took := r.Since.Sub(began)
		// What was sent last was sent before, and what fnatd does takes some of a busy machine's time.
		if least, most := how.detection-60*time.Millisecond, how.detection+150*time.Millisecond; took < least || took > most || r.Reason != how.why {
			b.Errorf("%s: out after %v because %q, want %v to %v because %q", how.what, took, r.Reason, least, most, how.why)
		}
		b.Logf("%s: out after %v", how.what, took)
		how.back()
		b.becomes("web", "up up")
	}
	m := b.metrics()
	if got := m[fmt.Sprintf(`fnatd_bfd_session_downs_total{check="bfd",real="%v",service="web"}`, b.rip(0, 8080))]; got != 2 {
		b.Errorf("metric of sessions gone down: got %v, want 2", got)
	}
	b.contains(b.tell("health", "--checks"), "session", "with", b.rip(0, 0).Addr(), "is", "up,", "went", "down", "2", "times")
}

// bfdOnTheWire looks at fnatd's packets from its first to its last.
func bfdOnTheWire(b *bed) {
	c := b.capture(b.Servers[0])
	birds := b.birds(0)
	b.start(b.bfdWeb("", 0))
	b.sessionsUp()
	b.eventually("packets of the session", func() bool { return strings.Contains(birds[0].sessions(), "Up") })
	b.stop()
	b.eventually("bird hears of the end", func() bool { return !strings.Contains(birds[0].sessions(), "Up") })
	var last layers.BFD
	seen := 0
	var source uint16
	for _, f := range b.frames(c) {
		ip := datagram(f)
		if ip == nil || f.Sent {
			continue
		}
		proto, udp := transport(ip)
		if proto != unix.IPPROTO_UDP || binary.BigEndian.Uint16(udp[2:]) != 3784 {
			continue
		}
		seen++
		if err := last.DecodeFromBytes(udp[8:], gopacket.NilDecodeFeedback); err != nil {
			b.Fatalf("packet %d: %v", seen, err)
		}
		port, ttl := binary.BigEndian.Uint16(udp), of(b.server, ip[8], ip[7])
		if source == 0 {
			source = port
		}
		if ttl != 255 || port != source || source < 49152 {
			b.Errorf("packet %d: TTL %d from port %d, want 255 and always the same port from 49152 on", seen, ttl, port)
		}
	}
	if seen < 3 || last.State != layers.BFDStateAdminDown || last.Diagnostic != layers.BFDDiagnosticAdminDown {
		b.Errorf("%d packets, the last %+v: want it to tell of the end", seen, last)
	}
}

func bfdReload(b *bed) {
	birds := b.birds(0, 1)
	b.start(b.bfdWeb("", 0, 1))
	b.sessionsUp()
	before := b.checked()[0].Checks[0].BFD
	slower := b.bfdWeb("rise = 2\n", 0, 1)
	slower.Health = strings.Replace(slower.Health, `min_tx = "50ms"`, `min_tx = "400ms"`, 1)
	if changes := b.reload(slower); len(changes) != 2 {
		b.Errorf("got changes %q, want one of each server", changes)
	}
	b.eventually("the new interval counts", func() bool { return b.checked()[0].Checks[0].BFD.IntervalSeconds == 0.4 })
	b.eventually("bird has it, too", func() bool { return strings.Contains(birds[0].sessions(), "1.200") })
	time.Sleep(2 * time.Second)
	if after := b.checked()[0].Checks[0].BFD; after.Downs != 0 || after.Discriminator != before.Discriminator {
		b.Errorf("got %+v, before it was %+v", after, before)
	}
	// From another address it is another session.
	other := b.bfdWeb(fmt.Sprintf("source = %q\n", b.balancerLANAddr()), 0, 1)
	b.reload(other)
	b.sessionsUp()
	if after := b.checked()[0].Checks[0].BFD; after.Discriminator == before.Discriminator {
		b.Error("it is the same session")
	}
	if got := b.checked(); got[0].State != "up" || strings.Contains(b.lb.Log(), "real server is down") {
		b.Errorf("got %+v", got)
	}
	none := b.web(0, 1)
	b.reload(none)
	b.eventually("bird hears of the end", func() bool { return !strings.Contains(birds[0].sessions(), "Up") })
}

func bfdRestart(b *bed) {
	birds := b.birds(0, 1)
	web := b.bfdWeb("", 0, 1)
	b.start(web)
	b.sessionsUp()
	birds[1].Signal(syscall.SIGSTOP)
	b.becomes("web", "up down")
	time.Sleep(2 * time.Second) // until it is noted
	b.kill()
	b.start(web)
	if got := b.state("web"); got != "up down" {
		b.Errorf("after a kill: got %s, want up down", got)
	}
	b.eventually("the session is up", func() bool { return b.checked()[0].Checks[0].BFD.State == "up" })
	b.eventually("bird has it up", func() bool { return strings.Contains(birds[0].sessions(), "Up") })
	if log := b.lb.Log(); strings.Contains(log, "real server is down") {
		b.Error("a restart has taken a server down")
	}
	before := b.checked()[0].Checks[0].BFD
	if _, err := b.lb.Upgrade(""); err != nil {
		b.Fatal(err)
	}
	if got := b.state("web"); got != "up down" {
		b.Errorf("after an upgrade: got %s, want up down", got)
	}
	time.Sleep(time.Second)
	after := b.checked()[0].Checks[0].BFD
	if after.State != "up" || after.Downs != 0 || after.Discriminator != before.Discriminator || after.RemoteDiscriminator != before.RemoteDiscriminator || !strings.Contains(birds[0].sessions(), "Up") {
		b.Errorf("after an upgrade: got %+v, before it was %+v, and bird says\n%s", after, before, birds[0].sessions())
	}
	birds[1].Signal(syscall.SIGCONT)
	b.becomes("web", "up up")
	if log := b.lb.Log(); strings.Contains(log, "real server is down") {
		b.Error("an upgrade has taken a server down")
	}
}

func bfdMultihop(b *bed) {
	p := b.bird(b.Servers[0], 0, fmt.Sprintf("%s local %s multihop on", b.balancerLANAddr(), b.rip(0, 0).Addr()))
	b.start(b.bfdWeb("multihop = true\nmax_hops = 1\nalpha = true\n", 0))
	// bird leaves it to the kernel what it sends with.
	b.eventually("it is told why no packet is taken", func() bool {
		return strings.Contains(b.checked()[0].Reason, "come with a TTL of 64, want at least 254")
	})
	b.reload(b.bfdWeb("multihop = true\nmax_hops = 1\nttl = 64\nalpha = true\n", 0))
	b.becomes("web", "up")
	p.Signal(syscall.SIGSTOP)
	b.becomes("web", "down")
	p.Signal(syscall.SIGCONT)
	b.becomes("web", "up")
}

func bfdPortTaken(b *bed) {
	const message = "udp port 3784 is in use: another program on this host speaks BFD"
	p := b.bird(b.Balancer, 9, fmt.Sprintf("%s dev %q", b.rip(0, 0).Addr(), b.ServerSide()))
	b.eventually("bird has the port", func() bool {
		return strings.Contains(b.run(b.Balancer, "ss", "-Hlun", "sport", "=", "3784"), "3784")
	})
	web := b.bfdWeb("", 0)
	lb, err := harness.Start(b.Rig, bin+"/fnatd", b.dir, harness.Config(b.Rig, b.dir, "", web))
	if err == nil {
		lb.Stop()
		b.Fatal("fnatd starts without the port")
	}
	if !strings.Contains(err.Error(), message) {
		b.Errorf("a start says %v, want %q", err, message)
	}
	b.checkClean()

	b.start(b.web(0))
	if _, err := b.lb.Reload(harness.Config(b.Rig, b.dir, "", web)); err == nil || !strings.Contains(err.Error(), message) {
		b.Errorf("a reload says %v, want %q", err, message)
	}
	if got := b.checked()[0]; got.State != "unchecked" {
		b.Errorf("after a reload that was refused: got %+v", got)
	}
	p.Kill()
	b.birds(0)
	b.reload(web)
	b.sessionsUp()
}
