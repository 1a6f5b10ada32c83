package tests

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/harness"
)

// What SYNPROXY alone does. That everything else is as without it, the scenarios of
// TestFnatd show in their variants with it.
func TestSYNProxy(t *testing.T) {
	for _, v := range []variant{
		{netns.TwoArm, 1, fourToFour, false, "userspace"},
		{netns.OneArm, 1, sixToSix, false, "userspace"},
		{netns.TwoArm, 2, sixToFour, false, "userspace"},
		{netns.TwoArm, 1, fourToSix, false, "userspace"},
		{netns.TwoArm, 1, fourToFour, false, "xdp"},
		{netns.TwoArm, 2, sixToFour, false, "xdp"},
	} {
		t.Run(v.String(), func(t *testing.T) {
			for _, s := range []struct {
				name string
				run  func(*bed)
			}{
				{"options_are_negotiated_end_to_end", cookieOptions},
				{"server_that_speaks_first_is_not_delayed", speaksFirst},
				{"lost_third_segment_harms_nothing", lostThirdSegment},
				{"refusal_reaches_the_client", refusalReachesClient},
				{"silent_server_is_passed_over", silentServer},
				{"client_that_lost_its_connection_returns", clientReturns},
				{"modes_change_under_connections", modesChange},
				{"syns_leave_nothing_behind", synsLeaveNothing},
				{"bad_acks_end_in_the_xdp_program", badACKsEndInXDP},
				{"balancers_of_one_secret_accept_each_others_cookies", sharedSecret},
			} {
				t.Run(s.name, func(t *testing.T) { s.run(newBed(t, v, 2)) })
			}
		})
	}
}

// guard returns what fnatd says about SYNPROXY of the first service.
func (b *bed) guardStats() ctl.Guard {
	b.Helper()
	s, err := b.lb.Ctl.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return s.Guards[0]
}

// counted waits until SYNPROXY of the first service has counted what is wanted: a worker
// publishes its counts after it has sent the packets that they are about.
func (b *bed) counted(want map[string]uint64) {
	b.Helper()
	var g ctl.Guard
	ok := func() bool {
		g = b.guardStats()
		for event, n := range want {
			if g.Count(event) != n {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Errorf("SYNPROXY counts %+v, want %v", g.Events, want)
			return
		}
	}
}

// cookieOptions takes options from unmodified kernels, one after the other, and moves a
// megabyte each way with what is left.
func cookieOptions(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	for _, off := range []string{"", "tcp_sack", "tcp_timestamps", "tcp_window_scaling"} {
		for _, host := range []*netns.Host{b.Client, b.Servers[0]} {
			if off != "" {
				b.run(host, "sysctl", "-q", "net.ipv4."+off+"=0")
			}
			p := b.connect(accepted)
			p.exchange()
			p.send(p.client, p.server, megabyte)
			p.send(p.server, p.client, megabyte)
			p.client.Close()
			p.server.Close()
			if off != "" {
				b.run(host, "sysctl", "-q", "net.ipv4."+off+"=1")
			}
		}
	}
	b.counted(map[string]uint64{"joined": 8, "bad_ack": 0})
}

// speaksFirst has a server greet, as SSH, SMTP and MySQL do: the client must not have to
// send anything, nor wait for a timer.
func speaksFirst(b *bed) {
	l, err := b.Servers[0].Listen("tcp", b.rip(0, 8080).String())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, banner)
			c.Close()
		}
	}()
	b.start(b.web(0))
	for range 20 {
		c, err := b.dial(b.vip(80), patience)
		if err != nil {
			b.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != banner {
			b.Fatalf("got %q, %v, want the greeting", got, err)
		}
		c.Close()
	}
	b.counted(map[string]uint64{"joined": 20, "syn_retried": 0})
}

// lostThirdSegment leaves out the segment that proves the cookie: the data behind it
// does, or a window probe, and the server has it all.
func lostThirdSegment(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.meet()
	b.start(b.web(0))
	for name, probe := range map[string]bool{"data": false, "window_probe": true} {
		r := b.rawClient()
		r.src.Port += uint16(len(name)) // a connection of its own
		r.send(packettest.TCP{Flags: packet.SYN, Seq: 1000, Options: []byte{2, 4, 1400 >> 8, 1400 & 255}})
		answer := r.receive(packet.SYN | packet.ACK)
		if answer.window == 0 {
			b.Errorf("%s: the window is closed", name)
		}
		if probe {
			r.send(packettest.TCP{Flags: packet.ACK, Seq: 1000, Ack: answer.seq + 1})
			time.Sleep(50 * time.Millisecond)
		}
		r.send(packettest.TCP{Flags: packet.ACK | packet.PSH, Seq: 1001, Ack: answer.seq + 1, Payload: []byte("hello")})
		c := <-accepted
		c.SetDeadline(time.Now().Add(patience))
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			b.Errorf("%s: the server got %q, %v", name, got, err)
		}
		r.receive(packet.ACK)
		c.Close()
	}
}

