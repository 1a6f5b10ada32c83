package xsk_test

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
)

var small = xsk.Config{Frames: 1024, RingSize: 256}

func TestOpenMode(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	s := r.socks[0]
	if s.Mode() != xsk.Copy || s.ZeroCopy() || s.Reason() != "zero-copy: bind: operation not supported" {
		t.Errorf("auto on veth became %v because %q", s.Mode(), s.Reason())
	}
	for _, tt := range []struct {
		mode   xsk.Mode
		reason string
	}{{xsk.Copy, "copy mode was asked for"}, {xsk.Generic, "generic mode was asked for"}} {
		r.reopen(0, xsk.Options{Mode: tt.mode})
		if s := r.socks[0]; s.Mode() != tt.mode || s.Reason() != tt.reason {
			t.Errorf("%v became %v because %q", tt.mode, s.Mode(), s.Reason())
		}
		r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 100)
	}
}

// reopen closes socket i and opens it again at once.
func (r *rig) reopen(i int, o xsk.Options) {
	r.t.Helper()
	index := []netlink.Link{r.a1, r.b1}[i].Attrs().Index
	must(r.t, r.socks[i].Close())
	s, err := xsk.Open(r.umem, index, 0, o)
	must(r.t, err)
	r.socks[i] = s
	must(r.t, r.program.SetSocket(index, 0, s.FD()))
	s.Refill()
}

// A socket that is closed with frames everywhere gives all of them back but those
// in hand, and its queue can be opened again.
func TestReopen(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	var d [32]xsk.Desc
	for range 5 {
		for i := range 2 * len(d) {
			_, err := unix.Write(r.wireA, frame(uint32(i)))
			must(t, err)
		}
		if n := r.socks[0].Recv(d[:]); n != len(d) {
			t.Fatalf("received %d", n)
		}
		if n := r.socks[0].Send(d[:16]); n != 16 {
			t.Fatalf("queued %d", n)
		}
		r.reopen(0, xsk.Options{})
		if c := r.umem.Census(); c.Held != 16 || c.RX+c.TX+c.Completion != 0 || !c.Conserved() {
			t.Fatalf("census: %+v", c)
		}
		for _, desc := range d[16:] {
			r.umem.Free(desc.Addr)
		}
		drain(t, r.wireA)
		r.exchange(r.wireA, r.socks[0], r.socks[0], r.wireA, 100)
	}
}

func TestOpenRefused(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	other, err := xsk.NewUMEM(small)
	must(t, err)
	index := r.a1.Attrs().Index
	for _, tt := range []struct {
		name           string
		umem           *xsk.UMEM
		ifindex, queue int
		mode           xsk.Mode
		errno          error
	}{
		{"queue_in_use", other, index, 0, xsk.Auto, unix.EBUSY},
		{"no_such_queue", other, index, 5, xsk.Auto, unix.EINVAL},
		{"no_such_interface", other, 9999, 0, xsk.Auto, unix.ENODEV},
		{"no_zero_copy", other, r.a0.Attrs().Index, 0, xsk.ZeroCopy, unix.EOPNOTSUPP},
		{"opened_already", r.umem, index, 0, xsk.Auto, nil},
		{"unknown_mode", other, index, 0, 99, nil},
	} {
		// Not by t.Run: a goroutine of its own would be in another namespace.
		s, err := xsk.Open(tt.umem, tt.ifindex, tt.queue, xsk.Options{Mode: tt.mode})
		if s != nil || err == nil || tt.errno != nil && !errors.Is(err, tt.errno) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.errno)
		}
	}
	if c := other.Census(); c.Free != c.Frames || !c.Conserved() {
		t.Errorf("census: %+v", c)
	}
	must(t, other.Close())
	if err := r.umem.Close(); err == nil {
		t.Error("closed a umem that sockets use")
	}
}

func TestBusyPoll(t *testing.T) {
	r := newRig(t, small, xsk.Options{BusyPoll: true}, bpf.Native)
	if !r.socks[0].BusyPolls() {
		t.Error("a kernel that has busy polling does not do it")
	}
	r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 1000)
}

// One Kick sends everything, however much more that is than the kernel sends in
// one system call.
func TestKickDrains(t *testing.T) {
	r := newRig(t, xsk.Config{Frames: 4096}, xsk.Options{}, bpf.Native)
	const n = 1500
	var d []xsk.Desc
	for i := range n {
		addr, ok := r.umem.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		d = append(d, xsk.Desc{Addr: addr, Len: uint32(copy(r.umem.Chunk(addr), frame(uint32(i))))})
	}
	if sent := r.socks[1].Send(d); sent != n {
		t.Fatalf("queued %d", sent)
	}
	r.socks[1].Kick()
	if got := r.socks[1].Stats(); got.Refused != 0 || got.Kicks == 0 {
		t.Errorf("stats: %+v", got)
	}
	if got := r.socks[1].Complete(); got != n {
		t.Errorf("%d of %d completed", got, n)
	}
	if got := drain(t, r.wireB); got != n {
		t.Errorf("%d of %d on the wire", got, n)
	}
}

// An interface that is deleted leaves sockets that do nothing and harm nobody.
func TestInterfaceDeleted(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	_, err := unix.Write(r.wireA, frame(1))
	must(t, err)
	must(t, netlink.LinkDel(r.b0))
	var d [1]xsk.Desc
	if n := r.socks[0].Recv(d[:]); n != 1 {
		t.Fatalf("received %d", n)
	}
	r.socks[1].Send(d[:])
	r.socks[1].Kick()
	r.socks[1].Recv(d[:])
	r.socks[1].Refill()
	r.socks[1].Complete()
	xsk.Wait(r.socks, time.Millisecond)
	if got := r.socks[1].Stats(); got.Refused != 1 || got.LastErrno != unix.ENXIO {
		t.Errorf("stats: %+v", got)
	}
	r.exchange(r.wireA, r.socks[0], r.socks[0], r.wireA, 100)
}

// Without frames to receive into the kernel drops and counts; with them it goes on.
func TestFillRingEmpty(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	for i := range 300 {
		_, err := unix.Write(r.wireA, frame(uint32(i)))
		must(t, err)
	}
	if got := r.socks[0].Stats().Kernel; got.FillEmpty+got.RingFull != 300-256 {
		t.Errorf("kernel stats: %+v", got)
	}
	d := make([]xsk.Desc, 300)
	n := r.socks[0].Recv(d)
	for _, desc := range d[:n] {
		r.umem.Free(desc.Addr)
	}
	r.socks[0].Refill()
	r.exchange(r.wireA, r.socks[0], r.socks[0], r.wireA, 100)
	if c := r.settle(); n != 256 || c.Held != 0 || !c.Conserved() {
		t.Errorf("received %d, census: %+v", n, c)
	}
}
