package ctl

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Peer is the process at the other end of the control socket, by the kernel's
// word (SO_PEERCRED): what it was when it connected. The zero Peer is nobody.
type Peer struct {
	PID      int
	UID, GID uint32
}

// String returns p for a log, or "a signal" if it is nobody, as nobody else asks without a socket.
func (p Peer) String() string {
	if p.PID == 0 {
		return "a signal"
	}
	return fmt.Sprintf("uid %d gid %d pid %d", p.UID, p.GID, p.PID)
}

// peerOf asks the kernel who is at the other end of a unix socket.
func peerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var refused error
	err = raw.Control(func(fd uintptr) {
		cred, refused = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return Peer{}, fmt.Errorf("credentials of the control client: %w", err)
	}
	return Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid}, nil
}

// A conn is a control connection of which the other end is known.
type conn struct {
	*net.UnixConn
	peer    Peer
	spoke   atomic.Bool // a request came
	leave   func()      // makes room for another
	strange *strange
}

// Close logs a client from whom no request came: somebody is at the socket who is
// no client of it.
func (c *conn) Close() error {
	defer c.leave()
	if !c.spoke.Swap(true) {
		c.strange.tell(c.peer, time.Now())
	}
	return c.UnixConn.Close()
}

// strange tells the log of clients from whom no request came, as many in readTime
// as can be silent in it, so that those who are quick do not fill a disk.
type strange struct {
	mu     sync.Mutex
	since  time.Time
	told   int
	untold int
}

func (s *strange) tell(by Peer, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.since) > readTime {
		if s.untold > 0 {
			slog.Warn("control clients without a request, of which no more was said", "clients", s.untold)
		}
		s.since, s.told, s.untold = now, 0, 0
	}
	if s.told == maxConns {
		s.untold++
		return
	}
	s.told++
	slog.Warn("control client left or was cut off without a request", "by", by)
}

type connKey struct{}

// withConn is Serve's ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// heard notes that a request came on the connection that ctx belongs to.
func heard(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.spoke.Store(true)
	}
}

// PeerOf returns who made the request that ctx belongs to.
func PeerOf(ctx context.Context) Peer {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.peer
	}
	return Peer{}
}
