package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Host is one network namespace, seen as a machine. Its methods may be called
// from any goroutine until the Rig is closed.
type Host struct {
	Name string // role in the rig: client, lb, switch, server0 …
	Path string // of the namespace, for nsenter --net= and the like

	full  string // name under /run/netns
	ns    netns.NsHandle
	nl    *netlink.Handle
	spawn chan func() // work for the thread that starts programs; see starter

	mu       sync.Mutex
	closers  []func() error
	children []*Process
}

// newHost makes the namespace called full.
func newHost(role, full string) (*Host, error) {
	h := &Host{Name: role, Path: runDir + "/" + full, full: full, spawn: make(chan func())}
	if err := h.create(); err != nil {
		return nil, fmt.Errorf("namespace %q: %w", full, err)
	}
	ready := make(chan error)
	go h.starter(ready)
	if err := errors.Join(<-ready, h.prepare()); err != nil {
		return nil, errors.Join(fmt.Errorf("namespace %q: %w", full, err), h.close())
	}
	return h, nil
}

// create makes the namespace on a thread of its own, which comes back from it.
func (h *Host) create() error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	h.ns, err = netns.NewNamed(h.full)
	if back := netns.Set(home); back != nil {
		return errors.Join(err, back) // the thread stays locked, and dies with the goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// prepare sets what a new namespace inherits from the machine, or lacks.
func (h *Host) prepare() error {
	var err error
	if h.nl, err = netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	for _, s := range []struct{ name, value string }{
		// Nobody routes: what gets through has been carried by fnatd.
		{"net/ipv4/ip_forward", "0"},
		{"net/ipv6/conf/all/forwarding", "0"},
		// A new namespace copies these from the machine, whatever they are there.
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
		// Addresses serve at once and stay over LinkDown. Link-local ones are there,
		// because the kernel solicits neighbours from them.
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/conf/default/addr_gen_mode", "0"},
		{"net/ipv6/conf/default/router_solicitations", "0"},
		{"net/ipv6/conf/all/keep_addr_on_down", "1"},
		{"net/ipv6/conf/default/keep_addr_on_down", "1"},
	} {
		if err := h.Sysctl(s.name, s.value); err != nil {
			return err
		}
	}
	return h.LinkUp("lo")
}

// Sysctl writes a value to /proc/sys/name as the namespace sees it.
func (h *Host) Sysctl(name, value string) error {
	return h.Do(func() error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0o644)
	})
}

// Forward makes the host a router.
func (h *Host) Forward() error {
	return errors.Join(h.Sysctl("net/ipv4/ip_forward", "1"), h.Sysctl("net/ipv6/conf/all/forwarding", "1"))
}

// Do calls f with the calling goroutine's thread in the namespace. Goroutines
// that f starts are not. A socket stays in the namespace that it was made in, so
// one that f opens may be used after Do has returned.
//
// Beware of /proc/net, which shows the namespace of the process; a thread's own
// is under /proc/thread-self/net.
func (h *Host) Do(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("namespace %q: %w", h.full, err)
	}
	defer func() {
		defer home.Close()
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, back) // the thread stays locked, and dies with the goroutine
			return
		}
		runtime.UnlockOSThread()
	}()
	if err := netns.Set(h.ns); err != nil {
		return fmt.Errorf("namespace %q: %w", h.full, err)
	}
	return f()
}

// Dial connects from the namespace. It has the signature that http.Transport
// wants for its DialContext.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	return h.DialFrom(ctx, nil, network, address)
}

// DialFrom is Dial from a local address, of the type that net.Dialer wants.
func (h *Host) DialFrom(ctx context.Context, local net.Addr, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		// Without the fallback delay a dialer tries one address after another on
		// this goroutine: only this one is in the namespace.
		d := net.Dialer{LocalAddr: local, FallbackDelay: -1}
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens for streams in the namespace, until Close at the latest.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	if err == nil {
		h.atClose(l.Close)
	}
	return l, err
}

// ListenPacket listens for datagrams in the namespace, until Close at the latest.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = h.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	if err == nil {
		h.atClose(c.Close)
	}
	return c, err
}

// atClose has f called when the host is closed. Its error is of no interest:
// most often f has been called before.
func (h *Host) atClose(f func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closers = append(h.closers, f)
}

// close ends the host's programs, and removes its interfaces and itself.
func (h *Host) close() error {
	h.mu.Lock()
	closers, children := h.closers, h.children
	h.closers, h.children = nil, nil
	h.mu.Unlock()
	for _, f := range closers {
		f()
	}
	for _, p := range children {
		p.Kill()
	}
	close(h.spawn)
	errs := []error{h.killAll()}
	if h.nl != nil {
		// The kernel frees a namespace some time after its last user is gone.
		// Links are removed now, so that nothing runs on after Close.
		errs = append(errs, h.removeLinks())
		h.nl.Close()
	}
	errs = append(errs, netns.DeleteNamed(h.full), h.ns.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("namespace %q: close: %w", h.full, err)
	}
	return nil
}
