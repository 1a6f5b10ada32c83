package xsk_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
)

// bequeath returns what another process would get of the rig's UMEM: the Estate as
// text, and copies of the descriptors.
func (r *rig) bequeath() (text []byte, fds []int) {
	r.t.Helper()
	e, own, err := r.umem.Bequeath()
	must(r.t, err)
	text, err = json.Marshal(e)
	must(r.t, err)
	for _, fd := range own {
		fd, err := unix.Dup(fd)
		must(r.t, err)
		fds = append(fds, fd)
	}
	return text, fds
}

func inherit(text []byte, fds []int) (*xsk.UMEM, []*xsk.Socket, error) {
	var e xsk.Estate
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, nil, err
	}
	return xsk.Inherit(e, fds)
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return !errors.Is(err, unix.EBADF)
}

// write sends frames of these numbers, from first on, into a wire.
func (r *rig) write(wire, first, n int) {
	r.t.Helper()
	for i := range n {
		_, err := unix.Write(wire, frame(uint32(first+i)))
		must(r.t, err)
	}
}

// queue puts frames of these numbers on a TX ring.
func (r *rig) queue(s *xsk.Socket, first, n int) {
	r.t.Helper()
	for i := range n {
		addr, ok := r.umem.Alloc()
		if !ok {
			r.t.Fatal("no frame")
		}
		size := copy(r.umem.Chunk(addr), frame(uint32(first+i)))
		if s.Send([]xsk.Desc{{Addr: addr, Len: uint32(size)}}) != 1 {
			r.t.Fatal("the TX ring is full")
		}
	}
}

// expect reads frames of these numbers off a wire, in order.
func (r *rig) expect(wire, first, n int) {
	r.t.Helper()
	var got, want []uint32
	buf := make([]byte, 2048)
	for i := range n {
		size, err := unix.Read(wire, buf)
		if err != nil {
			r.t.Fatalf("after %d of %d frames: %v", i, n, err)
		}
		number, _ := number(buf[:size])
		got, want = append(got, number), append(want, uint32(first+i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Fatalf("frames on the wire (-want +got):\n%s", diff)
	}
}

// An heir goes on where the owner stopped, with frames in every place, and the owner
// may go.
func TestInherit(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			c := small
			c.HugePages = mode == bpf.Generic // in one of them, where the host has any
			r := newRig(t, c, xsk.Options{}, mode)
			atFirst := r.settle()
			r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 500)
			r.queue(r.socks[0], 0, 10)
			r.socks[0].Kick()
			r.expect(r.wireA, 0, 10)
			r.queue(r.socks[1], 0, 20)
			r.write(r.wireA, 20, 40)
			census := r.umem.Census()
			if c := census; c.RX != 40 || c.TX != 20 || c.Completion != 10 || c.Fill == 0 || c.Free == 0 || !c.Conserved() {
				t.Fatalf("census before: %+v", c)
			}

			owner, in, out := r.umem, r.socks[0], r.socks[1]
			_, own, err := owner.Bequeath()
			must(t, err)
			text, fds := r.bequeath()
			r.umem, r.socks, err = inherit(text, fds)
			if err != nil {
				r.umem, r.socks = owner, []*xsk.Socket{in, out}
				t.Fatal(err)
			}
			if diff := cmp.Diff(census, r.umem.Census()); diff != "" || r.umem.HugePages() != owner.HugePages() {
				t.Errorf("census (-owner +heir):\n%s", diff)
			}
			if !owner.Untouched() {
				t.Error("an heir that has done nothing has moved an index")
			}
			for _, fd := range fds {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("descriptor %d has flags %#x, %v: a child would get it", fd, flags, err)
				}
			}

			r.write(r.wireA, 60, 10) // between owner and heir
			before := [2]xsk.Progress{in.Progress(), out.Progress()}
			if before[0].Waiting != 50 || before[1].Unsent != 20 {
				t.Errorf("progress before: %+v", before)
			}
			if n := pass(r.socks[0], r.socks[1]); n != 50 {
				t.Fatalf("of 50 packets that wait the heir received %d", n)
			}
			r.expect(r.wireB, 0, 70)
			after := [2]xsk.Progress{in.Progress(), out.Progress()}
			if after[0].Waiting != 0 || after[0].Received != before[0].Received+50 || after[0].Filled == before[0].Filled ||
				after[1].Unsent != 0 || after[1].Queued != before[1].Queued+50 || after[1].Completed == before[1].Completed {
				t.Errorf("progress before: %+v\nafter: %+v", before, after)
			}
			if owner.Untouched() {
				t.Error("the owner has not seen that the heir forwards")
			}

			must(t, owner.Abandon())
			for _, fd := range own {
				if isOpen(fd) {
					t.Errorf("the owner has descriptor %d still", fd)
				}
			}
			r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 3000)
			r.exchange(r.wireB, r.socks[1], r.socks[0], r.wireA, 3000)
			if diff := cmp.Diff(atFirst, r.settle()); diff != "" {
				t.Errorf("census (-at first +at last):\n%s", diff)
			}
			got := [2]xsk.Stats{r.socks[0].Stats(), r.socks[1].Stats()}
			if got[0].Received != 3550 || got[0].Sent != 3010 || got[0].Completed != 3010 ||
				got[1].Received != 3000 || got[1].Sent != 3570 || got[1].Completed != 3570 ||
				got[0].Kernel.RingFull+got[0].Kernel.FillEmpty+got[0].Kernel.BadFill+got[1].Kernel.BadTX != 0 {
				t.Errorf("stats: %+v", got)
			}
			if s := r.socks[0]; s.Mode() != xsk.Copy || s.Reason() != in.Reason() {
				t.Errorf("the heir's socket is in %v mode because %q", s.Mode(), s.Reason())
			}
			// Had the owner kept a mapping or a descriptor, the queue would be busy.
			r.reopen(0, xsk.Options{})
			r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 100)
		})
	}
}

