// Package bpf loads the XDP program that parts balanced packets from the host's
// own and guards services against floods of SYNs (xdp.c), attaches it to interfaces
// and fills its maps. It opens no AF_XDP socket.
//
// Each Program has maps of its own, so a new fnatd fills them at leisure and then
// takes an interface over from a dead one by one atomic update of the pinned link.
// Until then it may have packets by the dead one's: see Predecessor.
package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// DefaultPinDir is where links are pinned if Options names no other directory.
const DefaultPinDir = "/sys/fs/bpf/fnatd"

// Options say how to load the program. The zero Options are the defaults.
type Options struct {
	// PinDir is a directory in a BPF file system, made if it is missing. It
	// belongs to one running fnatd at a time. Empty means DefaultPinDir.
	PinDir string
	// PinLock is the open and locked PinDir of a running fnatd, passed on by that one,
	// which this one is to replace. The Program takes it over.
	PinLock *os.File
	// Log receives warnings; nil means slog.Default.
	Log *slog.Logger
}

func (o Options) pinDir() string {
	if o.PinDir == "" {
		return DefaultPinDir
	}
	return o.PinDir
}

// A Program is a loaded XDP program, its maps and its links to interfaces. Its
// methods may be called from several goroutines; none belongs on the hot path.
type Program struct {
	mu       sync.Mutex
	log      *slog.Logger
	objs     xdpObjects
	multi    *ebpf.Program // for packets of several buffers; nil until one is needed
	pins     *pins         // nil: links end with the process
	services table[xdpServiceKey, uint32]
	guards   guardSlots
	flows    flowCounts
	secrets  xdpCookieSecrets // as the program has them
	locals   table[xdpLocalKey, xdpPortRange]
	ports    map[int]*port // by interface index
}

// A port is an interface that the program serves.
type port struct {
	name  string
	multi bool      // its packets may be in several buffers
	base  uint32    // index in xsks of the socket of queue 0
	link  link.Link // nil until attached
}

// Load loads the program into the kernel. It mounts the BPF file system at
// /sys/fs/bpf if it is missing; where it may not, it warns that the program will
// not outlive the process, and goes on. It is an error if another fnatd runs with
// the same PinDir.
func Load(o Options) (*Program, error) {
	log := o.Log
	if log == nil {
		log = slog.Default()
	}
	// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		log.Warn("locked memory limit stays as it is", "error", err)
	}
	pins, err := o.pins()
	if errors.Is(err, errRunning) {
		return nil, err
	}
	if err != nil {
		log.Warn("XDP program is not pinned: if fnatd is killed, the kernel will answer balanced packets", "error", err)
	}
	p := &Program{
		log: log, pins: pins, ports: make(map[int]*port),
	}
	spec, err := specFor(0)
	if err == nil {
		err = spec.LoadAndAssign(&p.objs, nil)
	}
	if err != nil {
		p.pins.close()
		return nil, fmt.Errorf("xdp program: load: %w", err)
	}
	if err := p.setSecretsLocked(newSecrets()); err != nil {
		return nil, errors.Join(err, p.Close(false))
	}
	p.guards = newGuardSlots(p.objs.Guards.MaxEntries())
	p.services = newTable[xdpServiceKey, uint32](p.objs.Services)
	p.locals = newTable[xdpLocalKey, xdpPortRange](p.objs.Locals)
	return p, nil
}

// multiBuffer returns the program that takes packets of several buffers, of which
// it sees the first: the same code and maps, with another promise to the kernel.
// It is loaded when it is first needed, because kernels before 5.18 refuse it.
func (p *Program) multiBuffer() (*ebpf.Program, error) {
	if p.multi != nil {
		return p.multi, nil
	}
	prog, err := p.another(unix.BPF_F_XDP_HAS_FRAGS)
	if err != nil {
		return nil, fmt.Errorf("load for packets of several buffers, which takes kernel 5.18 or newer: %w", err)
	}
	p.multi = prog
	return prog, nil
}

// another loads one more instance of the program, with the maps there are and more
// flags than it has.
func (p *Program) another(flags uint32) (*ebpf.Program, error) {
	spec, err := specFor(flags)
	if err != nil {
		return nil, err
	}
	var objs xdpPrograms
	err = spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		xdpMapAgain: p.objs.Again, xdpMapBudgets: p.objs.Budgets, xdpMapCounters: p.objs.Counters, xdpMapGuardCounts: p.objs.GuardCounts,
		xdpMapGuards: p.objs.Guards, xdpMapKnown: p.objs.Known, xdpMapLocals: p.objs.Locals, xdpMapOrphans: p.objs.Orphans, xdpMapPorts: p.objs.Ports,
		xdpMapProven: p.objs.Proven, xdpMapSecrets: p.objs.Secrets, xdpMapServices: p.objs.Services, xdpMapSources: p.objs.Sources,
		xdpMapXsks: p.objs.Xsks,
	}})
	return objs.FnatdXdp, err
}

