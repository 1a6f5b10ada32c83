package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Renew puts a new instance of the program in the place of the old one, on every
// interface, with the same maps: no packet meets neither. It is for after an
// interface was given queues: veth runs no program on those that it gets while one
// is attached, until the next one is. (Seen on Linux 6.18: their packets go to
// the kernel, which answers RST. The same instance again would change nothing, as
// the kernel does not tell the driver of it.)
func (p *Program) Renew() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh, err := p.another()
	if err != nil {
		return fmt.Errorf("xdp program: load again: %w", err)
	}
	old := p.objs.FnatdXdp
	p.objs.FnatdXdp = fresh
	var errs []error
	for _, port := range p.ports {
		if port.link == nil {
			continue
		}
		if err := port.link.Update(fresh); err != nil {
			errs = append(errs, fmt.Errorf("xdp program: renew on %q: %w", port.name, err))
		}
	}
	return errors.Join(append(errs, old.Close())...)
}

// another loads one more instance of the program, with the maps there are.
func (p *Program) another() (*ebpf.Program, error) {
	var objs xdpPrograms
	err := loadXdpObjects(&objs, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		xdpMapCounters: p.objs.Counters, xdpMapLocals: p.objs.Locals, xdpMapPorts: p.objs.Ports,
		xdpMapServices: p.objs.Services, xdpMapXsks: p.objs.Xsks,
	}})
	return objs.FnatdXdp, err
}
