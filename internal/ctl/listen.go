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
	"time"

	"golang.org/x/sys/unix"
)

// stopTime is how long Serve lets requests under way finish.
const stopTime = 2 * time.Second

// Listen makes the unix socket at path, for its owner and group only. A socket
// file that a killed fnatd left is replaced; one on which somebody answers is
// not. Two that start at the same moment could both find it dead: a caller to
// whom that matters holds a lock of its own. The listener may be closed more
// than once.
func Listen(path string) (net.Listener, error) {
	if err := removeDead(path); err != nil {
		return nil, fmt.Errorf("control socket %q: %w", path, err)
	}
	// Between bind and chmod nobody else may connect.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket %q: no such directory: make it, or set control in [daemon]", path)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return listener{l}, nil
}

// A listener may be closed twice: by Serve at a stop, and by its owner.
type listener struct{ net.Listener }

func (l listener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
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
