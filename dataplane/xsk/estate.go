package xsk

import (
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// An Estate is what the owner of a UMEM knows and neither the kernel nor the shared
// pages tell. With the descriptors that Bequeath returns beside it, another process
// goes on by Inherit. It is plain data, for JSON; the names are what two versions of
// fnatd have in common.
//
// How many frames a socket receives into, and its share of them, is not said: that
// follows from Places.
type Estate struct {
	Frames    int
	FrameSize int // bytes
	RingSize  int // entries of each ring
	HugePages bool

	// Places says of each frame where it is: 0 on the free list, 2N+2 on the receive
	// side of the socket with Number N, 2N+3 on its transmit side.
	Places  []byte
	Doubled int // frames that were to become free twice; a Census calls them misplaced

	Sockets []SocketEstate
}

// A SocketEstate is that of one socket.
type SocketEstate struct {
	Number      int // below 64, its own; not its index, for others may have been closed
	Ifindex     int
	Queue       int
	Mode        Mode
	Reason      string
	BusyPoll    bool
	MultiBuffer bool
	Stats       Stats // without Kernel: what it counts stays with the socket
}

// Bequeath returns what an heir needs to go on with the UMEM and its sockets: the
// Estate, and descriptors to be sent to it, of the memory first and then of each of
// Estate.Sockets. They stay the UMEM's own: a message with SCM_RIGHTS has copies.
//
// No frame may be in the owner's hands. Nothing is changed: if no heir begins, the
// owner goes on. While one may have begun, the owner must do nothing but look on by
// Progress and, once the heir forwards, Abandon; if the heir dies before that,
// Untouched says whether the owner can go on.
func (u *UMEM) Bequeath() (Estate, []int, error) {
	e := Estate{
		Frames:    len(u.place),
		FrameSize: u.FrameSize(),
		RingSize:  u.ringSize,
		HugePages: u.hugePages,
		Places:    make([]byte, len(u.place)),
		Doubled:   u.doubled,
	}
	held := 0
	for i, p := range u.place {
		e.Places[i] = byte(p)
		if p == inHand {
			held++
		}
	}
	if held > 0 {
		return Estate{}, nil, fmt.Errorf("umem: bequeath: %d frames are in hand: send or free them first", held)
	}
	fds := []int{u.fd}
	for _, s := range u.sockets {
		e.Sockets = append(e.Sockets, s.estate())
		fds = append(fds, s.fd)
	}
	return e, fds, nil
}

// Heritable returns why no other process can go on with the socket, or nil.
func (s *Socket) Heritable() error {
	off, err := option[unix.XDPMmapOffsets](s.fd, unix.XDP_MMAP_OFFSETS)
	if err != nil {
		return fmt.Errorf("ring offsets: %w", err)
	}
	r, _, err := mapRing[Desc](s.fd, unix.XDP_PGOFF_RX_RING, off.Rx, s.umem.ringSize, false)
	if err != nil {
		return fmt.Errorf("rings: %w (Linux 6.4 and newer map those of a bound socket)", err)
	}
	return r.unmap()
}

func (s *Socket) estate() SocketEstate {
	e := SocketEstate{
		Number:      int(s.onReceive-firstSocket) / 2,
		Ifindex:     s.ifindex,
		Queue:       s.queue,
		Mode:        s.mode,
		Reason:      s.reason,
		BusyPoll:    s.busyPoll,
		MultiBuffer: s.multi,
		Stats:       s.Stats(),
	}
	e.Stats.Kernel = KernelStats{}
	return e
}

// check says what is wrong with an Estate that comes with so many descriptors. What
// it lets pass, umem can be made from.
func (e *Estate) check(descriptors int) error {
	c := Config{Frames: e.Frames, FrameSize: e.FrameSize, RingSize: e.RingSize}
	if err := c.check(); err != nil {
		return err
	}
	switch {
	case len(e.Places) != e.Frames:
		return fmt.Errorf("umem: %d frames, but the places of %d", e.Frames, len(e.Places))
	case e.Doubled < 0:
		return fmt.Errorf("umem: %d frames freed twice: want none or more", e.Doubled)
	case len(e.Sockets) > maxSockets:
		return fmt.Errorf("umem: %d sockets: want at most %d", len(e.Sockets), maxSockets)
	case descriptors != 1+len(e.Sockets):
		return fmt.Errorf("umem: %d descriptors: want %d, the memory's and each socket's", descriptors, 1+len(e.Sockets))
	}
	var known [256]bool
	known[inFree] = true
	queues := make(map[[2]int]bool)
	for i := range e.Sockets {
		s := &e.Sockets[i]
		if err := s.check(); err != nil {
			return fmt.Errorf("socket %d: %w", i, err)
		}
		onReceive, onSend := sides(s.Number)
		queue := [2]int{s.Ifindex, s.Queue}
		switch {
		case known[onReceive]:
			return fmt.Errorf("socket %d: number %d: another has it", i, s.Number)
		case queues[queue]:
			return fmt.Errorf("socket %d: interface %d queue %d: another has it", i, s.Ifindex, s.Queue)
		}
		known[onReceive], known[onSend], queues[queue] = true, true, true
	}
	for i, p := range e.Places {
		if !known[p] {
			return fmt.Errorf("frame %d: place %d: no socket's", i, p)
		}
	}
	return nil
}

func (s *SocketEstate) check() error {
	switch {
	case s.Number < 0 || s.Number >= maxSockets:
		return fmt.Errorf("number %d: want 0 to %d", s.Number, maxSockets-1)
	case s.Ifindex <= 0 || s.Queue < 0:
		return fmt.Errorf("interface %d queue %d: no such thing", s.Ifindex, s.Queue)
	case s.Mode != ZeroCopy && s.Mode != Copy && s.Mode != Generic:
		return fmt.Errorf("mode %d: want that of an open socket", s.Mode)
	}
	return nil
}

// sides returns the places of a socket's frames.
func sides(number int) (onReceive, onSend place) {
	onReceive = firstSocket + place(2*number)
	return onReceive, onReceive + 1
}

// umem makes the UMEM and its sockets, which own the descriptors. Nothing is mapped.
// The free list is in another order than it was, which is nothing to anyone.
func (e *Estate) umem(fds []int) *UMEM {
	u := &UMEM{
		fd:        fds[0],
		shift:     uint(bits.TrailingZeros(uint(e.FrameSize))),
		ringSize:  e.RingSize,
		hugePages: e.HugePages,
		free:      make([]uint64, 0, e.Frames),
		place:     make([]place, e.Frames),
		doubled:   e.Doubled,
	}
	var at [256]int
	for i, p := range e.Places {
		at[p]++
		u.place[i] = place(p)
		if place(p) == inFree {
			u.free = append(u.free, uint64(i)<<u.shift)
		}
	}
	for i := range e.Sockets {
		s := e.Sockets[i].socket(u, fds[1+i])
		s.receiving = at[s.onReceive]
		u.sockets = append(u.sockets, s)
	}
	u.shareOut()
	return u
}

func (e *SocketEstate) socket(u *UMEM, fd int) *Socket {
	s := &Socket{
		umem:     u,
		fd:       fd,
		ifindex:  e.Ifindex,
		queue:    e.Queue,
		mode:     e.Mode,
		reason:   e.Reason,
		busyPoll: e.BusyPoll,
		multi:    e.MultiBuffer,
	}
	s.onReceive, s.onSend = sides(e.Number)
	s.count.received.Store(e.Stats.Received)
	s.count.sent.Store(e.Stats.Sent)
	s.count.completed.Store(e.Stats.Completed)
	s.count.kicks.Store(e.Stats.Kicks)
	s.count.refused.Store(e.Stats.Refused)
	s.count.errno.Store(uint32(e.Stats.LastErrno))
	return s
}
