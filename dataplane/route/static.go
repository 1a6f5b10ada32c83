package route

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fnatd/fnatd/internal/packet"
)

// A StaticPort is an interface of a Static table: networks, all on the link.
type StaticPort struct {
	MAC        [6]byte
	MTU        int
	Networks   []netip.Prefix
	Neighbours map[netip.Addr][6]byte
}

// Static returns a Table that follows no kernel, of the given generation: for
// tests and benchmarks of the packet path.
func Static(generation uint16, ports []StaticPort) *Table {
	s := &snapshot{neighbours: make(map[neighbourKey]neighbour)}
	for i, p := range ports {
		index := i + 1
		s.ports = append(s.ports, port{index: index, mac: p.MAC, mtu: p.MTU})
		for _, n := range p.Networks {
			s.routes = append(s.routes, kernelRoute{prefix: n, targets: []target{{port: int32(i)}}})
		}
	}
	t := build(s, nil, newReflected())
	// One by one, so that the same neighbours get the same ids.
	for i, p := range ports {
		for _, a := range slices.SortedFunc(maps.Keys(p.Neighbours), netip.Addr.Compare) {
			s.neighbours[neighbourKey{i + 1, packet.AddrFromNetip(a)}] = neighbour{mac: p.Neighbours[a], known: true}
			t = t.update(s)
		}
	}
	t.generation = generation
	return t
}

// Reflect is Resolver.Reflect for a Static table.
func (t *Table) Reflect(port int, mac [6]byte) HopID {
	return t.reflected.hop(reflectKey{port, mac})
}
