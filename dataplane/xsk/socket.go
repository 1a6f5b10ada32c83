package xsk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Our choices.
const (
	bindPatience   = 500 * time.Millisecond // a queue stays busy up to 17 ms after its last owner closed it
	bindRetry      = 5 * time.Millisecond
	releaseTime    = 50 * time.Millisecond // until the driver of a closed zero-copy socket has let go of its frames
	firstFill      = 64                    // frames for a driver that takes buffers while binding; all would be more than a share if more sockets follow
	txBudget       = 256                   // frames that one sendto sends in copy mode, where the kernel's own limit is 32
	busyPollTime   = 20                    // µs that one system call polls the queue
	busyPollBudget = 64                    // frames that it handles at most
)

// A Mode is how frames get from the driver to the socket and back.
type Mode uint8

const (
	Auto     Mode = iota // ZeroCopy if the driver has it, else Copy
	ZeroCopy             // the driver reads and writes the UMEM
	Copy                 // the kernel copies
	Generic              // Copy, where the XDP program runs in the stack
)

var modeNames = [...]string{Auto: "auto", ZeroCopy: "zerocopy", Copy: "copy", Generic: "generic"}

func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// Options say how to open a socket. The zero Options are the defaults.
type Options struct {
	Mode     Mode
	BusyPoll bool // system calls drive the queue instead of interrupts, where the kernel can (5.11)

	// MultiBuffer has packets that are longer than a frame come and go in several
	// (6.6). The interface's XDP program must be one that takes such packets.
	MultiBuffer bool
}

// A Socket is an AF_XDP socket on one queue of one interface. It has one owner,
// that of its UMEM; after Close it must not be used.
type Socket struct {
	umem      *UMEM
	fd        int
	ifindex   int
	queue     int
	mode      Mode // what was got; Auto until bound
	reason    string
	busyPoll  bool
	multi     bool  // was opened with MultiBuffer
	onReceive place // of frames that the kernel may receive into, or has
	onSend    place // of frames that the kernel sends, or has

	fill            producer
	fillSlots       []uint64
	rx              consumer
	rxSlots         []Desc
	tx              producer
	txSlots         []Desc
	completion      consumer
	completionSlots []uint64

	receiving int // frames on the receive side
	share     int // bound of receiving
	count     counts
}

// counts are a socket's counters, added to once a batch.
type counts struct {
	received, sent, completed, kicks, refused atomic.Uint64
	errno                                     atomic.Uint32
}

// Open opens a socket on a queue of an interface and binds it. A queue that its
// last owner is still letting go of is waited for. It has few frames to receive
// into before the first Refill.
//
// Every socket registers the UMEM's memory for itself rather than share the first
// one's registration (XDP_SHARED_UMEM): the kernel would force the first socket's
// mode on all, so that one veth would cost a NIC its zero-copy. Frames pass
// between the sockets all the same, for an address means the same memory in each.
// Without CAP_IPC_LOCK each registration counts against RLIMIT_MEMLOCK.
func Open(u *UMEM, ifindex, queue int, o Options) (*Socket, error) {
	switch o.Mode {
	case Auto:
		s, err := open(u, ifindex, queue, ZeroCopy, o)
		if err == nil || errors.Is(err, unix.EBUSY) {
			return s, err
		}
		reason := fmt.Sprintf("zero-copy: %v", errors.Unwrap(err))
		if s, err = open(u, ifindex, queue, Copy, o); err != nil {
			return nil, err
		}
		s.reason = reason
		return s, nil
	case ZeroCopy, Copy, Generic:
		s, err := open(u, ifindex, queue, o.Mode, o)
		if err != nil {
			return nil, err
		}
		s.reason = o.Mode.String() + " mode was asked for"
		return s, nil
	}
	return nil, fmt.Errorf("af_xdp socket: mode %d: unknown", o.Mode)
}

// open opens a socket in one certain mode.
func open(u *UMEM, ifindex, queue int, mode Mode, o Options) (*Socket, error) {
	s := &Socket{umem: u, fd: -1, ifindex: ifindex, queue: queue, multi: o.MultiBuffer, reason: "the driver has zero-copy"}
	err := u.add(s)
	if err == nil {
		err = s.setUp(mode, o)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("af_xdp socket on interface %d queue %d: %w", ifindex, queue, err)
	}
	return s, nil
}

// setUp makes the socket from registration to bind, in the order that the kernel
// wants.
func (s *Socket) setUp(mode Mode, o Options) (err error) {
	if s.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := s.register(); err != nil {
		return err
	}
	if err := s.makeRings(); err != nil {
		return err
	}
	if err := s.mapRings(); err != nil {
		return err
	}
	s.tune(o.BusyPoll)
	s.refill(min(firstFill, s.share))
	if err := s.bind(mode); err != nil {
		return err
	}
	s.mode = mode
	return s.checkMode()
}

// checkMode asks the kernel whether the socket is in its mode.
func (s *Socket) checkMode() error {
	got, err := option[uint32](s.fd, unix.XDP_OPTIONS)
	if err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	if zeroCopy := got&unix.XDP_OPTIONS_ZEROCOPY != 0; zeroCopy != (s.mode == ZeroCopy) {
		return fmt.Errorf("zero-copy is %v against %s mode", zeroCopy, s.mode)
	}
	return nil
}

