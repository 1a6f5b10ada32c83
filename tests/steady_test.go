package tests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// A steady is a stream of datagrams at even intervals. A process of its own, ahead
// of all others, sends them, and the kernel of the receiver times them, so that only
// the way counts.
type steady struct {
	sender   *netns.Process
	received chan pauses
	c        net.PacketConn
	lately   atomic.Int64 // largest gap since lap, in ns
}

// lap returns the largest gap since the last lap. Datagrams that are still under way
// count for the next one.
func (s *steady) lap() time.Duration { return time.Duration(s.lately.Swap(0)) }

// A pauses is what a steady has shown.
type pauses struct {
	gap   time.Duration // the largest between two that arrived
	delay time.Duration // the longest that one was under way
	sent  time.Duration // the largest between two that were sent: what the way is not to blame for
	n     int           // that arrived
	lost  int
}

// startStream sends a datagram each interval.
func startStream(b testing.TB, rig *netns.Rig, to harness.Service, interval time.Duration) *steady {
	s := &steady{received: make(chan pauses, 1)}
	var err error
	if s.c, err = rig.Servers[0].ListenPacket("udp", to.Servers[0].Real.String()); err != nil {
		b.Fatal(err)
	}
	raw, err := s.c.(*net.UDPConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		// The receiver may be held up for longer than the usual buffer lasts.
		if err := errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)); err != nil {
			b.Fatal(err)
		}
	})
	go s.receive()
	at := to.Virtual
	if s.sender, err = rig.Client.Background(compileC(b, "steady"), at.Addr().String(), fmt.Sprint(at.Port()), fmt.Sprint(interval.Nanoseconds())); err != nil {
		b.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	return s
}

func (s *steady) receive() {
	var got pauses
	var last int64
	buf, control := make([]byte, 64), make([]byte, 256)
	for {
		n, oobn, _, _, err := s.c.(*net.UDPConn).ReadMsgUDP(buf, control)
		if err != nil {
			s.received <- got
			return
		}
		at := stamp(control[:oobn])
		if got.n > 0 {
			got.gap = max(got.gap, time.Duration(at-last))
			s.lately.Store(max(s.lately.Load(), at-last)) // a lap in between is missed by one datagram
		}
		got.delay = max(got.delay, time.Duration(at-int64(binary.BigEndian.Uint64(buf[:n]))))
		last = at
		got.n++
	}
}

// stamp returns when the kernel received a datagram.
func stamp(control []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return time.Now().UnixNano()
	}
	t := messages[0].Data
	return int64(binary.NativeEndian.Uint64(t))*1e9 + int64(binary.NativeEndian.Uint64(t[8:]))
}

func (s *steady) stop(b testing.TB) pauses {
	b.Helper()
	if err := s.sender.Stop(); err != nil {
		b.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	s.c.Close()
	got := <-s.received
	var sent int
	if _, err := fmt.Sscan(s.sender.Output(), &sent, &got.sent); err != nil {
		b.Fatalf("sender: %v: %q", err, s.sender.Output())
	}
	got.lost = sent - got.n
	return got
}

// compileC compiles a program of testdata.
func compileC(b testing.TB, program string) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), program)
	if out, err := exec.Command("cc", "-O2", "-o", path, "testdata/"+program+".c").CombinedOutput(); err != nil {
		b.Fatalf("cc: %v\n%s", err, out)
	}
	return path
}
