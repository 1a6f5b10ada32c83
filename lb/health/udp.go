package health

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
)

// UDP is the check that a server answers a datagram, or at least does not refuse
// it: without a reply asked for, silence until the time is over passes, and an
// ICMP error fails.
type UDP struct {
	Payload            []byte
	Answer             bool   // there must be a reply
	Pattern            string // of its first bytes: hexadecimal digits, x for any; "": any
	MinReply, MaxReply int    // bytes
}

// maxDatagram is the longest UDP datagram.
const maxDatagram = 65535

// datagrams are buffers: thousands of checks a second would have the garbage
// collector run all the time.
var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

func (u *UDP) String() string {
	if u.Answer {
		return "udp with reply"
	}
	return "udp"
}

// Probe implements Probe.
func (u *UDP) Probe(ctx context.Context, to Endpoint) (Result, error) {
	conn, err := to.dial(ctx, "udp")
	if err != nil {
		return Result{}, err
	}
	defer conn.Close()
	if err := deadline(ctx, conn); err != nil {
		return Result{}, err
	}
	if _, err := conn.Write(u.Payload); err != nil {
		return Result{}, plain(err)
	}
	buf := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buf)
	n, err := conn.Read(buf[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && !u.Answer:
		return Result{}, nil
	case err != nil:
		return Result{}, plain(err)
	case !u.Answer:
		return Result{}, nil
	}
	return Result{}, u.judge(buf[:n])
}

// deadline has conn give up when ctx does.
func deadline(ctx context.Context, conn net.Conn) error {
	if at, ok := ctx.Deadline(); ok {
		return conn.SetDeadline(at)
	}
	return nil
}

func (u *UDP) judge(reply []byte) error {
	if len(reply) < u.MinReply || len(reply) > u.MaxReply {
		return fmt.Errorf("reply of %d bytes, want %d to %d", len(reply), u.MinReply, u.MaxReply)
	}
	if got := hex.EncodeToString(reply[:min(len(reply), len(u.Pattern)/2)]); !fits(got, u.Pattern) {
		return fmt.Errorf("reply begins with %.64s, want %.64s", got, u.Pattern)
	}
	return nil
}

// fits reports whether digits are those of pattern, wherever that has no x.
func fits(digits, pattern string) bool {
	if len(digits) != len(pattern) {
		return false
	}
	for i := range len(pattern) {
		if pattern[i] != 'x' && pattern[i] != digits[i] {
			return false
		}
	}
	return true
}
