// Package route finds the next hop of a packet that never meets the kernel's
// stack. A Resolver follows the kernel's links, addresses, routes and neighbours
// and publishes them as an immutable Table; Addresses puts VIPs and LIPs on the
// interfaces. The kernel stays the one that resolves: this package asks it to,
// and sends nothing itself but announcements of addresses.
//
// It consults the main routing table. Policy rules, other tables and routes with
// an encapsulation lead nowhere.
package route

import (
	"github.com/fnatd/fnatd/internal/packet"
)

// A HopID names a Hop. It means the same in every Table of one generation; 0 is
// no hop. Ids of reflected hops mean the same in all Tables of a Resolver.
type HopID uint16

// Our choices.
const (
	// maxReflected bounds the MAC addresses that may be reflected: routers on the
	// client's side, of which there are two as a rule. The bound keeps a neighbour
	// that invents addresses from filling memory.
	maxReflected = 1024
	// firstReflected is the id of the first reflected hop; below are the hops that
	// routes lead to.
	firstReflected HopID = 1<<16 - maxReflected
)

// Reflected reports whether id was given out by Resolver.Reflect. Such an id
// outlives changes of the generation.
func (id HopID) Reflected() bool { return id >= firstReflected }

// A Hop is where a frame goes next. It is not changed once published.
type Hop struct {
	Dst, Src [6]byte      // Ethernet addresses; Dst is of use only if Resolved
	VLANs    packet.VLANs // whose tags the frame gets
	PlainMTU int32        // MTU, if Resolved and the frame gets no tags, or 0
	Port     int          // position in the list of interfaces given to Open
	MTU      int          // longest IP datagram, bytes
	Gateway  packet.Addr  // the neighbour: gateway, or the destination itself; zero if unknown
	Resolved bool         // the neighbour's Ethernet address is known
}

func (h *Hop) setPlainMTU() {
	if h.Resolved && h.VLANs[0].Type == 0 {
		h.PlainMTU = int32(h.MTU)
	}
}

// A Table is the routes and neighbours at one moment. It is immutable, and may
// be read by any number of goroutines.
type Table struct {
	generation uint16
	links      []link
	prefixes   prefixTable // address → index of groups
	groups     [][]target  // what a route leads to; several for a multipath route
	ids
	hops       []Hop // by HopID; 0 is no hop
	gateways   []HopID
	unresolved []HopID // by link: the hop of a neighbour not known yet
	reflected  *reflected
}

// A hopKey is what makes two hops the same.
type hopKey struct {
	addr packet.Addr // the neighbour; zero in a link's unresolved hop
	link int32
	mtu  int32 // the route's; 0 is the interface's
}

// A target is one way out of a route.
type target struct {
	gateway packet.Addr // zero if the destination is on the link
	link    int32
	mtu     int32 // the route's; 0 is the interface's
	hop     HopID // of the gateway; set by build
}

// Generation changes whenever a HopID may mean something else than before, or a
// destination may have another hop: when routes, own addresses or links change.
// It is never 0. When only a neighbour changes it stays, and so do the ids.
func (t *Table) Generation() uint16 { return t.generation }

// Lookup returns the hop towards dst, by the longest matching prefix; of a
// multipath route always the same one for the same dst. It is 0 if no route leads
// through the interfaces, or dst is the host's own address. An on-link
// destination whose neighbour is not known has an unresolved hop, that of its
// interface: ask with Resolver.Want, and look up again.
func (t *Table) Lookup(dst packet.Addr) HopID {
	to := t.target(&dst)
	if to == nil {
		return 0
	}
	if to.gateway != (packet.Addr{}) {
		return to.hop
	}
	if id := t.find(&hopKey{dst, to.link, to.mtu}); id != 0 {
		return id
	}
	return t.unresolved[to.link]
}

// Hop returns the hop of an id, or one that is not resolved if there is none in
// this table. The worker that made the id may have seen a later table.
func (t *Table) Hop(id HopID) *Hop {
	if id >= firstReflected {
		if h := t.reflected.hops[id-firstReflected].Load(); h != nil {
			return h
		}
	} else if int(id) < len(t.hops) {
		return &t.hops[id]
	}
	return &t.hops[0]
}

// target returns the way out towards dst, or nil.
func (t *Table) target(dst *packet.Addr) *target {
	i := t.prefixes.lookup(dst)
	if i < 0 {
		return nil
	}
	group := t.groups[i]
	if len(group) == 1 {
		return &group[0]
	}
	// The constant is 2^64 divided by the golden ratio (Knuth, volume 3, section
	// 6.4). Its high bits depend on all bits of the address.
	k := keyOf(dst)
	hash := (k.hi*31 ^ k.lo) * 0x9e3779b97f4a7c15 >> 32
	return &group[hash*uint64(len(group))>>32]
}

// neighbour returns the neighbour that a packet to dst needs, and its port.
func (t *Table) neighbour(dst packet.Addr) (hopKey, bool) {
	to := t.target(&dst)
	switch {
	case to == nil:
		return hopKey{}, false
	case to.gateway != (packet.Addr{}):
		return hopKey{to.gateway, to.link, to.mtu}, true
	default:
		return hopKey{dst, to.link, to.mtu}, true
	}
}
