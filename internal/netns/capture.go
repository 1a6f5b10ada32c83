package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// captureBuffer is the kernel's queue of a capture. The reader is an ordinary
// goroutine on a machine that tests keep busy, so it is large: some 10,000 full
// frames, as the kernel counts them.
const captureBuffer = 32 << 20

// A Frame is one frame of a capture, Ethernet header first.
type Frame struct {
	Time time.Time // when it was read
	Sent bool      // the captured interface sent it, rather than received it
	Data []byte
}

// A Capture records the frames of an interface until Stop.
//
// The kernel's taps lie above XDP: on the balancer, a capture sees neither what
// the XDP program redirects nor what an AF_XDP socket sends. Capture at the other
// end of the wire.
type Capture struct {
	name string
	file *os.File
	raw  syscall.RawConn
	keep func([]byte) bool
	done chan struct{}

	mu     sync.Mutex
	frames []Frame
	err    error
}

// Capture begins to record the interface. It is running when Capture returns.
func (h *Host) Capture(ifname string) (*Capture, error) { return h.CaptureOnly(ifname, nil) }

// CaptureOnly is Capture of the frames that keep wants. It may not hold on to a
// frame it is shown.
func (h *Host) CaptureOnly(ifname string, keep func(frame []byte) bool) (*Capture, error) {
	c := &Capture{name: h.Name + " " + ifname, keep: keep, done: make(chan struct{})}
	if err := h.Do(func() error { return c.open(ifname) }); err != nil {
		return nil, fmt.Errorf("capture %s: %w", c.name, err)
	}
	go c.run()
	h.atClose(func() error { _, err := c.Stop(); return err })
	return c, nil
}

// open makes a packet socket on the interface, in the thread's namespace.
func (c *Capture) open(ifname string) error {
	index, err := interfaceIndex(ifname)
	if err != nil {
		return err
	}
	// Protocol 0 receives nothing until bind has named the interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.file = os.NewFile(uintptr(fd), "capture "+ifname)
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: etherTypeAll, Ifindex: index}),
	); err != nil {
		c.file.Close()
		return err
	}
	c.raw, err = c.file.SyscallConn()
	return err
}

// etherTypeAll is ETH_P_ALL in network order, as bind wants it.
var etherTypeAll = binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL})

// interfaceIndex returns an interface's index in the thread's namespace.
func interfaceIndex(ifname string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq(ifname)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifreq); err != nil {
		return 0, err
	}
	return int(ifreq.Uint32()), nil
}

// run reads until Stop sets a deadline, and then what is still in the queue.
func (c *Capture) run() {
	defer close(c.done)
	buf := make([]byte, 1<<16)
	for {
		err := c.raw.Read(func(fd uintptr) bool { return c.receive(int(fd), buf) })
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.fail(err)
		}
		break
	}
	c.raw.Control(func(fd uintptr) {
		for c.receive(int(fd), buf) {
		}
		c.checkDrops(int(fd))
	})
}

// receive takes one frame off the socket's queue. It reports false if there is
// none.
func (c *Capture) receive(fd int, buf []byte) bool {
	n, from, err := unix.Recvfrom(fd, buf, 0)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false
	case err != nil: // ENETDOWN: the link went down; it may come up again
		return true
	}
	if c.keep != nil && !c.keep(buf[:n]) {
		return true
	}
	ll, _ := from.(*unix.SockaddrLinklayer)
	f := Frame{Time: time.Now(), Sent: ll.Pkttype == unix.PACKET_OUTGOING, Data: append([]byte(nil), buf[:n]...)}
	c.mu.Lock()
	c.frames = append(c.frames, f)
	c.mu.Unlock()
	return true
}

// checkDrops makes it an error that the queue has overflowed: a test must not
// take a frame that was not recorded for one that was not there.
func (c *Capture) checkDrops(fd int) {
	stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		c.fail(err)
	} else if stats.Drops > 0 {
		c.fail(fmt.Errorf("capture %s: the kernel dropped %d of %d frames", c.name, stats.Drops, stats.Packets))
	}
}

func (c *Capture) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = errors.Join(c.err, err)
}

// Frames returns the frames recorded so far.
func (c *Capture) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames[:len(c.frames):len(c.frames)]
}

// Stop ends the recording and returns its frames: all that the interface has
// sent or received before the call. It may be called again.
func (c *Capture) Stop() ([]Frame, error) {
	if err := c.file.SetReadDeadline(time.Unix(1, 0)); err == nil {
		<-c.done
		c.file.Close()
	}
	<-c.done
	return c.Frames(), c.err
}
