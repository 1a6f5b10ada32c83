package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Our choices.
const (
	stopTime = 2 * time.Second // that Serve lets requests under way finish
	readTime = 3 * time.Second // for a request's header to come, and as much again for its body
)

// maxConns is how many control connections may be open at a time; whoever comes
// then waits until one is closed. A client that says nothing is closed after
// readTime, so silent ones hold an operator up no longer than that. Our choice.
const maxConns = 64

// Listen makes the unix socket at path, for its owner and for group, which is the
// owner's if it is empty. A socket file that a killed fnatd left is replaced; one
// on which somebody answers is not. Two that start at the same moment could both
// find it dead: a caller to whom that matters holds a lock of its own. The
// listener may be closed more than once.
func Listen(path, group string) (net.Listener, error) {
	if err := removeDead(path); err != nil {
		return nil, fmt.Errorf("control socket %q: %w", path, err)
	}
	// Between bind and chmod nobody else may connect.
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket %q: no such directory: make it, or set control in [daemon]", path)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := share(path, group); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return newListener(l), nil
}

func newListener(l *net.UnixListener) *listener {
	return &listener{UnixListener: l, room: make(chan struct{}, maxConns), closed: make(chan struct{})}
}

// Inherit goes on with the control socket that another process has passed on: whoever
// connected meanwhile waits in it.
func Inherit(f *os.File) (net.Listener, error) {
	defer f.Close() // FileListener duplicates it
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, errors.New("control socket: not a unix socket")
	}
	u.SetUnlinkOnClose(true)
	return newListener(u), nil
}

// share gives a socket to its group.
func share(path, group string) error {
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return fmt.Errorf("control_group %q: no such group: make it (groupadd --system %[1]s), or name another", group)
		}
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("control_group %q: group number %q: %w", group, g.Gid, err)
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("control_group %q: %w: run fnatd with it as a supplementary group (SupplementaryGroups=%[1]s in its systemd unit)", group, err)
		}
	}
	return os.Chmod(path, 0o660)
}

// A listener knows who connects, and lets in only so many at a time. It may be
// closed twice: by Serve at a stop, and by its owner.
type listener struct {
	*net.UnixListener
	room   chan struct{} // holds one for each open connection
	closed chan struct{}
	once   sync.Once

	strange strange
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.AcceptUnix()
	if err != nil {
		<-l.room
		return nil, err
	}
	peer, err := peerOf(c)
	if err != nil {
		slog.Warn("control socket", "error", err)
	}
	return &conn{UnixConn: c, peer: peer, leave: sync.OnceFunc(func() { <-l.room }), strange: &l.strange}, nil
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	if err := l.UnixListener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// removeDead removes the socket at path if there is one and nobody answers.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("exists and is not a socket: remove it, or set control in [daemon] to another path")
	}
	if c, err := net.DialTimeout("unix", path, dialTime); err == nil {
		c.Close()
		return errors.New("another fnatd answers on it: stop it, or set control in [daemon] to another path")
	}
	return os.Remove(path)
}

// Serve answers requests on l with h until ctx ends, then lets those under
// way finish for two seconds. It returns nil after such a stop. The metrics
// server uses it too.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTime,
		ReadTimeout:       2 * readTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConn,
	}
	stopped := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, done := context.WithTimeout(context.Background(), stopTime)
		defer done()
		if srv.Shutdown(late) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(l)
	if !cancel() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
