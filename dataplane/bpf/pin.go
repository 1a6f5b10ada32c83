package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// bpffs is where a Linux system has its BPF file system.
const bpffs = "/sys/fs/bpf"

// errRunning says that a living fnatd owns the pin directory.
var errRunning = errors.New("another fnatd is running: stop it first")

// pins is the directory of the pinned links, one for each interface. Its lock is
// held as long as this process lives, so whatever it finds in there was left by a
// dead one. The nil *pins is no directory.
type pins struct {
	dir *os.File
}

// pins returns the pin directory that o names.
func (o Options) pins() (*pins, error) {
	if o.PinLock != nil {
		return &pins{o.PinLock}, nil
	}
	return openPins(o.pinDir())
}

// openPins opens the pin directory, and mounts and makes what is missing of it.
func openPins(path string) (*pins, error) {
	if strings.HasPrefix(path, bpffs+"/") && !onBPFFS(bpffs) {
		if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
			return nil, fmt.Errorf("mount bpf file system on %q: %w", bpffs, err)
		}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	if !onBPFFS(path) {
		return nil, fmt.Errorf("pin directory %q: not in a bpf file system", path)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &pins{dir}, nil
	}
	dir.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errRunning
	}
	return nil, fmt.Errorf("pin directory %q: %w", path, err)
}

func onBPFFS(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// pinPath returns where in dir the link of the named interface is pinned. The
// BPF file system refuses names with a dot, and VLAN interfaces have one.
func pinPath(dir, name string) string {
	return filepath.Join(dir, strings.ReplaceAll(name, ".", ","))
}

// pinnedLink returns the link that is pinned in dir for the named interface, nil
// if none is.
func pinnedLink(dir, name string) (link.Link, error) {
	path := pinPath(dir, name)
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pinned link %q: %w (remove that file)", path, err)
	}
	return l, nil
}

// load returns the link that a dead fnatd left for the named interface, or nil.
func (p *pins) load(name string) (link.Link, error) {
	if p == nil {
		return nil, nil
	}
	return pinnedLink(p.dir.Name(), name)
}

// pin makes the named interface's link outlive the process.
func (p *pins) pin(name string, l link.Link) error {
	if p == nil {
		return nil
	}
	return l.Pin(pinPath(p.dir.Name(), name))
}

func (p *pins) close() error {
	if p == nil {
		return nil
	}
	return p.dir.Close()
}

// Prune takes off the programs that a dead fnatd left on interfaces to which this
// one is not attached. Call it when all interfaces are.
func (p *Program) Prune() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pins == nil {
		return nil
	}
	keep := make(map[string]bool)
	for _, port := range p.ports {
		if port.link != nil {
			keep[filepath.Base(pinPath(p.pins.dir.Name(), port.name))] = true
		}
	}
	entries, err := os.ReadDir(p.pins.dir.Name())
	if err != nil {
		return fmt.Errorf("pin directory: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if keep[e.Name()] {
			continue
		}
		l, err := p.pins.load(e.Name())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, takeOff(l))
	}
	return errors.Join(append(errs, p.pins.pruneMaps(p.linksLocked()))...)
}

// linksLocked returns the links of all ports.
func (p *Program) linksLocked() (all []link.Link) {
	for _, port := range p.ports {
		if port.link != nil {
			all = append(all, port.link)
		}
	}
	return all
}
