package xsk

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// lived returns a UMEM whose frames have been everywhere and are, but in hand.
func lived(t testing.TB, sockets int) *UMEM {
	t.Helper()
	u := newUMEM(t, Config{Frames: 50, RingSize: 16}, sockets)
	random := rand.New(rand.NewPCG(3, 4))
	var held []Desc
	for range 400 {
		held = step(u, u.sockets[random.IntN(sockets)], random.IntN(8), random.IntN(16), held)
	}
	for _, d := range held {
		u.Free(d.Addr)
	}
	for _, s := range u.sockets {
		s.Refill()
		s.kernelReceives(2)
		addr, _ := u.Alloc()
		s.Send([]Desc{{Addr: addr, Len: 60}})
		s.kernelSends(1)
		addr, _ = u.Alloc()
		s.Send([]Desc{{Addr: addr, Len: 60}})
	}
	return u
}

// sparse is what lived returns, with a socket missing in the middle.
func sparse(t testing.TB) *UMEM {
	u := lived(t, 3)
	u.sockets[1].Close()
	return u
}

func estate(t testing.TB, u *UMEM) Estate {
	t.Helper()
	e, fds, err := u.Bequeath()
	if err != nil {
		t.Fatal(err)
	}
	if len(fds) != 1+len(u.sockets) || fds[0] != u.fd {
		t.Fatalf("%d descriptors, the first is %d", len(fds), fds[0])
	}
	return e
}

// The heir's UMEM is the owner's in all but the order of the free list.
func TestEstateIsWhole(t *testing.T) {
	u := sparse(t)
	s := u.sockets[1]
	s.queue, s.mode, s.reason, s.busyPoll, s.multi = 3, Copy, "for a test", true, true
	s.count.kicks.Add(7)
	s.count.refused.Add(5)
	s.count.errno.Store(uint32(unix.ENETDOWN))
	u.doubled = 1
	u.sockets[0].mode = Generic
	told, err := json.Marshal(estate(t, u))
	if err != nil {
		t.Fatal(err)
	}
	var e Estate
	if err := json.Unmarshal(told, &e); err != nil {
		t.Fatal(err)
	}
	fds := []int{-1, -1, -1}
	if err := e.check(len(fds)); err != nil {
		t.Fatal(err)
	}
	heir := e.umem(fds)
	again, _, err := heir.Bequeath()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(estate(t, u), again); diff != "" {
		t.Errorf("estate of the heir (-owner +heir):\n%s", diff)
	}
	for i, s := range heir.sockets {
		if own := u.sockets[i]; s.receiving != own.receiving || s.share != own.share || s.receiving == 0 {
			t.Errorf("socket %d receives into %d of %d frames, want %d of %d", i, s.receiving, s.share, own.receiving, own.share)
		}
		own := u.sockets[i] // the shared pages
		s.fill, s.fillSlots, s.rx, s.rxSlots = own.fill, own.fillSlots, own.rx, own.rxSlots
		s.tx, s.txSlots, s.completion, s.completionSlots = own.tx, own.txSlots, own.completion, own.completionSlots
	}
	c := heir.Census()
	if diff := cmp.Diff(u.Census(), c); diff != "" {
		t.Errorf("census (-owner +heir):\n%s", diff)
	}
	if c.Fill == 0 || c.RX == 0 || c.TX == 0 || c.Completion == 0 || c.Free == 0 {
		t.Errorf("the test has no frames somewhere: %+v", c)
	}
}

