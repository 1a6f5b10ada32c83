package bpf

import (
	"errors"
	"fmt"
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
	fresh, err := p.another(0)
	if err != nil {
		return fmt.Errorf("xdp program: load again: %w", err)
	}
	old, oldMulti := p.objs.FnatdXdp, p.multi
	p.objs.FnatdXdp, p.multi = fresh, nil // the other one is loaded again when it is needed
	var errs []error
	for _, port := range p.ports {
		if port.link == nil {
			continue
		}
		if err := p.use(port, port.link.Update); err != nil {
			errs = append(errs, fmt.Errorf("xdp program: renew on %q: %w", port.name, err))
		}
		p.pinMapsLocked(port)
	}
	errs = append(errs, p.pins.pruneMaps(p.linksLocked()))
	return errors.Join(append(errs, old.Close(), oldMulti.Close())...)
}