// specFor returns what to load for an instance of the program with these flags, on
// this kernel.
func specFor(flags uint32) (*ebpf.CollectionSpec, error) {
	spec, err := loadXdp()
	if err != nil {
		return nil, err
	}
	spec.Programs[xdpProgFnatdXdp].Flags |= flags
	return spec, spec.Variables[xdpVarMultiBuffer].Set(flags&unix.BPF_F_XDP_HAS_FRAGS != 0)
}

// PinLock returns the open and locked pin directory, for Options.PinLock of another
// process, or nil if nothing is pinned. It stays the Program's.
func (p *Program) PinLock() *os.File {
	if p.pins == nil {
		return nil
	}
	return p.pins.dir
}

// Pinned reports whether attached programs outlive the process.
func (p *Program) Pinned() bool { return p.pins != nil }

// Close ends the program. If keepPinned, pinned links stay: the kernel goes on
// dropping balanced packets until the next fnatd takes over. Otherwise every
// interface is given back as it was.
func (p *Program) Close(keepPinned bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	hadLinks := len(p.linksLocked()) > 0 // else what is pinned is a dead fnatd's
	for ifindex, port := range p.ports {
		delete(p.ports, ifindex)
		if port.link == nil {
			continue
		}
		if keepPinned {
			errs = append(errs, port.link.Close())
		} else {
			errs = append(errs, takeOff(port.link))
		}
	}
	if !keepPinned && hadLinks {
		errs = append(errs, p.pins.pruneMaps(nil))
	}
	errs = append(errs, p.flows.close(), p.multi.Close(), p.objs.Close(), p.pins.close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("xdp program: close: %w", err)
	}
	return nil
}

// Detach takes the program off the interface, and forgets its sockets.
func (p *Program) Detach(ifindex int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	port := p.ports[ifindex]
	if port == nil {
		return nil
	}
	delete(p.ports, ifindex)
	var errs []error
	if port.link != nil {
		errs = append(errs, takeOff(port.link))
	}
	errs = append(errs, p.objs.Ports.Put(port.base/uint32(p.maxQueues()), xdpPort{}))
	for queue := range uint32(p.maxQueues()) {
		if err := p.objs.Xsks.Delete(port.base + queue); !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("xdp program: detach from %q: %w", port.name, err)
	}
	return nil
}

// SetSocket makes the program hand the packets of an interface's queue to the
// AF_XDP socket fd, which must be bound to that queue. The kernel forgets the
// socket by itself when it is closed.
func (p *Program) SetSocket(ifindex, queue, fd int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	place, err := p.placeLocked(ifindex, queue)
	if err != nil {
		return err
	}
	if err := p.objs.Xsks.Put(place, uint32(fd)); err != nil {
		return fmt.Errorf("xdp program: interface %d queue %d: set socket: %w", ifindex, queue, err)
	}
	return nil
}

// placeLocked returns the index in xsks of the socket on an interface's queue.
func (p *Program) placeLocked(ifindex, queue int) (uint32, error) {
	if queue < 0 || queue >= p.maxQueues() {
		return 0, fmt.Errorf("xdp program: interface %d: queue %d: only queues below %d can be served", ifindex, queue, p.maxQueues())
	}
	port, err := p.portLocked(ifindex)
	if err != nil {
		return 0, err
	}
	return port.base + uint32(queue), nil
}

// maxQueues is the number of sockets that xsks holds for each port.
func (p *Program) maxQueues() int {
	return int(p.objs.Xsks.MaxEntries() / p.objs.Ports.MaxEntries())
}

// portLocked returns the port of an interface, and makes it on first use.
func (p *Program) portLocked(ifindex int) (*port, error) {
	if port := p.ports[ifindex]; port != nil {
		return port, nil
	}
	used := make(map[uint32]bool)
	for _, port := range p.ports {
		used[port.base] = true
	}
	base := uint32(0)
	for used[base] {
		base += uint32(p.maxQueues())
	}
	if base >= p.objs.Xsks.MaxEntries() {
		return nil, fmt.Errorf("xdp program: interface %d: only %d interfaces can be served", ifindex, p.objs.Ports.MaxEntries())
	}
	if err := p.objs.Ports.Put(base/uint32(p.maxQueues()), xdpPort{Ifindex: uint32(ifindex), Base: base}); err != nil {
		return nil, fmt.Errorf("xdp program: interface %d: %w", ifindex, err)
	}
	p.ports[ifindex] = &port{base: base}
	return p.ports[ifindex], nil
}
