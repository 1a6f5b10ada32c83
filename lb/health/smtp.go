package health

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/smtp"
)

// SMTP is the check that a mail server greets and takes a greeting.
type SMTP struct {
	Helo string // the name that fnatd gives itself
}

func (s *SMTP) String() string { return "smtp" }

// Probe implements Probe.
func (s *SMTP) Probe(ctx context.Context, to Endpoint) (Result, error) {
	conn, err := to.dial(ctx, "tcp")
	if err != nil {
		return Result{}, err
	}
	defer conn.Close()
	if err := deadline(ctx, conn); err != nil {
		return Result{}, err
	}
	c, err := smtp.NewClient(&limited{Conn: conn, left: maxHead}, to.Addr().String())
	if err != nil {
		return Result{}, fmt.Errorf("greeting: %w", plain(err))
	}
	if err := c.Hello(s.Helo); err != nil {
		return Result{}, fmt.Errorf("HELO: %w", plain(err))
	}
	if err := c.Quit(); err != nil {
		return Result{}, fmt.Errorf("QUIT: %w", plain(err))
	}
	return Result{}, nil
}

// A limited connection ends after so many bytes from the other side: what reads
// it line by line would take any line for one that ends some time.
type limited struct {
	net.Conn
	left int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left == 0 {
		return 0, fmt.Errorf("more than %d KiB: %w", maxHead>>10, io.ErrUnexpectedEOF)
	}
	n, err := l.Conn.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}
