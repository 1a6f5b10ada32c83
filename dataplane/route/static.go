package route

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"

	"github.com/fnatd/fnatd/internal/packet"
)

// A StaticPort is an interface of a Static table: networks, all on the link, and
// VLANs with their own.
type StaticPort struct {
	MAC        [6]byte
	MTU        int
	Networks   []netip.Prefix
	Neighbours map[netip.Addr][6]byte
	VLANs      []StaticVLAN
}

// A StaticVLAN is a VLAN interface on a StaticPort, whose MAC and MTU it has.
type StaticVLAN struct {
	VLANs      packet.VLANs
	Networks   []netip.Prefix
	Neighbours map[netip.Addr][6]byte
}

// Static returns a Table that follows no kernel, of the given generation: for
// tests and benchmarks of the packet path. Hops get their ids in the order of the
// neighbours' addresses.
func Static(generation uint16, ports []StaticPort) *Table {
	s := &snapshot{neighbours: make(map[neighbourKey]neighbour)}
	known := make(map[neighbourKey]neighbour)
	add := func(l link, networks []netip.Prefix, neighbours map[netip.Addr][6]byte) {
		l.index = len(s.links) + 1
		for _, n := range networks {
			s.routes = append(s.routes, kernelRoute{prefix: n, targets: []target{{link: int32(len(s.links))}}})
		}
		for a, mac := range neighbours {
			known[neighbourKey{l.index, packet.AddrFromNetip(a)}] = neighbour{mac: mac, known: true}
		}
		s.links = append(s.links, l)
	}
	for i, p := range ports {
		add(link{mac: p.MAC, mtu: p.MTU, port: int32(i)}, p.Networks, p.Neighbours)
	}
	for i, p := range ports {
		for _, v := range p.VLANs {
			add(link{mac: p.MAC, mtu: p.MTU, port: int32(i), vlans: v.VLANs}, v.Networks, v.Neighbours)
		}
	}
	t := build(s, nil, newReflected())
	byAddress := func(a, b neighbourKey) int { return bytes.Compare(a.addr[:], b.addr[:]) }
	for _, k := range slices.SortedFunc(maps.Keys(known), byAddress) {
		s.neighbours[k] = known[k]
		t = t.update(s)
	}
	t.generation = generation
	return t
}

// Reflect is Resolver.Reflect for a Static table.
func (t *Table) Reflect(port int, mac [6]byte, vlans packet.VLANs) HopID {
	return t.reflected.hop(reflectKey{port, mac, vlans})
}
