package bpf

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const takenOver = "took over the program that an earlier fnatd left"

// attached returns the ID of the XDP program that the interface carries, 0 if none.
func attached(t *testing.T, l netlink.Link) uint32 {
	t.Helper()
	xdp, err := xdpOf(l.Attrs().Index, l.Attrs().Name)
	must(t, err)
	return xdp.ProgId
}

func (p *Program) attach(t *testing.T, l netlink.Link, mode, wantMode Mode, wantReason string) {
	t.Helper()
	got, reason, err := p.Attach(l.Attrs().Index, l.Attrs().Name, mode, false)
	must(t, err)
	if got != wantMode || reason != wantReason {
		t.Errorf("attached in %v mode because %q, want %v mode because %q", got, reason, wantMode, wantReason)
	}
	prog := p.objs.FnatdXdp
	if p.multi != nil {
		prog = p.multi
	}
	info, err := prog.Info()
	must(t, err)
	if id, ok := info.ID(); !ok || attached(t, l) != uint32(id) {
		t.Errorf("interface carries program %d, want %d", attached(t, l), id)
	}
}

// somebodys returns an XDP program that is not ours.
func somebodys(t testing.TB) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "somebodys",
		Type:         ebpf.XDP,
		AttachType:   ebpf.AttachXDP,
		License:      "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	return prog
}

func TestAttach(t *testing.T) {
	for _, tt := range []struct {
		asked, got Mode
		mtu        int
		reason     string
	}{
		{Auto, Native, 1500, "the driver has native XDP"},
		{Native, Native, 1500, "native mode was asked for"},
		{Generic, Generic, 1500, "generic mode was asked for"},
		{Auto, Native, 9000, "the driver has native XDP"}, // for packets of several buffers
	} {
		t.Run(fmt.Sprintf("%v_becomes_%v_at_mtu_%d", tt.asked, tt.got, tt.mtu), func(t *testing.T) {
			privateNetns(t)
			inner := veth(t, "a0", "a1")
			outer, err := netlink.LinkByName("a0")
			must(t, err)
			must(t, netlink.LinkSetMTU(outer, tt.mtu))
			p := mustLoad(t, pinDir(t))
			p.attach(t, inner, tt.asked, tt.got, tt.reason)
			if _, _, err := p.Attach(inner.Attrs().Index, "a1", tt.asked, false); err == nil {
				t.Error("attached twice")
			}
			must(t, p.Detach(inner.Attrs().Index))
			if id := attached(t, inner); id != 0 {
				t.Errorf("after detach the interface carries program %d", id)
			}
			p.attach(t, inner, tt.asked, tt.got, tt.reason)
		})
	}
}

