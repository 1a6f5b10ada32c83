package xsk

import "golang.org/x/sys/unix"

// Stats are a socket's counters since it was opened.
type Stats struct {
	Received  uint64      // packets that Recv returned
	Sent      uint64      // packets that Send took
	Completed uint64      // sent frames that came back
	Kicks     uint64      // system calls that Kick made
	Refused   uint64      // of those, which sent nothing and failed
	LastErrno unix.Errno  // why the last of them did: ENETDOWN, EAGAIN, ENOBUFS, …
	Kernel    KernelStats // what the kernel counted
}

// KernelStats are the counters that the kernel keeps of a socket.
type KernelStats struct {
	Dropped     uint64 // packets lost: for reasons other than the ones below
	RingFull    uint64 // packets lost: RX ring full
	FillEmpty   uint64 // packets lost: no frame on the fill ring
	BadFill     uint64 // fill ring entries that name no frame
	BadTX       uint64 // TX ring entries that name no packet
	TXRingEmpty uint64 // times the kernel wanted to send and found nothing
}

// Stats returns the socket's counters. The kernel's are zero if it does not tell.
func (s *Socket) Stats() Stats {
	kernel, _ := option[unix.XDPStatistics](s.fd, unix.XDP_STATISTICS)
	return Stats{
		Received:  s.count.received.Load(),
		Sent:      s.count.sent.Load(),
		Completed: s.count.completed.Load(),
		Kicks:     s.count.kicks.Load(),
		Refused:   s.count.refused.Load(),
		LastErrno: unix.Errno(s.count.errno.Load()),
		Kernel: KernelStats{
			Dropped:     kernel.Rx_dropped,
			RingFull:    kernel.Rx_ring_full,
			FillEmpty:   kernel.Rx_fill_ring_empty_descs,
			BadFill:     kernel.Rx_invalid_descs,
			BadTX:       kernel.Tx_invalid_descs,
			TXRingEmpty: kernel.Tx_ring_empty_descs,
		},
	}
}

// Add adds what another socket has counted. LastErrno stays.
func (s *Stats) Add(o *Stats) {
	s.Received += o.Received
	s.Sent += o.Sent
	s.Completed += o.Completed
	s.Kicks += o.Kicks
	s.Refused += o.Refused
	s.Kernel.Dropped += o.Kernel.Dropped
	s.Kernel.RingFull += o.Kernel.RingFull
	s.Kernel.FillEmpty += o.Kernel.FillEmpty
	s.Kernel.BadFill += o.Kernel.BadFill
	s.Kernel.BadTX += o.Kernel.BadTX
	s.Kernel.TXRingEmpty += o.Kernel.TXRingEmpty
}
