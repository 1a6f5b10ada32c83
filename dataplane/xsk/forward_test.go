package xsk_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
)

// pass runs one round of a forwarder that sends what from received on to, and
// returns the number of packets.
func pass(from, to *xsk.Socket) int {
	var d [64]xsk.Desc
	n := from.Recv(d[:])
	for sent := 0; sent < n; {
		sent += to.Send(d[sent:n])
		to.Kick()
		to.Complete()
	}
	to.Kick()
	to.Complete()
	from.Refill()
	return n
}

// exchange sends n frames into wire in and forwards between the sockets until all
// of them came out of wire out, in order.
func (r *rig) exchange(in int, from, to *xsk.Socket, out, n int) {
	r.t.Helper()
	var got []uint32
	var want []uint32
	buf := make([]byte, 2048)
	for sent := 0; sent < n; {
		for range min(64, n-sent) {
			_, err := unix.Write(in, frame(uint32(sent)))
			must(r.t, err)
			want = append(want, uint32(sent))
			sent++
		}
		for deadline := time.Now().Add(time.Second); len(got) < len(want) && time.Now().Before(deadline); {
			xsk.Wait([]*xsk.Socket{from}, 10*time.Millisecond)
			for range pass(from, to) {
				size, err := unix.Read(out, buf)
				must(r.t, err)
				if number, ok := number(buf[:size]); ok {
					got = append(got, number)
				}
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Fatalf("frames on the wire (-want +got):\n%s", diff)
	}
}

// settle waits until the kernel has given back every frame that was sent, and
// returns the census.
func (r *rig) settle() xsk.Census {
	r.t.Helper()
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, s := range r.socks {
			s.Kick()
			s.Complete()
			s.Refill()
		}
		if c := r.umem.Census(); c.TX+c.Completion == 0 {
			break
		}
	}
	return r.umem.Census()
}

func TestForward(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			r := newRig(t, small, xsk.Options{}, mode)
			before := r.settle()
			r.exchange(r.wireA, r.socks[0], r.socks[0], r.wireA, 3000)
			r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 3000)
			r.exchange(r.wireB, r.socks[1], r.socks[0], r.wireA, 3000)
			after := r.settle()
			if diff := cmp.Diff(before, after); diff != "" || !after.Conserved() || after.Held != 0 {
				t.Errorf("census (-before +after):\n%s", diff)
			}
			if got := r.socks[0].Stats(); got.Received != 6000 || got.Sent != 6000 || got.Completed != 6000 || got.Refused != 0 {
				t.Errorf("stats: %+v", got)
			}
		})
	}
}

func TestLinkDownAndUp(t *testing.T) {
	r := newRig(t, small, xsk.Options{}, bpf.Native)
	r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 100)
	must(t, netlink.LinkSetDown(r.b1))

	for i := range 64 {
		_, err := unix.Write(r.wireA, frame(uint32(i)))
		must(t, err)
	}
	var d [64]xsk.Desc
	n := r.socks[0].Recv(d[:])
	if n != len(d) {
		t.Fatalf("received %d of %d", n, len(d))
	}
	if sent := r.socks[1].Send(d[:]); sent != len(d) {
		t.Fatalf("queued %d of %d", sent, len(d))
	}
	r.socks[1].Kick()
	if got := r.socks[1].Stats(); got.Refused != 1 || got.LastErrno != unix.ENETDOWN {
		t.Errorf("kick on a link that is down: %+v", got)
	}
	if c := r.umem.Census(); c.TX != len(d) || !c.Conserved() {
		t.Errorf("census on a link that is down: %+v", c)
	}

	must(t, netlink.LinkSetUp(r.b1))
	waitUp(t, r.b0)
	if c := r.settle(); c.TX != 0 || c.Held != 0 || !c.Conserved() {
		t.Errorf("census after the link came up: %+v", c)
	}
	drain(t, r.wireB)
	r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 100)
	r.exchange(r.wireB, r.socks[1], r.socks[0], r.wireA, 100)
}

// drain reads off the wire what is on it.
func drain(t *testing.T, wire int) (n int) {
	t.Helper()
	buf := make([]byte, 2048)
	for {
		if _, _, err := unix.Recvfrom(wire, buf, unix.MSG_DONTWAIT); err != nil {
			return n
		}
		n++
	}
}
