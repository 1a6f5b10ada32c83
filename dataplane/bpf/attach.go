package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Mode is the place in the kernel where the program runs.
type Mode uint8

const (
	Auto    Mode = iota // Native if the driver has it, else Generic
	Native              // in the driver, before an sk_buff is made
	Generic             // in the stack: any interface, but slower, and AF_XDP copies
)

var modeNames = [...]string{Auto: "auto", Native: "native", Generic: "generic"}

func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

var modeFlags = [...]link.XDPAttachFlags{Native: link.XDPDriverMode, Generic: link.XDPGenericMode}

// Attach puts the program on the interface with this index, called name in
// messages and pins, and returns the mode it got and why. With multi the driver
// must take packets of several buffers. A program that a dead
// fnatd left pinned there is replaced atomically: no packet meets neither. An
// interface with anybody else's XDP program is an error.
func (p *Program) Attach(ifindex int, name string, mode Mode, multi bool) (got Mode, reason string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	port, err := p.portLocked(ifindex)
	if err != nil {
		return mode, "", err
	}
	port.name, port.multi = name, multi
	if port.link != nil {
		return mode, "", fmt.Errorf("xdp program: interface %q: attached already", name)
	}
	if got, err = p.adopt(ifindex, port, mode); err != nil {
		return mode, "", err
	}
	reason = "took over the program that an earlier fnatd left"
	if port.link == nil {
		if got, reason, err = p.attachNew(ifindex, port, mode); err != nil {
			return mode, "", fmt.Errorf("xdp program: attach to %q: %w", name, err)
		}
	}
	p.pinMapsLocked(port)
	return got, reason, nil
}

// pinMapsLocked lets the next fnatd find the maps of a port's program, see Predecessor.
// Without that it starts later.
func (p *Program) pinMapsLocked(port *port) {
	if err := p.pins.pinMaps(port.link, socketMaps{p.objs.Xsks, p.objs.Ports, p.objs.Known}); err != nil {
		p.log.Warn("XDP program: if fnatd is killed, the next one forwards only when it has loaded another", "interface", port.name, "error", err)
	}
}

// adopt takes over the link that a dead fnatd left pinned for the port, if it is
// in a mode that will do. Any other leftover of ours it removes, so that after it
// the interface carries no program unless port.link is set.
func (p *Program) adopt(ifindex int, port *port, mode Mode) (Mode, error) {
	xdp, err := xdpOf(ifindex, port.name)
	if err != nil {
		return mode, err
	}
	l, err := p.pins.load(port.name)
	if err != nil {
		return mode, err
	}
	if !holds(l, xdp) && xdp.Attached {
		return mode, foreign(port.name, xdp)
	}
	if l == nil {
		return mode, nil
	}
	got := attachedMode(xdp)
	if xdp.Attached && (mode == Auto || mode == got) {
		if err := p.use(port, l.Update); err != nil {
			return mode, fmt.Errorf("interface %q: take over pinned XDP program: %w", port.name, err)
		}
		port.link = l
		return got, nil
	}
	// Its interface is gone, or it runs in another mode than is asked for.
	return mode, takeOff(l)
}

// attachNew links the program to an interface that has none, and pins the link.
func (p *Program) attachNew(ifindex int, port *port, mode Mode) (Mode, string, error) {
	got, reason := mode, mode.String()+" mode was asked for"
	if mode == Auto {
		got, reason = Native, "the driver has native XDP"
	}
	l, err := p.link(ifindex, port, got)
	if err != nil && mode == Auto {
		got, reason = Generic, fmt.Sprintf("native mode: %v", hint(err))
		l, err = p.link(ifindex, port, got)
	}
	if err != nil {
		return got, "", fmt.Errorf("%s mode: %w", got, hint(err))
	}
	if err := p.pins.pin(port.name, l); err != nil {
		return got, "", errors.Join(err, l.Close())
	}
	port.link = l
	return got, reason, nil
}

func (p *Program) link(ifindex int, port *port, mode Mode) (l link.Link, err error) {
	err = p.use(port, func(prog *ebpf.Program) error {
		l, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: modeFlags[mode]})
		return err
	})
	return l, err
}

// use calls f, which attaches, with the program for a port. Where the plain one is
// refused, most often because frames may be longer than one of the driver's own
// buffers, the one for packets of several buffers may do.
func (p *Program) use(port *port, f func(*ebpf.Program) error) error {
	if port.multi {
		prog, err := p.multiBuffer()
		if err != nil {
			return err
		}
		return f(prog)
	}
	err := f(p.objs.FnatdXdp)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ERANGE) {
		return err
	}
	if prog, no := p.multiBuffer(); no != nil || f(prog) != nil {
		return err
	}
	return nil
}

// takeOff ends a link at once. To unpin and close it would do as well, but the
// kernel may put that off.
func takeOff(l link.Link) error {
	return errors.Join(l.Detach(), l.Unpin(), l.Close())
}

// hint returns the cause of a failed attach in an operator's words.
func hint(err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return errors.New("the driver does not support it (set mode = \"generic\")")
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return errors.New("the driver refuses it, most often for the MTU (lower it, or set mode = \"generic\")")
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return errors.New("another XDP program came first")
	}
	return err
}

// xdpOf returns what XDP program the interface carries.
func xdpOf(ifindex int, name string) (netlink.LinkXdp, error) {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return netlink.LinkXdp{}, fmt.Errorf("interface %q: %w", name, err)
	}
	if l.Attrs().Xdp == nil {
		return netlink.LinkXdp{}, nil
	}
	return *l.Attrs().Xdp, nil
}

// holds reports whether the link is the one that holds the interface's program.
// Program IDs are unique in a system; an interface index is so only in its
// network namespace.
func holds(l link.Link, xdp netlink.LinkXdp) bool {
	if l == nil || !xdp.Attached {
		return false
	}
	info, err := l.Info()
	return err == nil && uint32(info.Program) == xdp.ProgId
}

// Sends reports whether what the program sends back by an interface (XDP_TX) can be
// expected to get out. A veth's peer takes it only if it runs an XDP program itself, or
// NAPI, which cannot be seen from here.
func Sends(ifindex int, at Mode) bool {
	if at == Generic {
		return true
	}
	l, err := netlink.LinkByIndex(ifindex)
	return err == nil && l.Type() != "veth"
}

func attachedMode(xdp netlink.LinkXdp) Mode {
	if xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		return Generic
	}
	return Native
}

// foreign returns the error for an interface that carries a program not ours.
func foreign(name string, xdp netlink.LinkXdp) error {
	return fmt.Errorf("interface %q already carries an XDP program (id %d, name %q): remove it with %q",
		name, xdp.ProgId, programName(xdp.ProgId), removal(name, xdp))
}

func programName(id uint32) string {
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return "unknown"
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return "unknown"
	}
	return info.Name
}

// removal returns the command that takes the program off. One that a link holds
// the kernel does not let go of by ip link.
func removal(name string, xdp netlink.LinkXdp) string {
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err == nil && info.XDP() != nil && uint32(info.Program) == xdp.ProgId {
			return fmt.Sprintf("bpftool link detach id %d", info.ID)
		}
	}
	if attachedMode(xdp) == Generic {
		return fmt.Sprintf("ip link set dev %s xdpgeneric off", name)
	}
	return fmt.Sprintf("ip link set dev %s xdp off", name)
}
