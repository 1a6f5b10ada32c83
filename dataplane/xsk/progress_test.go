package xsk

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Progress never shows more than a ring holds, also where indices overflow.
func TestProgress(t *testing.T) {
	u := newUMEM(t, Config{Frames: 64, RingSize: 16}, 1)
	s := u.sockets[0]
	start := s.Progress()
	s.Refill()
	s.kernelReceives(9)
	var d [4]Desc
	s.Recv(d[:])
	s.Send(d[:])
	s.kernelSends(3)
	s.Complete()
	got := s.Progress()
	want := Progress{
		Waiting: 5, Unsent: 1, Filled: start.Filled + 16, Received: start.Received + 4,
		Queued: start.Queued + 4, Completed: start.Completed + 3,
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Filled > start.Filled {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	s.rx.theirs.Add(1000)
	if got := s.Progress().Waiting; got != 16 {
		t.Errorf("%d wait on a ring of 16", got)
	}
}

// Untouched sees any index that someone else moves, and none that the owner does.
func TestUntouched(t *testing.T) {
	u := newUMEM(t, Config{Frames: 50, RingSize: 16}, 2)
	var held []Desc
	for i := range 80 {
		held = step(u, u.sockets[i%2], i%8, 5, held)
	}
	for i, s := range u.sockets {
		for j, r := range s.rings() {
			if !u.Untouched() {
				t.Fatal("the owner's own work is taken for another's")
			}
			r.mine.Add(1)
			if u.Untouched() {
				t.Errorf("socket %d: ring %d has moved and nobody sees it", i, j)
			}
			r.mine.Add(^uint32(0))
		}
	}
}
