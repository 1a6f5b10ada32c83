package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
)

// A ServiceKey is what the program knows of a service: where it listens.
type ServiceKey struct {
	Proto   uint8 // packet.ProtoTCP or packet.ProtoUDP
	Virtual packet.Endpoint
}

func (k ServiceKey) bpf() xdpServiceKey {
	return xdpServiceKey{Addr: k.Virtual.Addr, Port: k.Virtual.Port, Proto: k.Proto}
}

// LocalPorts are the ports of a local address that belong to fnatd, both ends
// included. Packets to other ports of the address are the host's.
type LocalPorts struct {
	Addr             packet.Addr
	PortMin, PortMax uint16
}

// SetServices makes the given services, and no others, those whose packets are
// redirected; nil is the guard of one that has none. A service that was there
// before and stays never misses a packet, and a guard that stays goes on counting.
func (p *Program) SetServices(services map[ServiceKey]*Guard) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	want := make(map[xdpServiceKey]uint32, 2*len(services))
	var fresh []ServiceKey // that the program will look for among the guards, once they are services
	for k, guard := range services {
		key := k.bpf()
		want[key] = 0
		if guard != nil {
			slot, err := p.setGuardLocked(k, guard)
			if err != nil {
				return fmt.Errorf("xdp program: guard of %w", err)
			}
			want[key] = slot
			if p.services.have[key] != slot {
				fresh = append(fresh, k)
			}
		}
		key.Port = 0 // fragments are matched without their port
		want[key] = 0
	}
	if err := p.services.set(want); err != nil {
		return fmt.Errorf("xdp program: services: %w", err)
	}
	for _, k := range fresh {
		if _, err := p.setGuardLocked(k, services[k]); err != nil {
			return fmt.Errorf("xdp program: guard of %w", err)
		}
	}
	if err := p.keepGuardsLocked(services); err != nil {
		return fmt.Errorf("xdp program: guards: %w", err)
	}
	return nil
}

// SetLocals makes the given local addresses, and no others, those whose packets
// are redirected, as SetServices does. An address has one range of ports; if it
// is given twice, the last one counts.
func (p *Program) SetLocals(locals []LocalPorts) error {
	want := make(map[xdpLocalKey]xdpPortRange, len(locals))
	for _, l := range locals {
		want[xdpLocalKey{Addr: l.Addr}] = xdpPortRange{Min: l.PortMin, Max: l.PortMax}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.locals.set(want); err != nil {
		return fmt.Errorf("xdp program: local addresses: %w", err)
	}
	return nil
}

// A table is a BPF hash that only we write, with its content as we know it.
type table[K, V comparable] struct {
	bpf  *ebpf.Map
	have map[K]V
}

func newTable[K, V comparable](m *ebpf.Map) table[K, V] {
	return table[K, V]{bpf: m, have: make(map[K]V)}
}

// set makes the hash hold exactly want. It adds before it removes, so that the
// hash never holds less than what old and new have in common.
func (t *table[K, V]) set(want map[K]V) error {
	for k, v := range want {
		if old, ok := t.have[k]; ok && old == v {
			continue
		}
		err := t.bpf.Put(k, v)
		if errors.Is(err, unix.E2BIG) {
			return fmt.Errorf("%d entries: the program has room for %d", len(want), t.bpf.MaxEntries())
		}
		if err != nil {
			return err
		}
		t.have[k] = v
	}
	for k := range t.have {
		if _, ok := want[k]; ok {
			continue
		}
		if err := t.bpf.Delete(k); err != nil {
			return err
		}
		delete(t.have, k)
	}
	return nil
}
