package bpf

import (
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/xsk"
	testnet "github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// privateNetns moves the test's thread into a new network namespace for good: it
// is left locked, so that the thread, and the namespace, end with the test.
func privateNetns(t testing.TB) {
	t.Helper()
	testnet.RequireRoot(t)
	must(t, Probe(Options{}))
	runtime.LockOSThread()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
}

// pinDir returns a directory to be made in a BPF file system of the test's own.
func pinDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "fnatd")
}

// mustLoad loads a program that the test's end takes off everything.
func mustLoad(t testing.TB, pinDir string) *Program {
	t.Helper()
	p, err := Load(Options{PinDir: pinDir})
	must(t, err)
	t.Cleanup(func() { p.Close(false) })
	return p
}

// veth makes a pair of interfaces that are up, and returns the inner one.
func veth(t *testing.T, outer, inner string) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = outer
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: inner}))
	o, err := netlink.LinkByName(outer)
	must(t, err)
	i, err := netlink.LinkByName(inner)
	must(t, err)
	must(t, netlink.LinkSetUp(o))
	must(t, netlink.LinkSetUp(i))
	return i
}

// openSocket opens an AF_XDP socket on queue 0 of the interface and gives it to
// the program.
func openSocket(t testing.TB, p *Program, ifindex int) *xsk.Socket {
	t.Helper()
	s := newSocket(t, ifindex)
	must(t, p.SetSocket(ifindex, 0, s.FD()))
	return s
}

// newSocket opens an AF_XDP socket on queue 0 of the interface.
func newSocket(t testing.TB, ifindex int) *xsk.Socket {
	t.Helper()
	u, err := xsk.NewUMEM(xsk.Config{Frames: 64, RingSize: 64})
	must(t, err)
	s, err := xsk.Open(u, ifindex, 0, xsk.Options{Mode: xsk.Copy})
	must(t, err)
	return s
}

// tap opens a packet socket on the named interface.
func tap(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	tv := unix.NsecToTimeval(int64(2 * time.Second))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	return fd
}

func endpoint(s string) packet.Endpoint { return packet.EndpointFrom(netip.MustParseAddrPort(s)) }

func addr(s string) packet.Addr { return packet.AddrFromNetip(netip.MustParseAddr(s)) }
