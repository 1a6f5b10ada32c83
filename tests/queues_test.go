package tests

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
)

// setQueues gives the balancer's interfaces so many queues, and lets packets come
// to them when so many workers serve them.
func (b *bed) setQueues(n, workers int) {
	b.Helper()
	for _, name := range b.Interfaces() {
		if err := b.Balancer.SetQueues(name, n); err != nil {
			b.Fatal(err)
		}
	}
	b.eventually(fmt.Sprintf("%d workers for %d queues", workers, n), func() bool { return busy(b.stats()) == workers })
	b.spread(n)
}

// spread has the other ends of the balancer's wires send on so many queues.
func (b *bed) spread(n int) {
	b.Helper()
	err := b.Switch.SetQueues("lb", n)
	if b.Shape == netns.TwoArm {
		err = errors.Join(err, b.Client.SetQueues("eth0", n))
	}
	if err != nil {
		b.Fatal(err)
	}
}

// busy returns how many workers have queues.
func busy(s ctl.Stats) (n int) {
	for _, w := range s.Workers {
		if len(w.Rings) > 0 {
			n++
		}
	}
	return n
}

// received returns the sum of what workers have received.
func received(s ctl.Stats) (n uint64) {
	for _, w := range s.Workers {
		n += w.RxPackets
	}
	return n
}

// talkers opens so many connections, on which the client asks for one page after
// another until the function that is returned is called, and at least ten times.
// It waits for them; the test fails if one was cut.
func (b *bed) talkers(n int) (finish func()) {
	b.Helper()
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		c, err := b.Client.Dial(b.Context(), "tcp", b.vip(80).String())
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer c.Close()
			if err := talk(c, fmt.Sprintf("/echo/%d/", i), stop); err != nil {
				b.Errorf("connection %d: %v", i, err)
			}
		})
	}
	return func() {
		b.Helper()
		close(stop)
		all.Wait()
	}
}

// talk asks for pages below path on one connection, and checks the answers.
func talk(c net.Conn, path string, stop <-chan struct{}) error {
	in := bufio.NewReader(c)
	for request := 0; ; request++ {
		select {
		case <-stop:
			if request >= 10 {
				return nil
			}
		case <-time.After(5 * time.Millisecond):
		}
		c.SetDeadline(time.Now().Add(patience))
		want := fmt.Sprintf("%s%d", path, request)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: fnatd\r\n\r\n", want)
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("request %d: %w", request, err)
		}
		got, err := io.ReadAll(answer.Body)
		if err != nil || !strings.HasPrefix(string(got), want+" ") {
			return fmt.Errorf("request %d: got %q, %v, want %q", request, got, err, want)
		}
	}
}

// TestQueuesChange changes the number of queues while connections talk: none is
// cut, each queue is served, and no counter goes back.
func TestQueuesChange(t *testing.T) {
	for _, shape := range []netns.Shape{netns.TwoArm, netns.OneArm} {
		t.Run(shape.String(), func(t *testing.T) {
			b := newBedOf(t, netns.Topology{Shape: shape, Servers: 2, Queues: 1, MaxQueues: 4})
			b.nginx(0)
			b.nginx(1)
			b.start(b.web(0, 1))
			finish := b.talkers(40)
			before := b.stats()
			for _, n := range []int{2, 4} {
				b.setQueues(n, n)
				b.eventually("traffic goes on", func() bool { return received(b.stats()) > received(before)+1000 })
				after := b.stats()
				for i, w := range before.Workers {
					if got := after.Workers[i]; got.RxPackets < w.RxPackets || got.TxBytes < w.TxBytes || got.Batches < w.Batches {
						t.Errorf("worker %d: counters went back from %+v to %+v", i, w, got)
					}
				}
				if after.Table.Connections < before.Table.Connections {
					t.Errorf("%d connections are left of %d", after.Table.Connections, before.Table.Connections)
				}
				before = after
			}
			finish()
			if got := b.curl("http://198.18.0.100/echo/new"); !strings.HasPrefix(got, "/echo/new") {
				t.Errorf("a new connection: got %q", got)
			}
			if log := b.lb.Log(); !strings.Contains(log, "queues have changed") {
				t.Errorf("log says nothing of the change:\n%s", log)
			}
		})
	}
}

// TestQueueInUseElsewhere has another program hold one of the new queues: fnatd
// goes on with those it had, says so, and takes the new ones when they are free.
func TestQueueInUseElsewhere(t *testing.T) {
	b := newBedOf(t, netns.Topology{Servers: 1, Queues: 1, MaxQueues: 2})
	b.nginx(0)
	b.start(b.web(0))
	finish := b.talkers(10)
	if err := b.lb.Signal(syscall.SIGSTOP); err != nil { // it shall not be first
		t.Fatal(err)
	}
	for _, name := range b.Interfaces() {
		if err := b.Balancer.SetQueues(name, 2); err != nil {
			t.Fatal(err)
		}
	}
	release := b.hold("lan0", 1)
	if err := b.lb.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.eventually("the failure is logged", func() bool { return strings.Contains(b.lb.Log(), "cannot be served") })
	before := b.stats()
	b.eventually("traffic goes on by the old queues", func() bool { return received(b.stats()) > received(before)+200 })
	if got := busy(b.stats()); got != 1 {
		t.Errorf("got %d workers, want the one there was", got)
	}
	release()
	b.eventually("two workers", func() bool { return busy(b.stats()) == 2 })
	finish()
}

// hold takes a queue of an interface of the balancer, and returns how to let go of
// it.
func (b *bed) hold(name string, queue int) (release func()) {
	b.Helper()
	umem, err := xsk.NewUMEM(xsk.Config{Frames: 64, RingSize: 64})
	if err != nil {
		b.Fatal(err)
	}
	index, err := b.Balancer.Index(name)
	if err != nil {
		b.Fatal(err)
	}
	var s *xsk.Socket
	if err := b.Balancer.Do(func() error {
		s, err = xsk.Open(umem, index, queue, xsk.Options{Mode: xsk.Copy})
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := errors.Join(s.Close(), umem.Close()); err != nil {
			b.Error(err)
		}
	}
}

// TestQueuesDiffer has interfaces with different numbers of queues: there are as
// many workers as the smallest number, and each queue of each has one.
func TestQueuesDiffer(t *testing.T) {
	b := newBedOf(t, netns.Topology{Servers: 1, Queues: 2, MaxQueues: 3})
	if err := b.Balancer.SetQueues("wan0", 3); err != nil {
		t.Fatal(err)
	}
	if err := b.Client.SetQueues("eth0", 3); err != nil {
		t.Fatal(err)
	}
	b.nginx(0)
	b.start(b.web(0))
	b.talkers(60)()
	rings := map[string]int{}
	s := b.stats()
	for _, w := range s.Workers {
		for _, r := range w.Rings {
			rings[fmt.Sprintf("%s/%d", r.Interface, r.Queue)] = w.ID
		}
	}
	want := map[string]int{"wan0/0": 0, "wan0/1": 1, "wan0/2": 0, "lan0/0": 0, "lan0/1": 1}
	if fmt.Sprint(rings) != fmt.Sprint(want) {
		t.Errorf("queues by worker: got %v, want %v", rings, want)
	}
	if got := b.drops("unserved"); got != 0 {
		t.Errorf("%d packets came to a queue without a worker", got)
	}
	for _, e := range s.Events {
		if e.Name == "reply_elsewhere" && e.Count == 0 {
			t.Error("no reply came by another worker than its client, though a veth spreads them at random")
		}
	}
}
