package xsk

import (
	"time"

	"golang.org/x/sys/unix"
)

// Wait sleeps until one of the sockets has a packet to receive, or for timeout.
// It may return early without one.
func Wait(socks []*Socket, timeout time.Duration) {
	var fds [maxSockets]unix.PollFd
	n := min(len(socks), maxSockets)
	for i, s := range socks[:n] {
		fds[i] = unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN}
	}
	ts := unix.NsecToTimespec(int64(timeout))
	// A failure is EINTR, or a socket closed too early: either way, not asleep.
	_, _ = unix.Ppoll(fds[:n], &ts, nil)
}