// An owner whose heir never begins goes on as if it had not bequeathed anything.
func TestOwnerGoesOn(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	before := r.settle()
	for _, tt := range []struct {
		name string
		heir func(text []byte, fds []int)
	}{
		{"never_started", func(_ []byte, fds []int) {
			for _, fd := range fds {
				must(t, unix.Close(fd))
			}
		}},
		{"could_not_read", func(text []byte, fds []int) {
			if _, _, err := inherit([]byte("{}"), fds); err == nil {
				t.Fatal("inherited nothing")
			}
		}},
		{"died_before_it_began", func(text []byte, fds []int) {
			u, _, err := inherit(text, fds)
			must(t, err)
			must(t, u.Abandon())
		}},
	} {
		r.queue(r.socks[1], 0, 20)
		r.write(r.wireA, 20, 40)
		tt.heir(r.bequeath())
		r.write(r.wireA, 60, 4)
		if !r.umem.Untouched() {
			t.Fatalf("%s: an index has moved", tt.name)
		}
		if n := pass(r.socks[0], r.socks[1]); n != 44 {
			t.Fatalf("%s: received %d of 44", tt.name, n)
		}
		r.expect(r.wireB, 0, 64)
		r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 600)
		r.exchange(r.wireB, r.socks[1], r.socks[0], r.wireA, 600)
		if diff := cmp.Diff(before, r.settle()); diff != "" {
			t.Errorf("%s: census (-before +after):\n%s", tt.name, diff)
		}
	}
}

// An owner whose heir dies at work cannot go on, and sees it; its queues it can have.
func TestHeirDiesAtWork(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	r.write(r.wireA, 0, 40)
	heir, socks, err := inherit(r.bequeath())
	must(t, err)
	if n := pass(socks[0], socks[1]); n != 40 {
		t.Fatalf("received %d of 40", n)
	}
	r.expect(r.wireB, 0, 40)
	must(t, heir.Abandon())
	if r.umem.Untouched() {
		t.Error("the owner takes the rings for untouched")
	}
	r.reopen(0, xsk.Options{})
	r.reopen(1, xsk.Options{})
	r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 600)
	r.exchange(r.wireB, r.socks[1], r.socks[0], r.wireA, 600)
	if c := r.settle(); c.Held != 0 || !c.Conserved() {
		t.Errorf("census: %+v", c)
	}
}

// An Estate that is sound by itself, but of other descriptors, is refused, and nobody
// is disturbed.
func TestForeignEstate(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	r.write(r.wireA, 0, 40)
	instead := func(fds []int, i, fd int) {
		must(t, unix.Dup3(fd, fds[i], 0))
	}
	socket := func(domain, kind int) int {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	for _, tt := range []struct {
		name   string
		change func(e *xsk.Estate, fds []int)
		want   string
	}{
		{"sockets_swapped", func(e *xsk.Estate, fds []int) { fds[1], fds[2] = fds[2], fds[1] }, "has place"},
		{"one_socket_for_both", func(e *xsk.Estate, fds []int) { instead(fds, 2, fds[1]) }, "has place"},
		{"memory_is_a_socket", func(e *xsk.Estate, fds []int) { instead(fds, 0, fds[1]) }, "want a memory file"},
		{"socket_is_memory", func(e *xsk.Estate, fds []int) { instead(fds, 2, fds[0]) }, "socket operation on non-socket"},
		{"socket_of_udp", func(e *xsk.Estate, fds []int) { instead(fds, 1, socket(unix.AF_INET, unix.SOCK_DGRAM)) }, "ring offsets"},
		{"socket_without_rings", func(e *xsk.Estate, fds []int) { instead(fds, 1, socket(unix.AF_XDP, unix.SOCK_RAW)) }, "map rings: invalid argument"},
		{"closed_descriptor", func(e *xsk.Estate, fds []int) { must(t, unix.Close(fds[2])) }, "bad file descriptor"},
		{"larger_rings", func(e *xsk.Estate, fds []int) { e.RingSize /= 2 }, "ring size 128: the rings are larger"},
		{"smaller_rings", func(e *xsk.Estate, fds []int) { e.RingSize *= 2 }, "map rings: invalid argument"},
		{"another_frame_size", func(e *xsk.Estate, fds []int) {
			e.FrameSize, e.Frames, e.Places = 4096, 512, e.Places[:512]
		}, "ring: frame"},
		{"another_mode", func(e *xsk.Estate, fds []int) { e.Sockets[1].Mode = xsk.ZeroCopy }, "zero-copy is false against zerocopy mode"},
		{"places_of_another_time", func(e *xsk.Estate, fds []int) { clear(e.Places) }, "has place 0"},
	} {
		text, fds := r.bequeath()
		var e xsk.Estate
		must(t, json.Unmarshal(text, &e))
		tt.change(&e, fds)
		if _, _, err := xsk.Inherit(e, fds); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		for i, fd := range fds {
			if isOpen(fd) {
				t.Errorf("%s: descriptor %d is open still", tt.name, i)
			}
		}
	}
	if !r.umem.Untouched() {
		t.Error("an index has moved")
	}
	xsk.Wait(r.socks, 10*time.Millisecond)
	if n := pass(r.socks[0], r.socks[1]); n != 40 {
		t.Errorf("received %d of 40", n)
	}
	r.expect(r.wireB, 0, 40)
	r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 100)
}