func TestBequeathWithFramesInHand(t *testing.T) {
	u := newUMEM(t, Config{Frames: 4, RingSize: 16}, 1)
	u.Alloc()
	u.Alloc()
	const want = "umem: bequeath: 2 frames are in hand: send or free them first"
	if _, _, err := u.Bequeath(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestDamagedEstate(t *testing.T) {
	u := lived(t, 3)
	for _, s := range u.sockets {
		s.mode = Copy
	}
	for _, tt := range []struct {
		name   string
		damage func(e *Estate)
		want   string
	}{
		{"empty", func(e *Estate) { *e = Estate{} }, "umem: 0 frames: want more than none"},
		{"negative_frames", func(e *Estate) { e.Frames = -50 }, "umem: -50 frames: want more than none"},
		{"more_frames", func(e *Estate) { e.Frames = 1 << 62 }, "umem: 4611686018427387904 frames, but the places of 50"},
		{"frame_size", func(e *Estate) { e.FrameSize = 0 }, "umem: frame size 0: want 2048 or 4096"},
		{"no_rings", func(e *Estate) { e.RingSize = 0 }, "umem: ring size 0: want a power of two up to 65536"},
		{"ring_size", func(e *Estate) { e.RingSize = 24 }, "umem: ring size 24: want a power of two up to 65536"},
		{"no_places", func(e *Estate) { e.Places = nil }, "umem: 50 frames, but the places of 0"},
		{"places_cut", func(e *Estate) { e.Places = e.Places[:49] }, "umem: 50 frames, but the places of 49"},
		{"place_in_hand", func(e *Estate) { e.Places[7] = 1 }, "frame 7: place 1: no socket's"},
		{"place_of_no_socket", func(e *Estate) { e.Places[7] = 8 }, "frame 7: place 8: no socket's"},
		{"place_beyond_all_sockets", func(e *Estate) { e.Places[7] = 255 }, "frame 7: place 255: no socket's"},
		{"negative_doubled", func(e *Estate) { e.Doubled = -1 }, "umem: -1 frames freed twice: want none or more"},
		{"sockets_cut", func(e *Estate) { e.Sockets = e.Sockets[:2] }, "umem: 4 descriptors: want 3, the memory's and each socket's"},
		{"too_many_sockets", func(e *Estate) { e.Sockets = make([]SocketEstate, 65) }, "umem: 65 sockets: want at most 64"},
		{"negative_number", func(e *Estate) { e.Sockets[1].Number = -1 }, "socket 1: number -1: want 0 to 63"},
		{"large_number", func(e *Estate) { e.Sockets[1].Number = 64 }, "socket 1: number 64: want 0 to 63"},
		{"number_twice", func(e *Estate) { e.Sockets[2].Number = 0 }, "socket 2: number 0: another has it"},
		{"queue_twice", func(e *Estate) { e.Sockets[2].Ifindex = 1 }, "socket 2: interface 1 queue 0: another has it"},
		{"no_interface", func(e *Estate) { e.Sockets[0].Ifindex = 0 }, "socket 0: interface 0 queue 0: no such thing"},
		{"negative_queue", func(e *Estate) { e.Sockets[0].Queue = -1 }, "socket 0: interface 1 queue -1: no such thing"},
		{"mode_auto", func(e *Estate) { e.Sockets[0].Mode = Auto }, "socket 0: mode 0: want that of an open socket"},
		{"mode_unknown", func(e *Estate) { e.Sockets[0].Mode = 4 }, "socket 0: mode 4: want that of an open socket"},
		{"memory_too_small", func(e *Estate) { e.Frames, e.Places = 51, append(e.Places, 0) }, "umem: descriptor of 102400 bytes: want a memory file of 104448"},
		{"memory_too_large", func(e *Estate) { e.Frames, e.Places = 49, e.Places[:49] }, "umem: descriptor of 102400 bytes: want a memory file of 100352"},
		{"huge_pages", func(e *Estate) { e.HugePages = true }, "umem: descriptor of 102400 bytes: want a memory file of 2097152"},
		{"nothing_damaged_but_no_sockets", func(*Estate) {}, "af_xdp socket on interface 1 queue 0: ring offsets: socket operation on non-socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := estate(t, u)
			tt.damage(&e)
			var fds []int
			for range 4 {
				fd, err := unix.Dup(u.fd)
				if err != nil {
					t.Fatal(err)
				}
				fds = append(fds, fd)
			}
			heir, socks, err := Inherit(e, fds)
			if heir != nil || socks != nil || err == nil || err.Error() != "inherit: "+tt.want {
				t.Errorf("got  %v\nwant inherit: %s", err, tt.want)
			}
			for _, fd := range fds {
				if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
					t.Errorf("descriptor %d is open still: %v", fd, err)
				}
			}
		})
	}
	if _, _, err := Inherit(Estate{}, nil); err == nil {
		t.Error("inherited nothing from nobody")
	}
}

