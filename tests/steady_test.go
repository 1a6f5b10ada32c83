package tests

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
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
}

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
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			b.Fatal(err)
		}
	})
	go s.receive()
	cmd := rig.Client.Command(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", steadySender, to.Virtual, interval), "GOMAXPROCS=1")
	if s.sender, err = rig.Client.BackgroundCommand(cmd); err != nil {
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

// steadySender is the environment variable that makes a sender of the test binary:
// the address it sends to and the interval in ns.
const steadySender = "FNATD_TEST_STEADY_SENDER"

// sendSteadily sends until SIGTERM, then prints how many datagrams it has sent and
// the largest gap between two in ns.
func sendSteadily(what string) int {
	if err := sendDatagrams(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func sendDatagrams(what string) error {
	var to string
	var interval time.Duration
	if _, err := fmt.Sscanf(what, "%s %d", &to, &interval); err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 50}, 0); err != nil {
		return fmt.Errorf("sender: real-time priority: %w", err)
	}
	var stop atomic.Bool
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	go func() {
		<-terms
		stop.Store(true)
	}()
	var sent, gap, last int64
	next := unix.NsecToTimespec(time.Now().UnixNano())
	for !stop.Load() {
		at := time.Unix(next.Unix())
		if now := time.Now(); now.Sub(at) > interval { // no bursts
			at = now
		}
		next = unix.NsecToTimespec(at.Add(interval).UnixNano())
		for unix.ClockNanosleep(unix.CLOCK_REALTIME, unix.TIMER_ABSTIME, &next, nil) == unix.EINTR {
		}
		now := time.Now().UnixNano()
		if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(now))); err != nil {
			continue // nobody listens yet
		}
		if sent++; sent > 1 {
			gap = max(gap, now-last)
		}
		last = now
	}
	fmt.Println(sent, time.Duration(gap).Nanoseconds())
	return nil
}
