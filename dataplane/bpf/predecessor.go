package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A Predecessor is the program that a dead fnatd has left on the interfaces. With it
// packets can be had before a program of one's own is verified, which takes longer than
// all else of a start: it leads to whatever sockets it is given. What it knows of
// services and local addresses is what the dead one knew.
type Predecessor struct {
	sockets map[int]socketMaps // by interface index
	modes   map[int]Mode
}

// socketMaps are the two maps that say where an interface's packets go, and the one by
// which some never do.
type socketMaps struct{ xsks, ports, known *ebpf.Map }

func (m *socketMaps) close() { _ = errors.Join(m.xsks.Close(), m.ports.Close(), m.known.Close()) }

// pinned returns the maps by what their pins' names begin with.
func (m *socketMaps) pinned() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{xsksPin: m.xsks, portsPin: m.ports, knownPin: m.known}
}

// LockPins makes this process the owner of the pin directory before it loads a program,
// and returns what is to be Options.PinLock then; nil if there is no directory to be had,
// of which Load will tell.
func LockPins(o Options) *os.File {
	p, err := o.pins()
	if err != nil {
		return nil
	}
	return p.dir
}

// FindPredecessor returns the program that a dead fnatd has left on all these
// interfaces, whose indices are by name, in the mode that is wanted; nil if there is
// none, or if it cannot be told that it is the one that what is pinned belongs to.
func FindPredecessor(lock *os.File, interfaces map[string]int, mode Mode) *Predecessor {
	p := &Predecessor{sockets: map[int]socketMaps{}, modes: map[int]Mode{}}
	for name, ifindex := range interfaces {
		if lock == nil || !p.find(&pins{lock}, name, ifindex, mode) {
			p.Close()
			return nil
		}
	}
	return p
}

func (p *Predecessor) find(pinned *pins, name string, ifindex int, mode Mode) bool {
	xdp, err := xdpOf(ifindex, name)
	if err != nil {
		return false
	}
	l, err := pinned.load(name)
	if err != nil || l == nil {
		return false
	}
	defer l.Close()
	got := attachedMode(xdp)
	if !holds(l, xdp) || mode != Auto && mode != got {
		return false
	}
	m, ok := pinned.loadMaps(xdp.ProgId)
	if !ok {
		return false
	}
	p.sockets[ifindex], p.modes[ifindex] = m, got
	return distrust(m.known) == nil // nobody counts connections there any more
}

// Mode returns where the program runs on an interface.
func (p *Predecessor) Mode(ifindex int) Mode { return p.modes[ifindex] }

// SetSocket does what Program.SetSocket does.
func (p *Predecessor) SetSocket(ifindex, queue, fd int) error {
	m := p.sockets[ifindex]
	if n := int(m.xsks.MaxEntries() / m.ports.MaxEntries()); queue < 0 || queue >= n {
		return fmt.Errorf("xdp program of an earlier fnatd: interface %d: queue %d: only queues below %d can be served", ifindex, queue, n)
	}
	base, err := baseOf(m.ports, ifindex)
	if err == nil {
		err = m.xsks.Put(base+uint32(queue), uint32(fd))
	}
	if err != nil {
		return fmt.Errorf("xdp program of an earlier fnatd: interface %d queue %d: set socket: %w", ifindex, queue, err)
	}
	return nil
}

// baseOf returns where in xsks the sockets of an interface begin.
func baseOf(ports *ebpf.Map, ifindex int) (uint32, error) {
	for i := range ports.MaxEntries() {
		var p xdpPort
		if err := ports.Lookup(i, &p); err != nil {
			return 0, err
		}
		if p.Ifindex == uint32(ifindex) {
			return p.Base, nil
		}
	}
	return 0, errors.New("it does not serve the interface")
}

// Close lets go of the program, which goes on until another one takes its place.
func (p *Predecessor) Close() {
	for _, m := range p.sockets {
		m.close()
	}
}

// The maps are pinned under the number of the program that uses them, which no two
// have at a time: whoever dies between attaching and pinning leaves none for it. They
// are beside the directory of the links and not in it, where an older fnatd would take
// them for links. Who changes what the maps mean gives the pins other names.

// mapsDir returns the directory of the maps for that of the links.
func mapsDir(dir string) string { return filepath.Clean(dir) + "-maps" }

const (
	xsksPin  = "sockets_"
	portsPin = "interfaces_"
	knownPin = "known_"
)

func mapPin(dir, kind string, program uint32) string {
	return filepath.Join(mapsDir(dir), kind+strconv.FormatUint(uint64(program), 10))
}

// pinMaps has the maps of a linked program outlive the process.
func (p *pins) pinMaps(l link.Link, m socketMaps) error {
	if p == nil {
		return nil
	}
	info, err := l.Info()
	if err != nil {
		return err
	}
	dir, id := p.dir.Name(), uint32(info.Program)
	if err := os.MkdirAll(mapsDir(dir), 0o700); err != nil {
		return err
	}
	for kind, m := range m.pinned() {
		// A Map remembers one pin only, and would move it for a second program's.
		other, err := m.Clone()
		if err != nil {
			return err
		}
		err = other.Pin(mapPin(dir, kind, id))
		if err := errors.Join(ignore(err, fs.ErrExist), other.Close()); err != nil {
			return err
		}
	}
	return nil
}

// loadMaps returns the maps of a program, if they are pinned.
func (p *pins) loadMaps(program uint32) (m socketMaps, ok bool) {
	var errs [3]error
	m.xsks, errs[0] = ebpf.LoadPinnedMap(mapPin(p.dir.Name(), xsksPin, program), nil)
	m.ports, errs[1] = ebpf.LoadPinnedMap(mapPin(p.dir.Name(), portsPin, program), nil)
	m.known, errs[2] = ebpf.LoadPinnedMap(mapPin(p.dir.Name(), knownPin, program), nil)
	if errors.Join(errs[:]...) != nil || m.known.Type() != ebpf.ArrayOfMaps || m.xsks.Type() != ebpf.XSKMap || m.ports.Type() != ebpf.Array ||
		m.ports.ValueSize() != uint32(binary.Size(xdpPort{})) {
		m.close()
		return socketMaps{}, false
	}
	return m, true
}

// pruneMaps unpins the maps of programs that are not linked any more.
func (p *pins) pruneMaps(links []link.Link) error {
	if p == nil {
		return nil
	}
	dir, keep := p.dir.Name(), map[string]bool{}
	for _, l := range links {
		info, err := l.Info()
		if err != nil {
			return err
		}
		for kind := range (&socketMaps{}).pinned() {
			keep[mapPin(dir, kind, uint32(info.Program))] = true
		}
	}
	entries, err := os.ReadDir(mapsDir(dir))
	errs := []error{ignore(err, fs.ErrNotExist)}
	for _, e := range entries {
		if path := filepath.Join(mapsDir(dir), e.Name()); !keep[path] {
			errs = append(errs, os.Remove(path))
		}
	}
	if len(keep) == 0 {
		errs = append(errs, ignore(os.Remove(mapsDir(dir)), fs.ErrNotExist))
	}
	return errors.Join(errs...)
}

// ignore returns err unless it is one that does not matter.
func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}
