package xsk

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Desc is a packet in a frame, or a piece of one: struct xdp_desc.
type Desc struct {
	Addr    uint64 // of the first byte
	Len     uint32 // bytes
	Options uint32 // Continued or 0
}

// Continued in a Desc's Options says that the packet goes on in the next Desc
// (XDP_PKT_CONTD of linux/if_xdp.h). Only sockets with MultiBuffer know it.
const Continued = unix.XDP_PKT_CONTD

// whole returns how many of the descriptors, from the first on, make whole packets.
func whole(d []Desc) int {
	n := len(d)
	for n > 0 && d[n-1].Options&Continued != 0 {
		n--
	}
	return n
}

// packets returns how many packets the descriptors make.
func packets(d []Desc) int {
	n := len(d)
	for i := range d {
		n -= int(d[i].Options & Continued)
	}
	return n
}

// A ring is a queue of one producer and one consumer, of which we are one and the
// kernel is the other. Indices count up for ever; a slot is an index modulo size.
// Each shared index is read or written once a batch, with sequential consistency,
// which is stronger than the acquire and release that the kernel asks for.
type ring struct {
	mine   *atomic.Uint32 // index that we publish
	theirs *atomic.Uint32 // index that the kernel publishes
	flags  *atomic.Uint32
	mask   uint32 // size - 1
	next   uint32 // value of mine, our own copy
	seen   uint32 // value of theirs when last read
	mapped []byte
}

// A producer is a ring that we fill, a consumer one that the kernel fills.
type (
	producer ring
	consumer ring
)

// room returns the number of free slots, looking no further than want.
func (r *producer) room(want int) int {
	free := r.mask + 1 - (r.next - r.seen)
	if int(free) < want {
		r.seen = r.theirs.Load()
		free = r.mask + 1 - (r.next - r.seen)
	}
	return min(int(free), want)
}

// publish hands the next n slots, now filled, to the kernel.
func (r *producer) publish(n int) {
	r.next += uint32(n)
	r.mine.Store(r.next)
}

// drained reports whether the kernel has taken every slot.
func (r *producer) drained() bool {
	if r.seen != r.next {
		r.seen = r.theirs.Load()
	}
	return r.seen == r.next
}

// needsWakeup reports whether the kernel waits for a system call of ours.
func (r *producer) needsWakeup() bool {
	return r.flags.Load()&unix.XDP_RING_NEED_WAKEUP != 0
}

// ready returns the number of filled slots, looking no further than want.
func (r *consumer) ready(want int) int {
	filled := r.seen - r.next
	if int(filled) < want {
		r.seen = r.theirs.Load()
		filled = r.seen - r.next
	}
	return min(int(filled), want)
}

// release gives the next n slots, now read, back to the kernel.
func (r *consumer) release(n int) {
	r.next += uint32(n)
	r.mine.Store(r.next)
}

// A slot is what a ring holds: uint64, the address of a frame, in the fill and
// completion rings, Desc in the others.
type slot interface{ uint64 | Desc }

// mapRing maps a ring of the socket and its slots. A producer publishes the
// producer index, a consumer the other.
func mapRing[S slot](fd int, page int64, off unix.XDPRingOffset, size int, produce bool) (r ring, slots []S, err error) {
	length := int(off.Desc) + size*int(unsafe.Sizeof(*new(S)))
	r.mapped, err = unix.Mmap(fd, page, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring{}, nil, err
	}
	word := func(at uint64) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&r.mapped[at])) }
	r.mine, r.theirs = word(off.Consumer), word(off.Producer)
	if produce {
		r.mine, r.theirs = r.theirs, r.mine
	}
	r.flags = word(off.Flags)
	r.mask = uint32(size) - 1
	r.next, r.seen = r.mine.Load(), r.theirs.Load()
	return r, unsafe.Slice((*S)(unsafe.Pointer(&r.mapped[off.Desc])), size), nil
}

// unmap gives the ring's pages back, as far as they were mapped.
func (r *ring) unmap() error {
	if r.mapped == nil {
		return nil
	}
	defer func() { r.mapped = nil }()
	return unix.Munmap(r.mapped)
}
