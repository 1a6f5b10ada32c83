package xsk

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Inherit goes on with a UMEM and its sockets, in their order in the Estate, where
// the one who called Bequeath stopped: packets that have come since wait on the RX
// rings. The descriptors are in Bequeath's order, and become the UMEM's or, with an
// error, closed. It needs Linux 6.4: older kernels map no ring of a bound socket.
//
// What can be checked of the Estate is: it is an error and not a wrong frame later if
// it is damaged, or that of another UMEM. An error leaves everything to the owner.
// After success too it moves no index: the owner can go on until the heir does.
func Inherit(e Estate, fds []int) (*UMEM, []*Socket, error) {
	if err := e.check(len(fds)); err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, nil, fmt.Errorf("inherit: %w", err)
	}
	u := e.umem(fds)
	if err := u.takeOver(); err != nil {
		u.Abandon()
		return nil, nil, fmt.Errorf("inherit: %w", err)
	}
	return u, slices.Clone(u.sockets), nil
}

// takeOver maps what the descriptors stand for and checks that it is what the
// Estate said.
func (u *UMEM) takeOver() error {
	unix.CloseOnExec(u.fd)
	var file unix.Stat_t
	if err := unix.Fstat(u.fd, &file); err != nil {
		return fmt.Errorf("umem: %w", err)
	}
	size := mappedSize(int(u.size()), u.hugePages)
	if file.Mode&unix.S_IFMT != unix.S_IFREG || file.Size != int64(size) {
		return fmt.Errorf("umem: descriptor of %d bytes: want a memory file of %d", file.Size, size)
	}
	if err := u.mapFile(u.fd, size, 0); err != nil {
		return fmt.Errorf("umem: %w", err)
	}
	for _, s := range u.sockets {
		if err := s.takeOver(); err != nil {
			return fmt.Errorf("af_xdp socket on interface %d queue %d: %w", s.ifindex, s.queue, err)
		}
	}
	return u.checkRings()
}

func (s *Socket) takeOver() error {
	unix.CloseOnExec(s.fd)
	err := s.mapRings()
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w (Linux 6.4 and newer map the rings of a bound socket)", err)
	case err != nil:
		return err
	}
	if s.ringsAreLarger() {
		return fmt.Errorf("ring size %d: the rings are larger", s.umem.ringSize)
	}
	return s.checkMode()
}

// ringsAreLarger reports whether twice as much of the RX ring can be mapped: the
// kernel maps no more pages than a ring has, and does not tell its size otherwise.
// Of rings so small that both sizes are one page it cannot be told.
func (s *Socket) ringsAreLarger() bool {
	size := 2 * s.umem.ringSize
	if size*int(unsafe.Sizeof(Desc{})) < os.Getpagesize() {
		return false
	}
	off, err := option[unix.XDPMmapOffsets](s.fd, unix.XDP_MMAP_OFFSETS)
	if err != nil {
		return false
	}
	r, _, err := mapRing[Desc](s.fd, unix.XDP_PGOFF_RX_RING, off.Rx, size, false)
	if err != nil {
		return false
	}
	r.unmap()
	return true
}

// checkRings looks at every frame that lies on a ring: it must be one of the UMEM's,
// and placed where it lies. The kernel goes on meanwhile, so a ring is what it was
// when it was mapped.
func (u *UMEM) checkRings() error {
	for _, s := range u.sockets {
		if err := errors.Join(
			onRing(u, "fill", s.fillSlots, s.fill.seen, s.fill.next, s.onReceive, addrOf),
			onRing(u, "rx", s.rxSlots, s.rx.next, s.rx.seen, s.onReceive, Desc.addr),
			onRing(u, "tx", s.txSlots, s.tx.seen, s.tx.next, s.onSend, Desc.addr),
			onRing(u, "completion", s.completionSlots, s.completion.next, s.completion.seen, s.onSend, addrOf),
		); err != nil {
			return fmt.Errorf("af_xdp socket on interface %d queue %d: %w", s.ifindex, s.queue, err)
		}
	}
	return nil
}

func addrOf(slot uint64) uint64 { return slot }

func (d Desc) addr() uint64 { return d.Addr }

// onRing checks that between two indices of a ring lie frames of one place, none of
// them twice.
func onRing[S slot](u *UMEM, name string, slots []S, from, to uint32, want place, addr func(S) uint64) error {
	if int(to-from) > len(slots) {
		return fmt.Errorf("%s ring of %d: holds %d", name, len(slots), to-from)
	}
	seen := make([]bool, len(u.place))
	for i := from; i != to; i++ {
		a := addr(slots[i&uint32(len(slots)-1)])
		frame := a >> u.shift
		switch {
		case a >= u.size():
			return fmt.Errorf("%s ring: address %#x: beyond the %d bytes of the umem", name, a, u.size())
		case u.place[frame] != want:
			return fmt.Errorf("%s ring: frame %d: has place %d, want %d", name, frame, u.place[frame], want)
		case seen[frame]:
			return fmt.Errorf("%s ring: frame %d: is on it twice", name, frame)
		}
		seen[frame] = true
	}
	return nil
}

// Abandon gives the memory and all sockets to the heir that has inherited them: the
// mappings and descriptors of this process go, and as the heir has its own, neither
// the kernel nor the heir notices. Not Close: that would free the heir's frames on
// paper, and wait after each zero-copy socket for a driver that goes on. Without an
// heir it is the end of the sockets. None of them may be used any more.
func (u *UMEM) Abandon() error {
	var errs []error
	for _, s := range u.sockets {
		errs = append(errs, s.release())
	}
	u.sockets = nil
	if err := errors.Join(append(errs, u.Close())...); err != nil {
		return fmt.Errorf("umem: abandon: %w", err)
	}
	return nil
}
