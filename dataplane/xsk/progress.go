package xsk

import "sync/atomic"

// Progress is how far a socket is, by the indices that its owner and the kernel
// share: whoever else has its rings mapped can look on without taking part. Indices
// count descriptors for ever, modulo 2^32.
type Progress struct {
	Waiting   int    // descriptors on the RX ring that the owner has not taken
	Unsent    int    // descriptors on the TX ring that the kernel has not taken
	Filled    uint32 // frames that the owner has put on the fill ring
	Received  uint32 // descriptors that the owner has taken off the RX ring
	Queued    uint32 // descriptors that the owner has put on the TX ring
	Completed uint32 // frames that the owner has taken off the completion ring
}

// Progress reads the shared indices, one after another. It may be called from any
// goroutine, until Close or Abandon.
func (s *Socket) Progress() Progress {
	return Progress{
		Waiting:   between(s.rx.mine, s.rx.theirs, s.rx.mask),
		Unsent:    between(s.tx.theirs, s.tx.mine, s.tx.mask),
		Filled:    s.fill.mine.Load(),
		Received:  s.rx.mine.Load(),
		Queued:    s.tx.mine.Load(),
		Completed: s.completion.mine.Load(),
	}
}

// between returns how many slots of a ring are filled. Both ends move meanwhile: read
// in this order the count is never negative, and may be too large.
func between(consumer, producer *atomic.Uint32, mask uint32) int {
	at := consumer.Load()
	return int(min(producer.Load()-at, mask+1))
}

// Untouched reports whether all rings are as their owner left them. If an heir that
// is dead has moved an index, the owner cannot go on: where the frames are only the
// heir knew. Then Close the sockets and Open others.
func (u *UMEM) Untouched() bool {
	for _, s := range u.sockets {
		for _, r := range s.rings() {
			if r.mine.Load() != r.next {
				return false
			}
		}
	}
	return true
}
