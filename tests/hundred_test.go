package tests

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// hundredReloads reloads a hundred times in a row, each time something else,
// while 5,000 connections live, fifty of which talk at any time, and iperf3 runs.
func hundredReloads(b *bed) {
	const connections, talking, reloads = 5000, 50, 100
	for i := range 2 {
		b.mirror(b.Servers[i], i)
	}
	b.iperfServer(0)
	b.start(b.web(0, 1), b.bulk(0))
	conns := b.dialMany(connections)

	iperf, err := b.Client.Background("iperf3", "-c", b.vip(0).Addr().String(), "-t", "10", "-b", "200M", "--json")
	if err != nil {
		b.Fatal(err)
	}
	var stop atomic.Bool
	var all sync.WaitGroup
	for i := range talking {
		all.Go(func() {
			for at := i; !stop.Load(); at = (at + talking) % connections {
				if err := bounce(conns[at]); err != nil {
					b.Errorf("connection %d, while reloading: %v", at, err)
					return
				}
			}
		})
	}
	done := 0
	for running := true; done < reloads || running; done++ {
		if _, err := b.lb.Reload(b.another(done)); err != nil {
			b.Fatalf("reload %d: %v", done, err)
		}
		select {
		case <-iperf.Done():
			running = false
		default:
		}
		if b.Failed() {
			break
		}
	}
	stop.Store(true)
	all.Wait()
	b.Logf("%d reloads", done)
	b.iperfBytes(iperf.Output())
	b.reload(b.web(0, 1), b.bulk(0))
	if got := b.service("web"); got.Traffic.Connections != connections || got.Servers[0].Active != connections/2 || got.Servers[1].Active != connections/2 {
		b.Errorf("service web: got %+v, want %d connections ever, half of them on each server now", got, connections)
	}
	for i, c := range conns {
		if err := bounce(c); err != nil {
			b.Fatalf("connection %d, afterwards: %v", i, err)
		}
	}
}

// another returns the configuration of reload number n, which differs from that
// before. What carries connections is in all of them.
func (b *bed) another(n int) string {
	web, bulk := b.web(0, 1), b.bulk(0)
	services := []harness.Service{web, bulk}
	switch n % 6 {
	case 0: // weights
		services[0].Servers[1].Keys = fmt.Sprint("weight = ", 2+n)
	case 1: // a real server comes, and leaves by the next
		services[0].Servers = append(services[0].Servers, b.to(8081, 1)...)
	case 2: // scheduler, timeouts, persistence, name
		services[0].Name, services[0].Keys = "www", "scheduler = \"mh\"\npersistence = \"5m\""
		services[0].Timeout = `established = "5m"`
	case 3: // services come, and leave by the next
		for port := range uint16(20) {
			services = append(services, harness.Service{Name: fmt.Sprint("other", port), Virtual: b.vip(100 + port), Servers: b.to(8080, 1)})
		}
	case 4: // the client's address, told otherwise
		services[0].Keys = `client_address = "none"`
	}
	config := harness.Config(b.Rig, b.dir, "", services...)
	if n%6 == 5 { // a local address leaves; its connections stay
		config = strings.Replace(config, fmt.Sprintf(`"%s-%s"`, netns.LIP(0), netns.LIP(1)), fmt.Sprintf("%q", netns.LIP(n/6%2)), 1)
	}
	return config
}

// mirror has a server send back on each connection what it gets.
func (b *bed) mirror(on *netns.Host, i int) {
	b.Helper()
	b.accept(on, b.rip(i, 8080), func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, c) })
}

// dialMany makes n connections to the VIP.
func (b *bed) dialMany(n int) []net.Conn {
	b.Helper()
	conns := make([]net.Conn, n)
	var all sync.WaitGroup
	dialing := make(chan struct{}, 50) // a dial holds a thread: see Host.Do
	for i := range conns {
		dialing <- struct{}{}
		all.Go(func() {
			defer func() { <-dialing }()
			c, err := b.Client.Dial(b.Context(), "tcp", b.vip(80).String())
			if err != nil {
				b.Errorf("connection %d: %v", i, err)
				return
			}
			conns[i] = c
			b.Cleanup(func() { c.Close() })
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return conns
}

// bounce sends something of its own to a mirror, and checks what comes back.
func bounce(c net.Conn) error {
	what := make([]byte, 200)
	for i := range what {
		what[i] = byte(rand.Uint32())
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(what); err != nil {
		return err
	}
	got := make([]byte, len(what))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != string(what) {
		return fmt.Errorf("sent %x, %d bytes came back: %x, %v", what, n, got[:n], err)
	}
	return nil
}