func TestAttachRefusedNativeMode(t *testing.T) {
	privateNetns(t)
	index := loopback(t)
	p := mustLoad(t, pinDir(t))
	_, _, err := p.Attach(index, "lo", Native, false)
	want := `xdp program: attach to "lo": native mode: the driver does not support it (set mode = "generic")`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestForeignProgram(t *testing.T) {
	const want = `interface "a1" already carries an XDP program (id %d, name "somebodys"): remove it with %q`
	check := func(t *testing.T, l netlink.Link, remedy string) {
		t.Helper()
		id, want := attached(t, l), fmt.Sprintf(want, attached(t, l), remedy)
		p := mustLoad(t, pinDir(t))
		_, _, err := p.Attach(l.Attrs().Index, l.Attrs().Name, Auto, false)
		if err == nil || err.Error() != want {
			t.Errorf("attach: got  %v\nwant %s", err, want)
		}
		if err := Probe(Options{}, "a1"); err == nil || err.Error() != want {
			t.Errorf("probe: got  %v\nwant %s", err, want)
		}
		if attached(t, l) != id {
			t.Error("the program was touched")
		}
	}
	t.Run("native", func(t *testing.T) {
		privateNetns(t)
		l := veth(t, "a0", "a1")
		must(t, netlink.LinkSetXdpFdWithFlags(l, somebodys(t).FD(), unix.XDP_FLAGS_DRV_MODE))
		check(t, l, "ip link set dev a1 xdp off")
	})
	t.Run("generic", func(t *testing.T) {
		privateNetns(t)
		l := veth(t, "a0", "a1")
		must(t, netlink.LinkSetXdpFdWithFlags(l, somebodys(t).FD(), unix.XDP_FLAGS_SKB_MODE))
		check(t, l, "ip link set dev a1 xdpgeneric off")
	})
	t.Run("held_by_a_link", func(t *testing.T) {
		privateNetns(t)
		l := veth(t, "a0", "a1")
		xdp, err := link.AttachXDP(link.XDPOptions{Program: somebodys(t), Interface: l.Attrs().Index})
		must(t, err)
		defer xdp.Close()
		info, err := xdp.Info()
		must(t, err)
		check(t, l, fmt.Sprintf("bpftool link detach id %d", info.ID))
	})
}

func TestTakeOver(t *testing.T) {
	// leave attaches a program to a1 and ends it as a kill would.
	leave := func(t *testing.T, dir string, l netlink.Link, mode Mode) {
		t.Helper()
		p := mustLoad(t, dir)
		p.attach(t, l, mode, mode, mode.String()+" mode was asked for")
		must(t, p.Close(true))
		if attached(t, l) == 0 {
			t.Fatal("the program is gone with its process")
		}
	}
	t.Run("same_mode_keeps_the_link", func(t *testing.T) {
		privateNetns(t)
		dir, l := pinDir(t), veth(t, "a0", "a1.5")
		leave(t, dir, l, Native)
		must(t, Probe(Options{PinDir: dir}, "a1.5"))
		before := linkID(t, dir, "a1.5")
		p := mustLoad(t, dir)
		p.attach(t, l, Auto, Native, takenOver)
		if after := linkID(t, dir, "a1.5"); after != before {
			t.Errorf("link %d became link %d: the interface was bare in between", before, after)
		}
		must(t, p.Close(false))
		if attached(t, l) != 0 {
			t.Error("a clean stop left the program")
		}
	})
	t.Run("auto_keeps_generic", func(t *testing.T) {
		privateNetns(t)
		dir, l := pinDir(t), veth(t, "a0", "a1")
		leave(t, dir, l, Generic)
		mustLoad(t, dir).attach(t, l, Auto, Generic, takenOver)
	})
	t.Run("other_mode_attaches_anew", func(t *testing.T) {
		privateNetns(t)
		dir, l := pinDir(t), veth(t, "a0", "a1")
		leave(t, dir, l, Generic)
		mustLoad(t, dir).attach(t, l, Native, Native, "native mode was asked for")
	})
	t.Run("interface_made_anew", func(t *testing.T) {
		privateNetns(t)
		dir, l := pinDir(t), veth(t, "a0", "a1")
		leave(t, dir, l, Native)
		must(t, netlink.LinkDel(l))
		l = veth(t, "a0", "a1")
		mustLoad(t, dir).attach(t, l, Auto, Native, "the driver has native XDP")
	})
	t.Run("interface_with_somebodys_program_since", func(t *testing.T) {
		privateNetns(t)
		dir, l := pinDir(t), veth(t, "a0", "a1")
		leave(t, dir, l, Native)
		must(t, netlink.LinkDel(l))
		l = veth(t, "a0", "a1")
		must(t, netlink.LinkSetXdpFd(l, somebodys(t).FD()))
		if err := Probe(Options{PinDir: dir}, "a1"); err == nil {
			t.Error("probe found nothing wrong")
		}
		if _, _, err := mustLoad(t, dir).Attach(l.Attrs().Index, "a1", Auto, false); err == nil {
			t.Error("attach found nothing wrong")
		}
	})
	t.Run("pin_is_not_a_link", func(t *testing.T) {
		privateNetns(t)
		dir, l := pinDir(t), veth(t, "a0", "a1")
		p := mustLoad(t, dir)
		must(t, somebodys(t).Pin(filepath.Join(dir, "a1")))
		_, _, err := p.Attach(l.Attrs().Index, "a1", Auto, false)
		if err == nil || !strings.Contains(err.Error(), "remove that file") {
			t.Errorf("got %v, want advice to remove the file", err)
		}
	})
}

func linkID(t *testing.T, dir, name string) link.ID {
	t.Helper()
	l, err := pinnedLink(dir, name)
	must(t, err)
	if l == nil {
		t.Fatalf("no link is pinned for %q", name)
	}
	defer l.Close()
	info, err := l.Info()
	must(t, err)
	return info.ID
}

func TestPrune(t *testing.T) {
	privateNetns(t)
	dir, a, b := pinDir(t), veth(t, "a0", "a1"), veth(t, "b0", "b1")
	dead := mustLoad(t, dir)
	dead.attach(t, a, Auto, Native, "the driver has native XDP")
	dead.attach(t, b, Auto, Native, "the driver has native XDP")
	must(t, dead.Close(true))

	p := mustLoad(t, dir)
	p.attach(t, a, Auto, Native, takenOver)
	must(t, p.Prune())
	if attached(t, a) == 0 || attached(t, b) != 0 {
		t.Errorf("programs after prune: a %d, want one; b %d, want none", attached(t, a), attached(t, b))
	}
}

func TestLoadBesideRunning(t *testing.T) {
	privateNetns(t)
	dir := pinDir(t)
	first := mustLoad(t, dir)
	want := fmt.Sprintf("pin directory %q: another fnatd is running: stop it first", dir)
	if _, err := Load(Options{PinDir: dir}); !errors.Is(err, errRunning) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	must(t, first.Close(true))
	mustLoad(t, dir)
}

func TestLoadMountsBPFFileSystem(t *testing.T) {
	privateNetns(t)
	must(t, unix.Unshare(unix.CLONE_NEWNS)) // ends with the thread, as the namespace does
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for onBPFFS(bpffs) {
		must(t, unix.Unmount(bpffs, 0))
	}
	p := mustLoad(t, "")
	if !p.Pinned() || !onBPFFS(DefaultPinDir) {
		t.Errorf("pinned: %v, in a bpf file system: %v", p.Pinned(), onBPFFS(DefaultPinDir))
	}
}

func TestLoadUnpinned(t *testing.T) {
	privateNetns(t)
	l := veth(t, "a0", "a1")
	p := mustLoad(t, filepath.Join(t.TempDir(), "fnatd"))
	if p.Pinned() {
		t.Error("pinned outside a bpf file system")
	}
	p.attach(t, l, Auto, Native, "the driver has native XDP")
	must(t, p.Prune())
	must(t, p.Close(true))
	if attached(t, l) != 0 {
		t.Error("an unpinned program outlived its process")
	}
}

func TestMorePortsThanRoom(t *testing.T) {
	privateNetns(t)
	p := mustLoad(t, pinDir(t))
	room := int(p.objs.Ports.MaxEntries())
	bases := make(map[uint32]bool)
	for i := range room {
		port, err := p.portLocked(100 + i)
		must(t, err)
		bases[port.base] = true
	}
	if len(bases) != room {
		t.Errorf("%d ports have %d different bases", room, len(bases))
	}
	if _, err := p.portLocked(99); err == nil {
		t.Error("one port too many: no error")
	}
	must(t, p.Detach(107))
	if port, err := p.portLocked(99); err != nil || port.base != 7*uint32(p.maxQueues()) {
		t.Errorf("the room of a port that went is not used again: %+v, %v", port, err)
	}
}

// Wherever an interface stands among those that are served, its packets find their socket,
// and when it has gone they do not.
func TestPortInAnyPlace(t *testing.T) {
	privateNetns(t)
	p := loadWithTables(t)
	frame := join(eth(0x800), ip4("192.0.2.1", 6, 0), to(80))
	lo := loopback(t)
	s := newSocket(t, lo)
	defer s.Close()
	for place := range int(p.objs.Ports.MaxEntries()) {
		must(t, p.SetSocket(lo, 0, s.FD()))
		p.run(t, frame, xdpRedirect, Service)
		must(t, p.Detach(lo))
		p.run(t, frame, xdpDrop, Unserved)
		_, err := p.portLocked(100 + place)
		must(t, err)
	}
}