func (s *Socket) register() error {
	reg := unix.XDPUmemReg{Addr: s.umem.base(), Len: s.umem.size(), Size: uint32(s.umem.FrameSize())}
	err := setOption(s.fd, unix.XDP_UMEM_REG, &reg)
	if errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("register umem: %w (raise RLIMIT_MEMLOCK, or give CAP_IPC_LOCK)", err)
	}
	if err != nil {
		return fmt.Errorf("register umem: %w", err)
	}
	return nil
}

// makeRings has the kernel make the four rings.
func (s *Socket) makeRings() error {
	entries := int32(s.umem.ringSize)
	for _, name := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := setOption(s.fd, name, &entries); err != nil {
			return fmt.Errorf("ring of %d entries: %w", entries, err)
		}
	}
	return nil
}

// mapRings maps the four rings, and goes on from where their indices are.
func (s *Socket) mapRings() error {
	size := s.umem.ringSize
	off, err := option[unix.XDPMmapOffsets](s.fd, unix.XDP_MMAP_OFFSETS)
	if err != nil {
		return fmt.Errorf("ring offsets: %w", err)
	}
	var errs [4]error
	var fill, completion, rx, tx ring
	fill, s.fillSlots, errs[0] = mapRing[uint64](s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, size, true)
	completion, s.completionSlots, errs[1] = mapRing[uint64](s.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, size, false)
	rx, s.rxSlots, errs[2] = mapRing[Desc](s.fd, unix.XDP_PGOFF_RX_RING, off.Rx, size, false)
	tx, s.txSlots, errs[3] = mapRing[Desc](s.fd, unix.XDP_PGOFF_TX_RING, off.Tx, size, true)
	s.fill, s.completion, s.rx, s.tx = producer(fill), consumer(completion), consumer(rx), producer(tx)
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("map rings: %w", err)
	}
	return nil
}

// tune sets options that older kernels lack; the socket works without them.
func (s *Socket) tune(busyPoll bool) {
	budget := int32(txBudget)
	_ = setOption(s.fd, unix.XDP_MAX_TX_SKB_BUDGET, &budget) // since 6.17
	if !busyPoll {
		return
	}
	s.busyPoll = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL, 1) == nil &&
		unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_BUSY_POLL, busyPollTime) == nil &&
		unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_BUSY_POLL_BUDGET, busyPollBudget) == nil
}

func (s *Socket) bind(mode Mode) error {
	addr := unix.SockaddrXDP{Ifindex: uint32(s.ifindex), QueueID: uint32(s.queue), Flags: unix.XDP_USE_NEED_WAKEUP}
	if mode == ZeroCopy {
		addr.Flags |= unix.XDP_ZEROCOPY
	} else {
		addr.Flags |= unix.XDP_COPY
	}
	if s.multi {
		addr.Flags |= unix.XDP_USE_SG
	}
	err := unix.Bind(s.fd, &addr)
	for waited := time.Duration(0); errors.Is(err, unix.EBUSY) && waited < bindPatience; waited += bindRetry {
		time.Sleep(bindRetry)
		err = unix.Bind(s.fd, &addr)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("bind: %w (another AF_XDP program has the queue: stop it)", err)
	case errors.Is(err, unix.EINVAL) && s.multi:
		return fmt.Errorf("bind: %w (has the interface such a queue, and is the kernel 6.6 or newer, which packets of several frames need?)", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("bind: %w (has the interface such a queue?)", err)
	case err != nil:
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// Mode returns the mode that the socket got; it is never Auto.
func (s *Socket) Mode() Mode { return s.mode }

// Reason says why the socket is in its mode.
func (s *Socket) Reason() string { return s.reason }

// ZeroCopy reports whether the driver reads and writes the UMEM itself.
func (s *Socket) ZeroCopy() bool { return s.mode == ZeroCopy }

// BusyPolls reports whether system calls drive the queue: false if that was not
// asked for, or the kernel cannot.
func (s *Socket) BusyPolls() bool { return s.busyPoll }

// FD returns the file descriptor, for the XDP program's map and for poll.
func (s *Socket) FD() int { return s.fd }

// Close closes the socket. Frames that were with it or the kernel become free;
// packets among them are lost. Those in the owner's hands stay there.
func (s *Socket) Close() error {
	err := s.release()
	if s.mode == ZeroCopy {
		time.Sleep(releaseTime)
	}
	s.umem.remove(s)
	if err != nil {
		return fmt.Errorf("af_xdp socket on interface %d queue %d: close: %w", s.ifindex, s.queue, err)
	}
	return nil
}

// release gives back what this process has of the socket.
func (s *Socket) release() error {
	var errs []error
	for _, r := range s.rings() {
		errs = append(errs, r.unmap()) // a mapping would keep the queue busy
	}
	if s.fd >= 0 {
		errs = append(errs, unix.Close(s.fd))
	}
	return errors.Join(errs...)
}

// rings returns the four rings.
func (s *Socket) rings() [4]*ring {
	return [4]*ring{(*ring)(&s.fill), (*ring)(&s.completion), (*ring)(&s.rx), (*ring)(&s.tx)}
}
