package xsk

import "golang.org/x/sys/unix"

// The hot path, in the order in which a frame passes it.

// Refill moves frames from the free list to the fill ring, as many as there are,
// as the ring holds, and as are the socket's share.
func (s *Socket) Refill() { s.refill(s.share) }

// refill fills up to so many frames on the receive side.
func (s *Socket) refill(limit int) {
	u := s.umem
	n := min(limit-s.receiving, len(u.free))
	if n <= 0 {
		return
	}
	if n = s.fill.room(n); n == 0 {
		return
	}
	left := len(u.free) - n
	slots, place, shift := s.fillSlots, u.place, u.shift&63
	for i, addr := range u.free[left:] {
		slots[(s.fill.next+uint32(i))&s.fill.mask] = addr
		place[addr>>shift] = s.onReceive
	}
	u.free = u.free[:left]
	s.receiving += n
	s.fill.publish(n)
}

// Recv moves whole packets from the RX ring to d, which has room for the pieces of
// the largest one, and returns how many descriptors they take. Their frames are
// then in the caller's hands, until it calls Send or Free.
func (s *Socket) Recv(d []Desc) int {
	n := s.rx.ready(len(d))
	slots, place, shift := s.rxSlots, s.umem.place, s.umem.shift&63
	for i := range d[:n] {
		d[i] = slots[(s.rx.next+uint32(i))&s.rx.mask]
	}
	n = whole(d[:n]) // the rest of the last packet is beyond d
	if n == 0 {
		s.wakeReceiver()
		return 0
	}
	for i := range d[:n] {
		place[d[i].Addr>>shift] = inHand
	}
	s.receiving -= n
	s.rx.release(n)
	s.count.received.Add(uint64(packets(d[:n])))
	return n
}

// wakeReceiver makes the kernel look at the queue when it will not by itself: a
// driver that found the fill ring empty waits for a call, and with busy polling
// every packet does.
func (s *Socket) wakeReceiver() {
	if s.busyPoll || s.fill.needsWakeup() {
		unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	}
}

// Send moves whole packets from d to the TX ring, as many as fit, and returns how
// many descriptors they take. Their frames are then the kernel's; the others stay
// the caller's. Nothing leaves before Kick.
func (s *Socket) Send(d []Desc) int {
	n := whole(d[:s.tx.room(len(d))])
	if n == 0 {
		return 0
	}
	slots, place, shift := s.txSlots, s.umem.place, s.umem.shift&63
	for i, desc := range d[:n] {
		slots[(s.tx.next+uint32(i))&s.tx.mask] = desc
		place[desc.Addr>>shift] = s.onSend
	}
	s.tx.publish(n)
	s.count.sent.Add(uint64(packets(d[:n])))
	return n
}

// Kick makes the kernel send what is on the TX ring. In copy mode one system call
// sends only so many frames, so it calls until the ring is drained or the kernel
// gets no further: link down, device busy, completion ring full. What stays on the
// ring goes with a later Kick, so call it every round; with nothing to send it
// costs two loads.
func (s *Socket) Kick() {
	for !s.tx.drained() && s.tx.needsWakeup() {
		before := s.tx.seen
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		s.count.kicks.Add(1)
		if s.tx.drained() || s.tx.seen != before {
			continue
		}
		if errno != 0 {
			s.count.refused.Add(1)
			s.count.errno.Store(uint32(errno))
		}
		return
	}
}

// Complete moves sent frames from the completion ring to the free list, and
// returns how many.
func (s *Socket) Complete() int {
	n := s.completion.ready(len(s.completionSlots))
	if n == 0 {
		return 0
	}
	for i := range uint32(n) {
		s.umem.Free(s.completionSlots[(s.completion.next+i)&s.completion.mask])
	}
	s.completion.release(n)
	s.count.completed.Add(uint64(n))
	return n
}
