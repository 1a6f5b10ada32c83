package xsk

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// base returns the address of the UMEM in this process.
func (u *UMEM) base() uint64 { return uint64(uintptr(unsafe.Pointer(&u.mem[0]))) }

// size returns the number of bytes of all frames.
func (u *UMEM) size() uint64 { return uint64(len(u.place)) << u.shift }

// add makes the socket one of those that share the UMEM.
func (u *UMEM) add(s *Socket) error {
	used := make(map[place]bool)
	for _, other := range u.sockets {
		if other.ifindex == s.ifindex && other.queue == s.queue {
			return errors.New("opened already")
		}
		used[other.onReceive] = true
	}
	if len(u.sockets) == maxSockets {
		return fmt.Errorf("a umem can have %d sockets", maxSockets)
	}
	s.onReceive = firstSocket
	for used[s.onReceive] {
		s.onReceive += 2
	}
	s.onSend = s.onReceive + 1
	u.sockets = append(u.sockets, s)
	u.shareOut()
	return nil
}

// remove takes the socket, now closed, from the UMEM and frees its frames.
func (u *UMEM) remove(s *Socket) {
	i := slices.Index(u.sockets, s)
	if i < 0 {
		return
	}
	u.sockets = slices.Delete(u.sockets, i, i+1)
	for frame, p := range u.place {
		if p == s.onReceive || p == s.onSend {
			u.Free(uint64(frame) << u.shift)
		}
	}
	u.shareOut()
}

// shareOut gives every socket its share of the frames to receive into: half of
// all, in equal parts, so that no interface starves another and half is left for
// frames on their way out.
func (u *UMEM) shareOut() {
	for _, s := range u.sockets {
		s.share = max(1, len(u.place)/2/len(u.sockets))
	}
}
