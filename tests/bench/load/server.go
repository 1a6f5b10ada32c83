package load

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/bench/traffic"
)

// What a server does on a port.
const (
	ShortPort = 8080 // answers one request and closes
	EchoPort  = 8081 // sends back what it gets
	BulkPort  = 8082 // sends for as long as the client reads
)

// A Server serves the ports above on some hosts, by one thread.
type Server struct {
	poll      epoll
	listeners map[int]uint16 // descriptor to port
	conns     map[int]uint16
}

// NewServer returns a server that listens on all addresses of the hosts.
func NewServer(hosts []*netns.Host) (*Server, error) {
	s := &Server{listeners: map[int]uint16{}, conns: map[int]uint16{}}
	var err error
	if s.poll, err = newEpoll(); err != nil {
		return nil, err
	}
	for _, h := range hosts {
		for _, port := range []uint16{ShortPort, EchoPort, BulkPort} {
			fd, err := listen(h, netip.AddrPortFrom(netip.IPv4Unspecified(), port))
			if err == nil {
				s.listeners[fd] = port
				err = s.poll.add(fd, unix.EPOLLIN)
			}
			if err != nil {
				s.close()
				return nil, err
			}
		}
	}
	return s, nil
}

// Serve serves on one processor until the context ends, and closes the server.
func (s *Server) Serve(ctx context.Context, cpu int) error {
	defer s.close()
	unpin, err := traffic.Pin(cpu)
	if err != nil {
		return err
	}
	defer unpin()
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 1<<16)
	for ctx.Err() == nil {
		ready, err := s.poll.wait(events, pollTime)
		if err != nil {
			return err
		}
		for _, e := range ready {
			fd := int(e.Fd)
			if port, ok := s.listeners[fd]; ok {
				s.accept(fd, port, buf)
			} else {
				s.serve(fd, buf)
			}
		}
	}
	return nil
}

// pollTime is how soon a thread sees that its context has ended, ms.
const pollTime = 50

// accept accepts what there is. Most requests have come by then.
func (s *Server) accept(listener int, port uint16, buf []byte) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		events := uint32(unix.EPOLLIN)
		if port == BulkPort {
			events = unix.EPOLLOUT
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		s.conns[fd] = port
		if s.serve(fd, buf) && s.poll.add(fd, events) != nil {
			s.drop(fd)
		}
	}
}

// serve does what there is to do for a connection, and reports whether it is
// still open.
func (s *Server) serve(fd int, buf []byte) bool {
	switch s.conns[fd] {
	case ShortPort:
		n, err := unix.Read(fd, buf[:requestSize])
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if n > 0 {
			_, _ = unix.Write(fd, buf[:responseSize]) // who does not get it counts it
		}
		s.drop(fd)
		return false
	case EchoPort:
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if n <= 0 {
			s.drop(fd)
			return false
		}
		_, err = unix.Write(fd, buf[:n])
		return err == nil
	default:
		for {
			_, err := unix.Write(fd, buf)
			if errors.Is(err, unix.EAGAIN) {
				return true
			}
			if err != nil {
				s.drop(fd)
				return false
			}
		}
	}
}

func (s *Server) drop(fd int) {
	delete(s.conns, fd)
	unix.Close(fd)
}

func (s *Server) close() {
	for fd := range s.listeners {
		unix.Close(fd)
	}
	for fd := range s.conns {
		unix.Close(fd)
	}
	s.poll.close()
}