// What lies on the rings must be what the places say.
func TestCheckRings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(u *UMEM, s *Socket)
		want   string
	}{
		{"nothing", func(*UMEM, *Socket) {}, ""},
		{"rx_beyond_the_memory", func(u *UMEM, s *Socket) { s.rxSlots[s.rx.next&s.rx.mask].Addr = u.size() }, "rx ring: address 0x19000: beyond the 102400 bytes"},
		{"tx_beyond_the_memory", func(u *UMEM, s *Socket) { s.txSlots[s.tx.seen&s.tx.mask].Addr = 1 << 63 }, "tx ring: address 0x8000000000000000: beyond"},
		{"fill_of_free_frame", func(u *UMEM, s *Socket) { s.fillSlots[s.fill.seen&s.fill.mask] = u.free[0] }, "has place 0, want 2"},
		{"completion_of_another_socket", func(u *UMEM, s *Socket) {
			o := u.sockets[1]
			s.completionSlots[s.completion.next&s.completion.mask] = o.completionSlots[o.completion.next&o.completion.mask]
		}, "has place 5, want 3"},
		{"rx_twice", func(u *UMEM, s *Socket) {
			s.rxSlots[(s.rx.next+1)&s.rx.mask].Addr = s.rxSlots[s.rx.next&s.rx.mask].Addr + 1
		}, "is on it twice"},
		{"more_than_the_ring", func(u *UMEM, s *Socket) { s.rx.seen = s.rx.next + 17 }, "rx ring of 16: holds 17"},
		{"consumer_before_producer", func(u *UMEM, s *Socket) { s.tx.seen = s.tx.next + 1 }, "tx ring of 16: holds 4294967295"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := lived(t, 2)
			for _, s := range u.sockets {
				for _, r := range s.rings() {
					r.seen = r.theirs.Load() // as when it is mapped
				}
			}
			tt.damage(u, u.sockets[0])
			err := u.checkRings()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzInherit: whatever a text says, an Estate made of it is refused, or makes a
// UMEM in which every frame can be had and touched.
func FuzzInherit(f *testing.F) {
	add := func(u *UMEM) {
		for _, s := range u.sockets {
			s.mode = Copy
		}
		text, err := json.Marshal(estate(f, u))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	add(lived(f, 3))
	add(sparse(f))
	add(newUMEM(f, Config{Frames: 50, RingSize: 16}, 0))
	add(newUMEM(f, Config{Frames: 25, FrameSize: 4096, RingSize: 16}, 0))
	f.Add([]byte(`{"Frames":50,"FrameSize":2048,"RingSize":16,"Places":"////","Sockets":[{"Number":126}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var e Estate
		if json.Unmarshal(text, &e) != nil {
			return
		}
		if e.check(1+len(e.Sockets)) == nil {
			useAll(t, &e)
		}
		memory, err := unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Ftruncate(memory, 50*2048); err != nil {
			t.Fatal(err)
		}
		fds := []int{memory}
		for range min(len(e.Sockets), maxSockets) {
			fd, err := unix.Dup(memory)
			if err != nil {
				t.Fatal(err)
			}
			fds = append(fds, fd)
		}
		u, _, err := Inherit(e, fds)
		if err != nil {
			return
		}
		for i := range uint64(len(u.place)) {
			frame := u.Chunk(i << u.shift)
			frame[0], frame[len(frame)-1] = 1, 1
		}
		if err := u.Abandon(); err != nil {
			t.Error(err)
		}
	})
}

// useAll makes a UMEM of an Estate, with rings but no memory and no kernel behind
// them, and uses every free frame of it.
func useAll(t *testing.T, e *Estate) {
	u := e.umem(make([]int, 1+len(e.Sockets)))
	for _, s := range u.sockets {
		s.newRings(16)
	}
	conserved := func() {
		t.Helper()
		c := u.Census()
		if c.Misplaced -= e.Doubled; !c.Conserved() {
			t.Fatalf("census: %+v, with %d freed twice", c, e.Doubled)
		}
	}
	conserved()
	for _, s := range u.sockets {
		s.Refill()
	}
	conserved()
	had := make(map[uint64]bool)
	for {
		addr, ok := u.Alloc()
		if !ok {
			break
		}
		if addr >= u.size() || had[addr] {
			t.Fatalf("frame %#x: of %d bytes, or had before", addr, u.size())
		}
		had[addr] = true
	}
	conserved()
}