// resetOf connects, and returns what becomes of the connection before anything is sent.
func (b *bed) resetOf(to netip.AddrPort) error {
	b.Helper()
	c, err := b.dial(to, patience)
	if err != nil { // so soon
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	_, err = c.Read(make([]byte, 1))
	return err
}

func refusalReachesClient(b *bed) {
	b.meet()
	b.start(b.web(0)) // on whose port nobody listens
	if err := b.resetOf(b.vip(80)); !errors.Is(err, syscall.ECONNRESET) {
		b.Errorf("got %v, want a reset", err)
	}
	b.counted(map[string]uint64{"refused": 1, "failed": 1})
}

// silentServer has one server drop what comes: its clients end up on the other.
func silentServer(b *bed) {
	accepted := b.listen(b.Servers[1], b.rip(1, 8080))
	b.meet()
	b.run(b.Servers[0], "nft", "add table inet silent; add chain inet silent in { type filter hook input priority 0; }; add rule inet silent in tcp dport 8080 drop")
	b.start(b.web(0, 1))
	for range 4 {
		b.connect(accepted).exchange()
	}
	b.counted(map[string]uint64{"silent": 2, "moved": 2, "joined": 4})
}

// clientReturns has a client come back from the port of a connection that it has lost
// without a word, as after a crash.
func clientReturns(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	from := netip.AddrPortFrom(b.clientAddr(), 45678)
	old := b.connectTo(b.vip(80), from, accepted)
	old.exchange()
	// Nothing that the old socket sends gets out any more.
	b.run(b.Client, "nft", "add table inet lost; add chain inet lost out { type filter hook output priority 0; }; add rule inet lost out tcp flags & (fin|rst) != 0 drop")
	old.client.SetLinger(0)
	old.client.Close()
	b.run(b.Client, "nft", "delete table inet lost")

	p := b.connectTo(b.vip(80), from, accepted)
	p.exchange()
	if _, err := old.server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		b.Errorf("the old connection at the server: %v, want a reset", err)
	}
	b.counted(map[string]uint64{"replaced": 1})
}

// modesChange switches SYNPROXY off and on while connections of both kinds live.
func modesChange(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	with := func(mode string) harness.Service {
		s := b.web(0)
		s.Keys += fmt.Sprintf("\nsynproxy = { mode = %q, answer = %q }", mode, b.guard)
		return s
	}
	b.start(with("on"))
	var pairs []*pair
	for i, mode := range []string{"off", "on", "adaptive", "off", "on"} {
		p := b.connect(accepted)
		p.exchange()
		pairs = append(pairs, p)
		b.reload(with(mode))
		for _, p := range pairs {
			p.exchange()
		}
		if g := b.guardStats(); g.Mode != mode || g.On != (mode == "on") {
			b.Errorf("after reload %d: %+v, want mode %s", i, g, mode)
		}
	}
	b.counted(map[string]uint64{"joined": 2, "opened": 3})
}

// synsLeaveNothing sends SYNs of a thousand clients, and ACKs that prove nothing.
func synsLeaveNothing(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.meet()
	b.start(b.web(0))
	r := b.rawClient()
	// A guess may be right: each of these ACKs is tried as a third segment and as a
	// window probe, so one of a thousand is right once in 2,100 runs.
	var guessed uint64
	const clients, atOnce = 1000, 50 // fewer frames than a veth's queue holds, or it drops some
	for i := range uint64(clients) {
		r.src.Port = uint16(10000 + i)
		r.send(packettest.TCP{Flags: packet.SYN, Seq: uint32(i)})
		r.send(packettest.TCP{Flags: packet.ACK, Seq: uint32(i) + 1, Ack: uint32(i)})
		if sent := i + 1; sent%atOnce == 0 {
			b.eventually("all SYNs are answered, and all ACKs dropped", func() bool {
				g := b.guardStats()
				guessed = g.Count("good_ack")
				return g.Count("syn") == sent && g.Count("cookie_sent")+g.Count("shed") == sent && g.Count("bad_ack")+guessed == sent
			})
		}
	}
	if g := b.guardStats(); g.Count("cookie_sent") <= clients/4 {
		b.Errorf("%d SYNs were answered", g.Count("cookie_sent"))
	}
	if guessed > 1 {
		b.Errorf("%d guesses were right", guessed)
	}
	s, err := b.lb.Ctl.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if s.Table.Connections > int(guessed) {
		b.Errorf("%d connections in the table, want none", s.Table.Connections)
	}
	b.forget(accepted, guessed)
	b.connect(accepted).exchange()
	if out := b.tell("stats"); !strings.Contains(out, "SYNProxy") {
		b.Errorf("fnatctl stats says nothing of SYNPROXY:\n%s", out)
	}
}

// forget takes the connections that n right guesses have opened out of accepted, where
// the next one is looked for.
func (b *bed) forget(accepted <-chan *net.TCPConn, n uint64) {
	b.Helper()
	for range n {
		select {
		case c := <-accepted:
			c.Close()
		case <-time.After(patience):
			b.Fatal("a right guess opened no connection")
		}
	}
}

// sharedSecret restarts fnatd between SYN and ACK: to the client it is another balancer
// of the same secret.
func sharedSecret(b *bed) {
	const secret = `cookie_secret = "00112233445566778899aabbccddeeff"`
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.meet()
	b.startWith(secret, b.web(0))
	r := b.rawClient()
	r.send(packettest.TCP{Flags: packet.SYN, Seq: 1000, Options: []byte{2, 4, 1400 >> 8, 1400 & 255}})
	answer := r.receive(packet.SYN | packet.ACK)
	b.stop()
	b.startWith(secret, b.web(0))
	r.send(packettest.TCP{Flags: packet.ACK | packet.PSH, Seq: 1001, Ack: answer.seq + 1, Payload: []byte("hello")})
	c := <-accepted
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		b.Errorf("the server got %q, %v", got, err)
	}
}
