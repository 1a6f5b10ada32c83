package load

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/bench/traffic"
)

// A Short is a client of short connections: connect, a request, the response, and
// the server closes.
type Short struct {
	Target   netip.AddrPort
	Sources  []netip.Addr  // addresses of the host, which take turns
	InFlight int           // at most so many at a time
	Rate     float64       // connections a second; 0 is as many as go
	Patience time.Duration // after which one is given up
	Warmup   time.Duration // not counted
	Time     time.Duration // counted
	// Enough ends the time early, when it is closed.
	Enough <-chan struct{}
}

// A ShortResult is what came of a Short. A connection counts by when it began.
type ShortResult struct {
	Begun, Done, Failed int
	Broken              int           // those of the failed that had been established
	Elapsed             time.Duration // from the first that counts until the last has ended
	Handshakes          Samples       // connect until it is established
	Exchanges           Samples       // connect until the server has closed
}

// A conn is a connection of a Short.
type conn struct {
	fd          int
	began       time.Time
	established bool
	counts      bool
	received    int
}

type shortRun struct {
	*Short
	ShortResult
	poll  epoll
	open  map[int]*conn
	queue []*conn // in the order in which they began; closed ones have fd -1
	turn  int
	now   time.Time
	buf   [1 << 10]byte
}

// Run makes connections from h, on one processor. Those that are under way when
// the time is over are waited for as long as any other.
func (s *Short) Run(ctx context.Context, h *netns.Host, cpu int) (*ShortResult, error) {
	r := &shortRun{Short: s, open: make(map[int]*conn, s.InFlight)}
	err := h.Do(func() (err error) {
		unpin, err := traffic.Pin(cpu)
		if err != nil {
			return err
		}
		defer unpin()
		if r.poll, err = newEpoll(); err != nil {
			return err
		}
		defer r.poll.close()
		return r.run(ctx)
	})
	return &r.ShortResult, err
}

func (r *shortRun) run(ctx context.Context) error {
	events := make([]unix.EpollEvent, 256)
	start := time.Now()
	counted := start.Add(r.Warmup)
	end := counted.Add(r.Time)
	due := start
	r.now = start
	for {
		select {
		case <-r.Enough:
			end = start
		default:
		}
		// A client that was late makes up for it: offered load does not depend on
		// how the answers come.
		for r.now.Before(end) && len(r.open) < r.InFlight && (r.Rate == 0 || !r.now.Before(due)) {
			if err := r.begin(!r.now.Before(counted)); err != nil {
				return err
			}
			if r.Rate > 0 {
				due = due.Add(time.Duration(float64(time.Second) / r.Rate))
			}
		}
		if ctx.Err() != nil || !r.now.Before(end) && len(r.open) == 0 {
			break
		}
		ready, err := r.poll.wait(events, r.waitTime(due, end))
		if err != nil {
			return err
		}
		r.now = time.Now()
		for _, e := range ready {
			if c := r.open[int(e.Fd)]; c != nil {
				r.advance(c, e.Events)
			}
		}
		r.giveUp()
	}
	for _, c := range r.open {
		r.end(c, false)
	}
	r.Elapsed = r.now.Sub(counted)
	return ctx.Err()
}

// waitTime returns how long to wait for events at most, ms.
func (r *shortRun) waitTime(due, end time.Time) int {
	if r.Rate == 0 || !r.now.Before(end) || len(r.open) >= r.InFlight {
		return pollTime
	}
	return int(max(0, due.Sub(r.now)+time.Millisecond-1) / time.Millisecond)
}

// begin starts a connection. A host that has no port left counts as a failure.
func (r *shortRun) begin(counts bool) error {
	fd, err := newSocket()
	if err != nil {
		return err
	}
	source := r.Sources[r.turn%len(r.Sources)]
	r.turn++
	c := &conn{fd: fd, began: time.Now(), counts: counts}
	if counts {
		r.Begun++
	}
	r.open[fd] = c
	r.queue = append(r.queue, c)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, sockaddr(netip.AddrPortFrom(source, 0))),
	)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr(r.Target)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		r.end(c, false)
		return nil
	}
	return r.poll.add(fd, unix.EPOLLOUT)
}

// advance takes a connection on after an event.
func (r *shortRun) advance(c *conn, events uint32) {
	if !c.established {
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			r.end(c, false)
			return
		}
		c.established = true
		if c.counts {
			r.Handshakes = append(r.Handshakes, time.Since(c.began))
		}
		n, err := unix.Write(c.fd, r.buf[:requestSize])
		if n != requestSize || err != nil || r.poll.change(c.fd, unix.EPOLLIN) != nil {
			r.end(c, false)
		}
		return
	}
	for {
		n, err := unix.Read(c.fd, r.buf[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			r.end(c, false)
			return
		case n == 0:
			r.end(c, c.received == responseSize)
			return
		}
		c.received += n
	}
}

// giveUp ends the connections that have taken too long.
func (r *shortRun) giveUp() {
	for len(r.queue) > 0 {
		c := r.queue[0]
		if c.fd >= 0 {
			if r.now.Sub(c.began) < r.Patience {
				return
			}
			r.end(c, false)
		}
		r.queue = r.queue[1:]
	}
}

// end closes a connection. A failed one is reset, so that it does not live on.
func (r *shortRun) end(c *conn, done bool) {
	delete(r.open, c.fd)
	if !done {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(c.fd)
	c.fd = -1
	switch {
	case !c.counts:
	case done:
		r.Done++
		r.Exchanges = append(r.Exchanges, time.Since(c.began))
	default:
		r.Failed++
		if c.established {
			r.Broken++
		}
	}
}
