package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/bench/traffic"
)

// connectTime is how long a kept connection may take to be established.
const connectTime = 5 * time.Second

// dial makes a connection from the thread's namespace and waits for it.
func dial(target netip.AddrPort) (fd int, err error) {
	if fd, err = newSocket(); err != nil {
		return -1, err
	}
	err = unix.Connect(fd, sockaddr(target))
	if errors.Is(err, unix.EINPROGRESS) {
		err = wait(fd, unix.POLLOUT, connectTime)
	}
	if err == nil {
		var code int
		if code, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			err = unix.Errno(code)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect to %v: %w", target, err)
	}
	return fd, nil
}

// wait waits until something can be done with a socket.
func wait(fd int, events int16, patience time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(fds, int(patience.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("nothing for %v", patience)
		default:
			return nil
		}
	}
}

// PingPong sends one byte to and fro on one connection from h, on one processor,
// for some time after a warm-up, and returns how long each round trip took.
func PingPong(ctx context.Context, h *netns.Host, cpu int, target netip.AddrPort, warmup, length time.Duration) (all Samples, err error) {
	err = h.Do(func() error {
		unpin, err := traffic.Pin(cpu)
		if err != nil {
			return err
		}
		defer unpin()
		fd, err := dial(target)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		all = make(Samples, 0, 1<<20) // none is to wait for memory
		var b [1]byte
		start := time.Now()
		for now := start; ctx.Err() == nil && now.Sub(start) < warmup+length; {
			if _, err := unix.Write(fd, b[:]); err != nil {
				return err
			}
			n, err := unix.Read(fd, b[:])
			for errors.Is(err, unix.EAGAIN) {
				if err = wait(fd, unix.POLLIN, connectTime); err == nil {
					n, err = unix.Read(fd, b[:])
				}
			}
			if err == nil && n == 0 {
				err = io.EOF
			}
			if err != nil {
				return fmt.Errorf("ping-pong: %w", err)
			}
			then := now
			now = time.Now()
			if then.Sub(start) >= warmup {
				all = append(all, now.Sub(then))
			}
		}
		return ctx.Err()
	})
	return all, err
}

// Download reads from so many connections from h at once, on one processor, for
// some time after a warm-up, and returns how many bytes came in a second.
func Download(ctx context.Context, h *netns.Host, cpu int, target netip.AddrPort, conns int, warmup, length time.Duration) (rate float64, err error) {
	err = h.Do(func() error {
		unpin, err := traffic.Pin(cpu)
		if err != nil {
			return err
		}
		defer unpin()
		poll, err := newEpoll()
		if err != nil {
			return err
		}
		defer poll.close()
		for range conns {
			fd, err := dial(target)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := poll.add(fd, unix.EPOLLIN); err != nil {
				return err
			}
		}
		rate, err = read(ctx, poll, warmup, length)
		return err
	})
	return rate, err
}

func read(ctx context.Context, poll epoll, warmup, length time.Duration) (rate float64, err error) {
	buf := make([]byte, 1<<18)
	events := make([]unix.EpollEvent, 64)
	start := time.Now()
	var begin time.Time
	bytes := 0
	for ctx.Err() == nil {
		ready, err := poll.wait(events, pollTime)
		if err != nil {
			return 0, err
		}
		now := time.Now()
		if begin.IsZero() && now.Sub(start) >= warmup {
			begin, bytes = now, 0
		}
		if !begin.IsZero() && now.Sub(begin) >= length {
			return float64(bytes) / now.Sub(begin).Seconds(), nil
		}
		for _, e := range ready {
			n, err := unix.Read(int(e.Fd), buf)
			switch {
			case errors.Is(err, unix.EAGAIN):
			case err != nil:
				return 0, err
			case n == 0:
				return 0, errors.New("download: the server has closed")
			}
			bytes += max(n, 0)
		}
	}
	return 0, ctx.Err()
}
