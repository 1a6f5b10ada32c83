package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stopTime is how long Serve lets requests under way finish.
const stopTime = 2 * time.Second

// A Socket is the listening control socket, and the lock that makes its owner
// the only fnatd with that path.
type Socket struct {
	net.Listener
	lock *os.File
}

// Listen makes the unix socket at path, for its owner and group only. It holds
// a lock on path+".lock" until Close or the end of the process, however that
// ends: so a socket file that a killed fnatd left is known to be dead and is
// replaced, and a second fnatd is refused. The lock file stays, because
// removing it would let a third process lock a new file of the same name.
func Listen(path string) (*Socket, error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("control socket %q: %w", path, err)
	}
	l, err := listenUnix(path)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("control socket %q: %w", path, err)
	}
	return &Socket{l, lock}, nil
}

// Close removes the socket and lets another fnatd have it. Serve leaves that
// to the caller, who may have more to take down first.
func (s *Socket) Close() error {
	err := s.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // by Serve
	}
	return errors.Join(err, s.lock.Close())
}

// lockFile locks the file name, which names its holder for whoever is refused.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: make the directory, or set control in [daemon]", err)
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := io.ReadAll(f)
		f.Close()
		return nil, fmt.Errorf("another fnatd (pid %s) is running: stop it, or give this one another control in [daemon] and other interfaces",
			strings.TrimSpace(string(holder)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	return f, nil
}

// listenUnix listens at path, whose lock is held.
func listenUnix(path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("exists and is not a socket: remove it, or set control in [daemon] to another path")
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// Between bind and chmod nobody else may connect.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Serve answers requests on l with h until ctx ends, then lets those under
// way finish for two seconds. It returns nil after such a stop. The metrics
// server uses it too.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	if s, ok := l.(*Socket); ok {
		l = s.Listener // the lock is for Socket.Close
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      answerTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
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
