// Package xsk is AF_XDP: frames in shared memory, and sockets that move them to
// and from the queues of network interfaces. It knows frames, not packets, and
// loads no XDP program.
//
// A UMEM and its sockets have one owner, a goroutine. Only Stats, Progress, FD,
// Mode, Reason, ZeroCopy and BusyPolls may be called from others. By Bequeath and
// Inherit they get another owner, in another process.
//
// A frame is always in exactly one place:
//
//	free list --Refill--> fill ring --kernel--> RX ring --Recv--> the owner's hands
//	free list --Alloc---> the owner's hands
//	the owner's hands --Send--> TX ring --kernel--> completion ring --Complete--> free list
//	the owner's hands --Free--> free list
package xsk

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/prefetch"
)

// Our choices; Config may change them.
const (
	defaultFrames    = 8192 // for two interfaces: both fill rings, and as much again on the way
	defaultFrameSize = 2048 // an Ethernet frame of ordinary size, behind Headroom
	defaultRingSize  = 2048 // 0.2 ms at 10 million packets a second
)

// Headroom is what the kernel leaves free in front of a packet that it puts into
// a frame, bytes (XDP_PACKET_HEADROOM of linux/bpf.h).
const Headroom = 256

// FrameSizes are the sizes that a frame may have: 4096 is the page that the kernel
// wants it to lie in.
var FrameSizes = [...]int{2048, 4096}

const hugePageSize = 2 << 20

// Config is the shape of a UMEM. A zero field means its default.
type Config struct {
	Frames    int  // number of frames; 8192
	FrameSize int  // bytes of a frame: 2048 or 4096; 2048
	RingSize  int  // entries of each of a socket's four rings, a power of two; 2048
	HugePages bool // ask for huge pages; where there are none, normal ones will do
}

// A UMEM is memory cut into frames, which sockets of several interfaces share. A
// frame is named by its address, an offset into the UMEM; any address within a
// frame names it.
type UMEM struct {
	mem       []byte
	fd        int
	shift     uint // log2 of the frame size
	ringSize  int
	hugePages bool

	free    []uint64 // addresses of free frames; the last one is given out next
	place   []place  // where each frame is; kept at the price of 3 ns a packet
	doubled int      // frames that were to become free and were so already
	sockets []*Socket
}

// A place is where a frame is: on the free list, in the owner's hands, or on one
// of the two sides of a socket, its rings and the kernel behind them.
type place uint8

const (
	inFree place = iota
	inHand
	firstSocket // then two for each socket: receive side, transmit side
)

const maxSockets = 64

// NewUMEM allocates a UMEM in shared memory, all its frames free.
func NewUMEM(c Config) (*UMEM, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	u := &UMEM{
		shift:    uint(bits.TrailingZeros(uint(c.FrameSize))),
		ringSize: c.RingSize,
		free:     make([]uint64, c.Frames),
		place:    make([]place, c.Frames),
	}
	for i := range u.free {
		u.free[i] = uint64(len(u.free)-1-i) << u.shift
	}
	size := c.Frames * c.FrameSize
	if c.HugePages && u.allocate(size, unix.MFD_HUGETLB) == nil {
		u.hugePages = true
		return u, nil
	}
	if err := u.allocate(size, 0); err != nil {
		return nil, fmt.Errorf("umem of %d bytes: %w", size, err)
	}
	return u, nil
}

// complete puts defaults in place of zero fields and checks the result.
func (c *Config) complete() error {
	for _, f := range []struct {
		field *int
		value int
	}{{&c.Frames, defaultFrames}, {&c.FrameSize, defaultFrameSize}, {&c.RingSize, defaultRingSize}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return c.check()
}

// check says what is wrong with a shape; a zero field is wrong, too.
func (c *Config) check() error {
	switch {
	case c.Frames <= 0:
		return fmt.Errorf("umem: %d frames: want more than none", c.Frames)
	case !slices.Contains(FrameSizes[:], c.FrameSize):
		return fmt.Errorf("umem: frame size %d: want 2048 or 4096", c.FrameSize)
	case c.RingSize <= 0 || c.RingSize > 1<<16 || bits.OnesCount(uint(c.RingSize)) != 1:
		return fmt.Errorf("umem: ring size %d: want a power of two up to 65536", c.RingSize)
	}
	return nil
}

// allocate maps size bytes of a new memory file.
func (u *UMEM) allocate(size, flags int) error {
	mapped := mappedSize(size, flags&unix.MFD_HUGETLB != 0)
	fd, err := unix.MemfdCreate("fnatd-umem", flags|unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(mapped)); err != nil {
		unix.Close(fd)
		return fmt.Errorf("ftruncate: %w", err)
	}
	if err := u.mapFile(fd, mapped, unix.MAP_POPULATE); err != nil {
		unix.Close(fd)
		return err
	}
	u.fd = fd
	return nil
}

// mappedSize returns how many bytes the memory file has for size bytes of frames.
func mappedSize(size int, huge bool) int {
	if huge {
		return (size + hugePageSize - 1) &^ (hugePageSize - 1)
	}
	return size
}

// mapFile maps the memory file. Only a new one gains by MAP_POPULATE: of one that has its
// pages already the kernel maps many at the first touch of one.
func (u *UMEM) mapFile(fd, size, flags int) error {
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|flags)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	u.mem = mem
	return nil
}

// HugePages reports whether the UMEM lies in huge pages.
func (u *UMEM) HugePages() bool { return u.hugePages }

// Close gives the memory back. All sockets must be closed, and no slice that
// Chunk returned may be used any more.
func (u *UMEM) Close() error {
	if len(u.sockets) > 0 {
		return fmt.Errorf("umem: close: %d sockets still use it", len(u.sockets))
	}
	return errors.Join(unix.Munmap(u.mem), unix.Close(u.fd))
}

// RingSize returns the number of entries of each of its sockets' rings.
func (u *UMEM) RingSize() int { return u.ringSize }

// FrameSize returns the number of bytes of a frame.
func (u *UMEM) FrameSize() int { return 1 << u.shift }

// Chunk returns the whole frame that addr lies in.
func (u *UMEM) Chunk(addr uint64) []byte {
	start := addr >> u.shift << u.shift
	end := start + 1<<u.shift
	return u.mem[start:end:end]
}

// From returns n bytes of memory from addr on, if need be beyond the end of the frame.
func (u *UMEM) From(addr, n uint64) []byte {
	_ = u.mem[addr] // or the compiler provides for an empty slice
	return u.mem[addr : addr+n]
}

// Prefetch begins to load the first line of each of these packets.
func (u *UMEM) Prefetch(d []Desc) {
	if len(d) > 0 {
		prefetch.Offsets(u.mem, &d[0].Addr, unsafe.Sizeof(d[0]), len(d))
	}
}

// Offset returns where in its frame addr lies.
func (u *UMEM) Offset(addr uint64) int { return int(addr & (1<<u.shift - 1)) }

// Alloc takes a frame off the free list; false if there is none.
func (u *UMEM) Alloc() (addr uint64, ok bool) {
	last := len(u.free) - 1
	if last < 0 {
		return 0, false
	}
	addr = u.free[last]
	u.free = u.free[:last]
	u.place[addr>>u.shift] = inHand
	return addr, true
}

// Free puts the frame that addr lies in on the free list.
func (u *UMEM) Free(addr uint64) {
	i := addr >> u.shift
	if u.place[i] == inFree {
		u.doubled++ // a second entry would hand the frame to two packets
		return
	}
	u.place[i] = inFree
	u.free = append(u.free, i<<u.shift)
}
