package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// ShedMemory is how many bytes RememberShed takes.
const ShedMemory = 8 << 20

// RememberShed has the program remember for one to two seconds which SYNs it has shed: one
// that comes again has a budget of its own.
func (p *Program) RememberShed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	spec, err := loadXdp()
	if err != nil {
		return err
	}
	lines, err := ebpf.NewMap(spec.Maps[xdpMapAgain].InnerMap)
	if err == nil {
		err = errors.Join(p.objs.Again.Put(uint32(0), lines), lines.Close()) // the program has it
	}
	if err != nil {
		return fmt.Errorf("xdp program: memory of shed SYNs: %w", err)
	}
	return nil
}
