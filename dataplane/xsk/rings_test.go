package xsk

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// newRing returns a ring in ordinary memory whose indices are about to overflow.
func newRing(size int) ring {
	const start = 1<<32 - 5
	r := ring{
		mine: new(atomic.Uint32), theirs: new(atomic.Uint32), flags: new(atomic.Uint32),
		mask: uint32(size) - 1, next: start, seen: start,
	}
	r.mine.Store(start)
	r.theirs.Store(start)
	return r
}

// newUMEM returns a UMEM with sockets that have rings but no kernel behind them.
func newUMEM(t testing.TB, c Config, sockets int) *UMEM {
	t.Helper()
	u, err := NewUMEM(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sockets {
		s := &Socket{umem: u, fd: -1, ifindex: i + 1}
		if err := u.add(s); err != nil {
			t.Fatal(err)
		}
		s.newRings(u.ringSize)
	}
	t.Cleanup(func() {
		for len(u.sockets) > 0 {
			u.sockets[0].Close()
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

func (s *Socket) newRings(size int) {
	s.fill, s.fillSlots = producer(newRing(size)), make([]uint64, size)
	s.rx, s.rxSlots = consumer(newRing(size)), make([]Desc, size)
	s.tx, s.txSlots = producer(newRing(size)), make([]Desc, size)
	s.completion, s.completionSlots = consumer(newRing(size)), make([]uint64, size)
}

// kernelReceives does what the kernel does when up to n packets come in.
func (s *Socket) kernelReceives(n int) {
	taken, put := s.fill.theirs.Load(), s.rx.theirs.Load()
	for ; n > 0 && taken != s.fill.mine.Load() && put-s.rx.mine.Load() <= s.rx.mask; n-- {
		s.rxSlots[put&s.rx.mask] = Desc{Addr: s.fillSlots[taken&s.fill.mask] + 256, Len: 60}
		taken, put = taken+1, put+1
	}
	s.fill.theirs.Store(taken)
	s.rx.theirs.Store(put)
}

// kernelSends does what the kernel does when it has sent up to n packets.
func (s *Socket) kernelSends(n int) {
	taken, put := s.tx.theirs.Load(), s.completion.theirs.Load()
	for ; n > 0 && taken != s.tx.mine.Load() && put-s.completion.mine.Load() <= s.completion.mask; n-- {
		s.completionSlots[put&s.completion.mask] = s.txSlots[taken&s.tx.mask].Addr
		taken, put = taken+1, put+1
	}
	s.tx.theirs.Store(taken)
	s.completion.theirs.Store(put)
}

// step does one of the things that an owner or the kernel can do with a socket, to
// about n frames; held are the frames in the owner's hands. It returns those
// afterwards.
func step(u *UMEM, s *Socket, what, n int, held []Desc) []Desc {
	n = min(n, 2*u.ringSize)
	switch what {
	case 0:
		s.Refill()
	case 1:
		s.kernelReceives(n)
	case 2:
		d := make([]Desc, n)
		held = append(held, d[:s.Recv(d)]...)
	case 3:
		held = held[s.Send(held[:min(n, len(held))]):]
	case 4:
		s.Kick()
		s.kernelSends(n)
	case 5:
		s.Complete()
	case 6:
		if addr, ok := u.Alloc(); ok {
			held = append(held, Desc{Addr: addr, Len: 42})
		}
	case 7:
		if len(held) > 0 {
			u.Free(held[0].Addr + 12)
			held = held[1:]
		}
	}
	return held
}

// FuzzConservation does any things in any order: the census always adds up, and no
// frame is handed out twice.
func FuzzConservation(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		ops := make([]byte, 400)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		f.Add(ops)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		u := newUMEM(t, Config{Frames: 50, RingSize: 16}, 3)
		var held []Desc
		for i, op := range ops {
			s := u.sockets[int(op)>>3%len(u.sockets)]
			held = step(u, s, int(op)&7, int(op)>>4, held)
			c := u.Census()
			if !c.Conserved() || c.Held != len(held) {
				t.Fatalf("after step %d, %d frames are in hand and the census is %+v", i, len(held), c)
			}
			in := make(map[uint64]bool)
			for _, d := range held {
				if in[d.Addr>>u.shift] {
					t.Fatalf("after step %d, frame %#x is in hand twice", i, d.Addr)
				}
				in[d.Addr>>u.shift] = true
			}
		}
		for _, s := range []*Socket{u.sockets[2], u.sockets[0], u.sockets[1]} {
			s.Close()
		}
		if c := u.Census(); !c.Conserved() || c.Free+len(held) != c.Frames {
			t.Errorf("after close, with %d frames in hand, the census is %+v", len(held), c)
		}
	})
}

// Frames come out of a ring in the order in which they were put in, with what they
// held, also where the indices overflow.
func TestRingOrder(t *testing.T) {
	u := newUMEM(t, Config{Frames: 64, RingSize: 16}, 2)
	in, out := u.sockets[0], u.sockets[1]
	d := make([]Desc, 16)
	for round := range 10 {
		in.Refill()
		in.kernelReceives(7)
		n := in.Recv(d)
		if n != 7 {
			t.Fatalf("round %d: received %d of 7", round, n)
		}
		var sent []uint64
		for i := range d[:n] {
			if d[i].Len != 60 || u.Offset(d[i].Addr) != 256 {
				t.Fatalf("round %d: packet %d is %+v", round, i, d[i])
			}
			sent = append(sent, d[i].Addr)
		}
		if out.Send(d[:n]) != n {
			t.Fatalf("round %d: the TX ring is full", round)
		}
		for i, addr := range sent {
			at := out.tx.theirs.Load() + uint32(i)
			if got := out.txSlots[at&out.tx.mask].Addr; got != addr {
				t.Fatalf("round %d: packet %d on the TX ring is at %#x, want %#x", round, i, got, addr)
			}
		}
		out.kernelSends(n)
		if got := out.Complete(); got != n {
			t.Fatalf("round %d: %d of %d completed", round, got, n)
		}
	}
}

func TestSendTakesWhatFits(t *testing.T) {
	u := newUMEM(t, Config{Frames: 64, RingSize: 16}, 1)
	s := u.sockets[0]
	var d []Desc
	for range 20 {
		addr, _ := u.Alloc()
		d = append(d, Desc{Addr: addr, Len: 60})
	}
	if n := s.Send(d); n != 16 {
		t.Errorf("a ring of 16 took %d of 20", n)
	}
	if n := s.Send(d[16:]); n != 0 {
		t.Errorf("a full ring took %d", n)
	}
	if c := u.Census(); c.TX != 16 || c.Held != 4 {
		t.Errorf("census: %+v", c)
	}
}

// No socket can take so many frames that another has none to receive into, or that
// none are left to send.
func TestRefillIsShared(t *testing.T) {
	u := newUMEM(t, Config{Frames: 64, RingSize: 64}, 2)
	for _, s := range u.sockets {
		s.Refill()
	}
	if c := u.Census(); c.Fill != 32 || c.Free != 32 || u.sockets[0].receiving != 16 {
		t.Errorf("census: %+v, the first has %d", c, u.sockets[0].receiving)
	}
	u.sockets[0].Close()
	u.sockets[0].Refill()
	if got := u.sockets[0].receiving; got != 32 {
		t.Errorf("a socket that is left alone receives into %d frames, want half of all", got)
	}
}

func TestFreeTwice(t *testing.T) {
	u := newUMEM(t, Config{Frames: 4}, 0)
	addr, _ := u.Alloc()
	u.Free(addr)
	u.Free(addr + 100)
	if c := u.Census(); c.Free != 4 || c.Misplaced != 1 || c.Conserved() {
		t.Errorf("census: %+v", c)
	}
}

// A batch is forwarded and recycled without garbage, at most at the price of a
// system call that fails.
func TestNoAllocations(t *testing.T) {
	u := newUMEM(t, Config{Frames: 1024, RingSize: 256}, 2)
	in, out := u.sockets[0], u.sockets[1]
	in.busyPoll = true
	out.tx.flags.Store(unix.XDP_RING_NEED_WAKEUP)
	d := make([]Desc, 64)
	if got := testing.AllocsPerRun(100, func() {
		in.Refill()
		in.kernelReceives(len(d))
		n := in.Recv(d)
		in.Recv(d)
		out.Send(d[:n])
		out.Kick()
		out.kernelSends(n)
		out.Complete()
		if addr, ok := u.Alloc(); ok {
			u.Free(addr)
		}
		Wait(u.sockets, 0)
	}); got != 0 {
		t.Errorf("%v allocations a batch", got)
	}
	if got := out.count.refused.Load(); got == 0 || unix.Errno(out.count.errno.Load()) != unix.EBADF {
		t.Errorf("kicks refused: %d", got)
	}
}

// BenchmarkForward is the cost in user space of a packet's way from one socket to
// another, with the two memory accesses a frame that stand for the kernel. An
// operation is a packet.
func BenchmarkForward(b *testing.B) {
	u := newUMEM(b, Config{Frames: 4096}, 2)
	in, out := u.sockets[0], u.sockets[1]
	d := make([]Desc, 64)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += len(d) {
		in.Refill()
		in.kernelReceives(len(d))
		n := in.Recv(d)
		for i := range d[:n] {
			frame := u.Chunk(d[i].Addr)[u.Offset(d[i].Addr):]
			frame[0], frame[6] = frame[6], frame[0]
		}
		out.Send(d[:n])
		out.Kick()
		out.kernelSends(n)
		out.Complete()
	}
}
