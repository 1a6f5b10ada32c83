// Package load is the connections of the benchmarks: clients and servers, each one
// thread around epoll, so that a processor for each is all they take. Their
// sockets live in the rig's namespaces, their threads in this process.
package load

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
)

// The exchange of a short connection: a request, and a response after which the
// server closes.
const (
	requestSize  = 64
	responseSize = 128
)

// An epoll is a file descriptor of epoll(7). Events carry the descriptor that
// they are about.
type epoll int

func newEpoll() (epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return epoll(fd), err
}

func (e epoll) add(fd int, events uint32) error {
	return unix.EpollCtl(int(e), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Fd: int32(fd), Events: events})
}

func (e epoll) change(fd int, events uint32) error {
	return unix.EpollCtl(int(e), unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Fd: int32(fd), Events: events})
}

// wait returns the events there are, or none after so many milliseconds.
func (e epoll) wait(events []unix.EpollEvent, ms int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(int(e), events, ms)
	if errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	return events[:max(n, 0)], err
}

func (e epoll) close() { unix.Close(int(e)) }

// sockaddr returns an IPv4 address as the system calls want it.
func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// newSocket returns a TCP socket that blocks nobody and delays nothing, in the
// thread's namespace.
func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// backlog is how many connections may wait to be accepted. The kernel lowers it to
// net.core.somaxconn.
const backlog = 1 << 16

// listen returns a socket of h that listens.
func listen(h *netns.Host, at netip.AddrPort) (fd int, err error) {
	err = h.Do(func() error {
		if fd, err = newSocket(); err != nil {
			return err
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, sockaddr(at)),
			unix.Listen(fd, backlog),
		)
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("%s: listen on %v: %w", h.Name, at, err)
	}
	return fd, nil
}
