package xsk_test

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
	testnet "github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

// The rig, all in one private network namespace, which ends with the test:
//
//	a0 ---- veth ---- a1 [XDP, socket]
//	                        one UMEM
//	b0 ---- veth ---- b1 [XDP, socket]
//
// a0 and b0 are the wire: tests send and capture there by packet sockets.
type rig struct {
	t            *testing.T
	a0, a1       netlink.Link
	b0, b1       netlink.Link
	wireA, wireB int // packet sockets on a0 and b0
	program      *bpf.Program
	umem         *xsk.UMEM
	socks        []*xsk.Socket // on a1 and b1
	pins         string
}

// service is the only one that the rig's program redirects.
var service = bpf.ServiceKey{
	Proto:   packet.ProtoUDP,
	Virtual: packet.EndpointFrom(netip.MustParseAddrPort("192.0.2.1:53")),
}

func needRoot(t *testing.T) {
	t.Helper()
	testnet.RequireRoot(t)
	must(t, bpf.Probe(bpf.Options{}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// privateNetns moves the test's thread into a new network namespace for good: it
// is left locked, so that the thread, and the namespace, end with the test.
func privateNetns(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
}

func newRig(t *testing.T, c xsk.Config, o xsk.Options, mode bpf.Mode) *rig {
	t.Helper()
	needRoot(t)
	privateNetns(t)
	r := &rig{t: t}
	r.a0, r.a1 = veth(t, "a0", "a1")
	r.b0, r.b1 = veth(t, "b0", "b1")
	r.wireA, r.wireB = tap(t, r.a0), tap(t, r.b0)
	r.pins = filepath.Join(bpfFS(t), "fnatd")

	var err error
	r.program, err = bpf.Load(bpf.Options{PinDir: r.pins})
	must(t, err)
	t.Cleanup(func() { r.program.Close(false) })
	must(t, r.program.SetServices(map[bpf.ServiceKey]*bpf.Guard{service: nil}))
	for _, l := range []netlink.Link{r.a1, r.b1} {
		_, _, err := r.program.Attach(l.Attrs().Index, l.Attrs().Name, mode, o.MultiBuffer)
		must(t, err)
	}
	r.openSockets(c, o)
	t.Cleanup(r.closeSockets)
	return r
}

func (r *rig) openSockets(c xsk.Config, o xsk.Options) {
	r.t.Helper()
	var err error
	r.umem, err = xsk.NewUMEM(c)
	must(r.t, err)
	r.socks = nil
	for _, l := range []netlink.Link{r.a1, r.b1} {
		s, err := xsk.Open(r.umem, l.Attrs().Index, 0, o)
		must(r.t, err)
		r.socks = append(r.socks, s)
		must(r.t, r.program.SetSocket(l.Attrs().Index, 0, s.FD()))
	}
	for _, s := range r.socks {
		s.Refill()
	}
}

// closeSockets closes what a test has not closed or given away, and checks that no
// frame is lost.
func (r *rig) closeSockets() {
	if r.umem == nil {
		return
	}
	for _, s := range r.socks {
		if err := s.Close(); err != nil {
			r.t.Error(err)
		}
	}
	if c := r.umem.Census(); !c.Conserved() || c.Free+c.Held != c.Frames {
		r.t.Errorf("census after close: %+v", c)
	}
	if err := r.umem.Close(); err != nil {
		r.t.Error(err)
	}
}

// bpfFS mounts a BPF file system of the test's own and returns where.
func bpfFS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// veth makes a pair of interfaces that are up and, without IPv6, silent.
func veth(t *testing.T, outer, inner string) (netlink.Link, netlink.Link) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = outer
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: inner}))
	var ends [2]netlink.Link
	for i, name := range []string{outer, inner} {
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0))
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
		ends[i] = l
	}
	waitUp(t, ends[0])
	return ends[0], ends[1]
}

// waitUp waits until the kernel's stack sends on the link, which may be up to a
// second after both ends are up. AF_XDP does not ask it.
func waitUp(t *testing.T, l netlink.Link) {
	t.Helper()
	for range 500 {
		l, err := netlink.LinkByIndex(l.Attrs().Index)
		must(t, err)
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not come up", l.Attrs().Name)
}

// tap opens a packet socket on the link that sees what arrives there.
func tap(t *testing.T, l netlink.Link) int {
	t.Helper()
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	tv := unix.NsecToTimeval(int64(time.Second))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	return fd
}

// frame returns a UDP datagram to the service, told apart by its number. Nobody on
// its way looks at checksums.
func frame(n uint32) []byte {
	f := make([]byte, 60)
	f[0] = 0x02
	f[12], f[13] = 0x08, 0x00
	ip := f[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, packet.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], 46)
	copy(ip[12:], []byte{198, 51, 100, 7})
	copy(ip[16:], []byte{192, 0, 2, 1})
	binary.BigEndian.PutUint16(ip[20:], 4000)
	binary.BigEndian.PutUint16(ip[22:], 53)
	binary.BigEndian.PutUint16(ip[24:], 26)
	binary.BigEndian.PutUint32(ip[28:], n)
	return f
}

// number returns the number in a frame; false if it is not one of ours.
func number(f []byte) (uint32, bool) {
	if len(f) < 60 || f[12] != 0x08 || f[23] != packet.ProtoUDP {
		return 0, false
	}
	return binary.BigEndian.Uint32(f[42:]), true
}
