package bpf

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/synproxy"
)

// The kernel's own TCP connects to a guarded service:
//
//	client's socket -- c0 ---- veth ---- c1 [XDP, socket]
//
// It takes the SYN-ACK that XDP made, with all that was offered, and what it
// acknowledges is a cookie that says what it offered itself.
func TestHandshake(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		for _, test := range []struct {
			name   string
			to     ServiceKey
			client string
		}{
			{"ipv4", tcp4, "192.0.2.200/24"},
			{"ipv6", tcp6, "2001:db8::200/64"},
		} {
			t.Run(mode.String()+"/"+test.name, func(t *testing.T) {
				testHandshake(t, mode, test.to, netip.MustParsePrefix(test.client))
			})
		}
	}
}

func testHandshake(t *testing.T, mode Mode, to ServiceKey, client netip.Prefix) {
	privateNetns(t)
	inner := veth(t, "c0", "c1")
	outer, err := netlink.LinkByName("c0")
	must(t, err)
	// A veth transmits what XDP_TX returns only to an end with a program of its own.
	must(t, netlink.LinkSetXdpFdWithFlags(outer, somebodys(t).FD(), unix.XDP_FLAGS_DRV_MODE))
	address := &net.IPNet{IP: client.Addr().AsSlice(), Mask: net.CIDRMask(client.Bits(), client.Addr().BitLen())}
	must(t, netlink.AddrAdd(outer, &netlink.Addr{IPNet: address, Flags: unix.IFA_F_NODAD}))
	must(t, netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: outer.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: to.Virtual.Addr.Netip().AsSlice(), HardwareAddr: inner.Attrs().HardwareAddr,
	}))

	p := mustLoad(t, pinDir(t))
	p.attach(t, inner, mode, mode, mode.String()+" mode was asked for")
	u, err := xsk.NewUMEM(xsk.Config{Frames: 64, RingSize: 64})
	must(t, err)
	sock, err := xsk.Open(u, inner.Attrs().Index, 0, xsk.Options{Mode: xsk.Copy})
	must(t, err)
	defer sock.Close()
	must(t, p.SetSocket(inner.Attrs().Index, 0, sock.FD()))
	sock.Refill()
	keys := synproxy.NewSecret().Keys(time.Now())
	must(t, p.SetCookieKeys(&keys, 0))
	must(t, p.SetServices(map[ServiceKey]*Guard{to: {Offers: both(full), Answer: true}}))

	fd := connect(t, to.Virtual)
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	must(t, err)
	// From linux/tcp.h: timestamps, SACK and window scale.
	if want := uint8(1 | 2 | 4); info.Options&want != want {
		t.Errorf("the client has options %#x, want %#x", info.Options, want)
	}

	ack := receive(t, u, sock)
	if ack.Flags != packet.ACK {
		t.Fatalf("flags %v went up, want an ACK", ack.Flags)
	}
	said, ok := keys.Check(&ack.Flow, ack.TCP().Seq()-1, ack.TCP().Ack()-1)
	if !ok || !said.SACK || !said.Timestamps || said.Scale == synproxy.NoScale || said.MSS < 1420 {
		t.Errorf("the cookie says %+v, %t", said, ok)
	}
	if n, err := p.GuardCounts(to); err != nil || n != (GuardCounts{SYNs: 1, Answered: 1}) {
		t.Errorf("counted %+v, %v", n, err)
	}
}

// connect returns a socket that is connected to the address.
func connect(t *testing.T, to packet.Endpoint) int {
	t.Helper()
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port), Addr: to.Addr})
	if to.Addr.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port), Addr: to.Addr.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout))
	must(t, unix.Connect(fd, sa))
	return fd
}

// receive returns the next TCP segment that comes to the socket.
func receive(t *testing.T, u *xsk.UMEM, s *xsk.Socket) *packet.Packet {
	t.Helper()
	var d [1]xsk.Desc
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for s.Recv(d[:]) == 1 {
			p := new(packet.Packet)
			off := u.Offset(d[0].Addr)
			if p.Parse(u.Chunk(d[0].Addr), off, off+int(d[0].Len)) == packet.Kept && p.Flow.Proto == packet.ProtoTCP {
				return p
			}
			u.Free(d[0].Addr)
		}
	}
	t.Fatal("nothing comes to the socket")
	return nil
}

// A ring that is smaller than the budget loses SYNs behind the program's back. Once
// the worker has found it empty, the next ones come through.
func TestSYNBudgetOfLostFrames(t *testing.T) {
	privateNetns(t)
	inner := veth(t, "c0", "c1")
	index := inner.Attrs().Index
	wire := tap(t, "c0")
	p := mustLoad(t, pinDir(t))
	p.attach(t, inner, Native, Native, "native mode was asked for")
	u, err := xsk.NewUMEM(xsk.Config{Frames: 64, RingSize: 64})
	must(t, err)
	sock, err := xsk.Open(u, index, 0, xsk.Options{Mode: xsk.Copy})
	must(t, err)
	defer sock.Close()
	must(t, p.SetSocket(index, 0, sock.FD()))
	sock.Refill()
	budget, err := p.SYNBudget(index, 0, 64)
	must(t, err)
	must(t, p.SetServices(map[ServiceKey]*Guard{tcp4: {}}))

	// drain is what a worker does, until the ring is empty and so many SYNs have come.
	drain := func(want int) {
		t.Helper()
		got := 0
		for deadline := time.Now().Add(5 * time.Second); ; {
			var d [16]xsk.Desc
			n := sock.Recv(d[:])
			budget.Received(n, n) // nobody sends anything else
			got += n
			for _, d := range d[:n] {
				u.Free(d.Addr)
			}
			sock.Refill()
			if n == 0 && got == want {
				return
			}
			if got > want || time.Now().After(deadline) {
				t.Fatalf("%d SYNs came, want %d", got, want)
			}
		}
	}
	frame := syn(t, inner.Attrs().HardwareAddr, tcp4.Virtual.Port)
	send := func(n int) {
		t.Helper()
		before, err := p.GuardCounts(tcp4)
		must(t, err)
		for range n {
			_, err := unix.Write(wire, frame)
			must(t, err)
		}
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			now, err := p.GuardCounts(tcp4)
			must(t, err)
			if now.SYNs == before.SYNs+uint64(n) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("of %d SYNs %d came", n, now.SYNs-before.SYNs)
			}
		}
	}
	send(300)
	if n, _ := p.GuardCounts(tcp4); n.Shed != 300-synBudget {
		t.Errorf("%d SYNs were shed, want %d", n.Shed, 300-synBudget)
	}
	drain(32) // as many frames as a UMEM of 64 has to receive in
	send(10)
	drain(10)
}
