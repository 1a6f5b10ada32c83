package tests

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/go-cmp/cmp"
)

// name makes servers tell their number to whoever connects to their port 8080.
func (b *bed) name(servers ...int) {
	b.Helper()
	for _, i := range servers {
		accepted := b.listen(b.Servers[i], b.rip(i, 8080))
		go func() {
			for {
				select {
				case c := <-accepted:
					c.Write([]byte{byte(i)})
					c.Close()
				case <-b.Context().Done():
					return
				}
			}
		}()
	}
}

// nextPort numbers the client's ports. The kernel would give a port again while
// fnatd has its last connection in TIME_WAIT, and fnatd would give that its old
// server again.
var nextPort atomic.Uint32

// ask connects to the VIP from an address of the client's, by a port that was not
// used before, and returns the number of the server that answers.
func (b *bed) ask(from netip.Addr) int {
	b.Helper()
	port := 10_000 + int(nextPort.Add(1))%20_000
	c, err := b.Client.DialFrom(b.Context(), &net.TCPAddr{IP: from.AsSlice(), Port: port}, "tcp", b.vip(80).String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var number [1]byte
	if _, err := io.ReadFull(c, number[:]); err != nil {
		b.Fatal(err)
	}
	return int(number[0])
}

// tally asks n times, several at a time, and counts the answers by server.
func (b *bed) tally(n, atATime int) []int {
	b.Helper()
	counts := make([]int, len(b.Servers))
	var mu sync.Mutex
	var all sync.WaitGroup
	for range atATime {
		all.Go(func() {
			for range n / atATime {
				i := b.ask(b.clientAddr())
				mu.Lock()
				counts[i]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return counts
}

func roundRobinIsExact(b *bed) {
	b.name(0, 1, 2)
	b.start(b.web(0, 1, 2))
	if diff := cmp.Diff(b.tally(90, 1), []int{30, 30, 30}); diff != "" {
		b.Errorf("rr, one connection after another: got - want +\n%s", diff)
	}
	if diff := cmp.Diff(b.tally(300, 10), []int{100, 100, 100}); diff != "" {
		b.Errorf("rr, ten connections at a time: got - want +\n%s", diff)
	}
	s := b.web(0, 1, 2)
	s.Keys = `scheduler = "wrr"`
	s.Servers[0].Keys, s.Servers[1].Keys = "weight = 3", "weight = 2"
	b.reload(s)
	if diff := cmp.Diff(b.tally(60, 1), []int{30, 20, 10}); diff != "" {
		b.Errorf("wrr by 3, 2, 1: got - want +\n%s", diff)
	}
}

func persistenceKeepsServer(b *bed) {
	clients := []netip.Addr{b.clientAddr(), b.addClient(3), b.addClient(4)}
	b.name(0, 1, 2)
	s := b.web(0, 1, 2)
	s.Keys += "\npersistence = \"60s\""
	b.start(s)
	seen := map[int]bool{}
	for range 10 {
		seen = map[int]bool{}
		for _, c := range clients {
			seen[b.ask(c)] = true
		}
	}
	if len(seen) != 3 {
		b.Errorf("three clients, three servers in turn: got servers %v", seen)
	}
	if got := b.service("web"); got.PersistenceSeconds != 60 || got.Servers[0].Traffic.Connections != 10 ||
		got.Servers[1].Traffic.Connections != 10 || got.Servers[2].Traffic.Connections != 10 {
		b.Errorf("each client kept to its server ten times: got %+v", got)
	}
	if got := b.stats().Table.Templates; got != 3 {
		b.Errorf("got %d templates, want 3", got)
	}

	// For a service of another name and the whole network as one client.
	s.Name, s.Keys = "network", s.Keys+"\npersistence_granularity = "+fmt.Sprint(b.clientNetwork(clients[0]).Bits())
	b.reload(s)
	first := b.ask(clients[0])
	for range 3 {
		for _, c := range clients {
			if got := b.ask(c); got != first {
				b.Errorf("client %v: got server %d, want %d as all of its network", c, got, first)
			}
		}
	}
}

func weightZeroDrains(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	other := b.listen(b.Servers[1], b.rip(1, 8080))
	b.start(b.web(0, 1))
	old := []*pair{b.connect(accepted, other), b.connect(accepted, other)}
	if got := b.service("web").Servers; got[0].Active != 1 || got[1].Active != 1 {
		b.Fatalf("got %+v, want one connection for each server", got)
	}
	s := b.web(0, 1)
	s.Servers[0].Keys = "weight = 0"
	if got := b.reload(s); len(got) != 1 || !strings.Contains(got[0], "weight") {
		b.Errorf("changes: got %q, want the weight", got)
	}
	for range 10 {
		b.connect(other).exchange()
	}
	for _, p := range old {
		p.exchange()
	}
	if got := b.service("web").Servers[0]; got.Active != 1 || got.Weight != 0 {
		b.Errorf("got %+v, want the old connection and weight 0", got)
	}
}

func upperThresholdIsRespected(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	s := b.web(0)
	s.Timeout = "time_wait = \"1s\"\nclose = \"1s\""
	s.Servers[0].Keys = "upper_threshold = 4"
	b.start(s)
	var pairs []*pair
	for range 4 {
		pairs = append(pairs, b.connect(accepted))
	}
	if b.guard != "" { // its cookie has made it believe that there is one
		if err := b.resetOf(b.vip(80)); !errors.Is(err, syscall.ECONNRESET) {
			b.Errorf("fifth connection: got %v, want a reset", err)
		}
	} else if c, err := b.dial(b.vip(80), time.Second); err == nil {
		c.Close()
		b.Fatal("a fifth connection was made")
	} else if !os.IsTimeout(err) {
		b.Errorf("fifth connection: got %v, want silence", err)
	}
	if got := b.service("web").Servers[0]; !got.Overloaded || got.Active != 4 {
		b.Errorf("got %+v, want it overloaded by 4", got)
	}
	if got := b.drops("no_server"); got == 0 {
		b.Error("the refused SYNs are not counted as no_server")
	}
	// Without a lower threshold it takes connections again below three quarters
	// of the upper one.
	for _, p := range pairs[:2] {
		p.client.Close()
		p.server.Close()
	}
	b.eventually("the server is below its threshold", func() bool { return !b.service("web").Servers[0].Overloaded })
	b.connect(accepted).exchange()
}
