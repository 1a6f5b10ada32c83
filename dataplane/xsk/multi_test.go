package xsk

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A packet in several frames moves as one: what is not all there, or does not
// fit, stays behind.
func TestPacketsStayWhole(t *testing.T) {
	u := newUMEM(t, Config{Frames: 64, RingSize: 16}, 1)
	s := u.sockets[0]
	s.Refill()
	s.kernelReceives(9)
	for i, options := range []uint32{0, Continued, Continued, 0, 0, Continued, 0, Continued, Continued} {
		s.rxSlots[(s.rx.next+uint32(i))&s.rx.mask].Options = options
	}
	var got []int
	d := make([]Desc, 16)
	for _, room := range []int{2, 3, 6, 16} {
		got = append(got, s.Recv(d[:room]))
	}
	if diff := cmp.Diff([]int{1, 3, 3, 0}, got); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	if c := u.Census(); c.RX != 2 || c.Held != 7 || !c.Conserved() {
		t.Errorf("census: %+v", c)
	}
	if got := s.count.received.Load(); got != 4 {
		t.Errorf("counted %d packets, want 4", got)
	}

	var out []Desc
	for i := range 18 {
		addr, _ := u.Alloc()
		out = append(out, Desc{Addr: addr, Len: 60, Options: []uint32{Continued, Continued, 0}[i%3]})
	}
	if got := s.Send(out); got != 15 {
		t.Errorf("a ring of 16 took %d of packets of 3, want 15", got)
	}
	if got := s.Send(out[15:]); got != 0 {
		t.Errorf("with room for 1 it took %d, want none", got)
	}
	if got := s.count.sent.Load(); got != 5 {
		t.Errorf("counted %d packets sent, want 5", got)
	}
	if c := u.Census(); c.TX != 15 || !c.Conserved() {
		t.Errorf("census: %+v", c)
	}
}
