package route

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/fnatd/fnatd/internal/packet"
)

// A snapshot is what the kernel knows, in our words.
type snapshot struct {
	links      []link // the interfaces that fnatd serves, by port, and the VLANs on them
	own        []netip.Addr
	routes     []kernelRoute
	neighbours map[neighbourKey]neighbour
}

// A link is an Ethernet interface by which packets leave: one that fnatd serves,
// or a VLAN interface stacked on one. One that is served and does not exist at the
// moment has index 0.
type link struct {
	name  string
	index int
	mac   [6]byte
	mtu   int
	port  int32        // the served interface, which is itself or far below
	vlans packet.VLANs // that the frames are in
}

// positions returns where in links each interface is, by its index.
func (s *snapshot) positions() map[int]int32 {
	at := make(map[int]int32, len(s.links))
	for i, l := range s.links {
		if l.index != 0 {
			at[l.index] = int32(i)
		}
	}
	return at
}

// A kernelRoute is a route of the main table. One without targets leads nowhere
// through the links: it is of another type or another interface, and still hides
// shorter prefixes.
type kernelRoute struct {
	prefix  netip.Prefix
	metric  int
	targets []target
}

type neighbourKey struct {
	index int // of the interface
	addr  packet.Addr
}

func (k neighbourKey) compare(o neighbourKey) int {
	return cmp.Or(cmp.Compare(k.index, o.index), bytes.Compare(k.addr[:], o.addr[:]))
}

// A neighbour is an entry of the kernel's neighbour table. The zero neighbour is
// one without an Ethernet address, being resolved or given up.
type neighbour struct {
	mac   [6]byte
	known bool // mac is
	// static neighbours were entered by the operator. The kernel does not probe
	// them and must not be asked to: NTF_USE would take their permanence away.
	static bool
}

// martians are destinations that no packet may be forwarded to (RFC 1812, section
// 5.3.7; RFC 4291, section 2.7), whatever the routes say. A client may well use
// one as its source address.
var martians = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("ff00::/8"),
}

// default4 is all of IPv4, which lies within IPv6 here (RFC 4291, section 2.5.5.2).
// Without a route it leads nowhere, lest an IPv4 packet take the IPv6 default route.
var default4 = netip.MustParsePrefix("0.0.0.0/0")

// build makes the table of s. Its generation and ids are those of prev, which may
// be nil, if the routes lead where they led before.
func build(s *snapshot, prev *Table, r *reflected) *Table {
	t := &Table{generation: 1, links: s.links, reflected: r}
	t.addRoutes(s)
	r.follow(s.links)
	if prev != nil {
		if t.leadsLike(prev) {
			return prev.update(s)
		}
		t.generation = max(prev.generation+1, 1) // 0 is a connection's "never looked up"
	}
	t.ids.grow()
	t.unresolved = make([]HopID, len(s.links))
	for i := range s.links {
		t.unresolved[i] = t.intern(hopKey{link: int32(i)})
	}
	for _, group := range t.groups {
		for i, to := range group {
			if to.gateway != (packet.Addr{}) {
				group[i].hop = t.intern(hopKey{to.gateway, to.link, to.mtu})
			}
		}
	}
	for id := 1 + len(s.links); id < len(t.keys); id++ {
		t.gateways = append(t.gateways, HopID(id))
	}
	t.addNeighbours(s)
	t.fill(s)
	return t
}

// update returns t after links or neighbours, but no routes, have changed.
func (t *Table) update(s *snapshot) *Table {
	u := *t
	u.links = s.links
	u.ids = t.ids.clone()
	if !u.addNeighbours(s) {
		// No id is left. A new generation forgets the neighbours that are gone.
		return build(s, &Table{generation: t.generation}, t.reflected)
	}
	u.fill(s)
	return &u
}

// addRoutes makes prefixes and groups.
func (t *Table) addRoutes(s *snapshot) {
	best := make(map[netip.Prefix]*kernelRoute, len(s.routes))
	for i := range s.routes {
		r := &s.routes[i]
		// The first of equal metric is the one that the kernel uses.
		if b, ok := best[r.prefix]; !ok || r.metric < b.metric {
			best[r.prefix] = r
		}
	}
	nowhere := &kernelRoute{}
	for _, a := range s.own {
		best[netip.PrefixFrom(a, a.BitLen())] = nowhere
	}
	maps.DeleteFunc(best, func(p netip.Prefix, _ *kernelRoute) bool {
		return slices.ContainsFunc(martians, func(m netip.Prefix) bool {
			return m.Bits() <= p.Bits() && m.Contains(p.Addr())
		})
	})
	if best[default4] == nil {
		best[default4] = nowhere
	}
	entries := make([]entry, 0, len(best)+len(martians))
	for _, p := range martians {
		entries = append(entries, entryOf(p, none))
	}
	// In order, so that the same routes give the same groups.
	groups := make(map[target]int32)
	for _, p := range slices.SortedFunc(maps.Keys(best), netip.Prefix.Compare) {
		entries = append(entries, entryOf(p, t.group(best[p].targets, groups)))
	}
	t.prefixes = newPrefixTable(entries)
}

// group returns the index of a group of these targets. Routes that lead the same
// way share one: thousands of prefixes through a few gateways become few ranges.
func (t *Table) group(targets []target, known map[target]int32) int32 {
	if len(targets) == 0 {
		return none
	}
	if i, ok := known[targets[0]]; ok && len(targets) == 1 {
		return i
	}
	i := int32(len(t.groups))
	t.groups = append(t.groups, slices.Clone(targets))
	if len(targets) == 1 {
		known[targets[0]] = i
	}
	return i
}

func entryOf(p netip.Prefix, value int32) entry {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	first := packet.AddrFromNetip(p.Masked().Addr())
	return entry{keyOf(&first), bits, value}
}

// leadsLike reports whether every destination goes the same way by t and by u.
func (t *Table) leadsLike(u *Table) bool {
	same := func(a, b link) bool { return a.index == b.index && a.port == b.port && a.vlans == b.vlans }
	sameWay := func(a, b target) bool { return a.gateway == b.gateway && a.link == b.link && a.mtu == b.mtu }
	return slices.EqualFunc(t.links, u.links, same) && t.prefixes.equal(&u.prefixes) &&
		slices.EqualFunc(t.groups, u.groups, func(a, b []target) bool { return slices.EqualFunc(a, b, sameWay) })
}

// addNeighbours gives an id to every neighbour that is the next hop of its own
// address, the same to each in every table with the same neighbours. It reports
// false if there are too few.
func (t *Table) addNeighbours(s *snapshot) bool {
	at := s.positions()
	for _, k := range slices.SortedFunc(maps.Keys(s.neighbours), neighbourKey.compare) {
		link, ours := at[k.index]
		if !ours || !s.neighbours[k].known {
			continue
		}
		hop, ok := t.neighbour(k.addr)
		if ok && hop.addr == k.addr && hop.link == link && t.intern(hop) == 0 {
			return false
		}
	}
	return true
}

// fill makes the hops of all keys.
func (t *Table) fill(s *snapshot) {
	t.hops = make([]Hop, len(t.keys))
	for id := 1; id < len(t.keys); id++ {
		k := t.keys[id]
		l := &s.links[k.link]
		h := &t.hops[id]
		*h = Hop{Port: int(l.port), Src: l.mac, VLANs: l.vlans, MTU: l.mtu, Gateway: k.addr}
		if k.mtu > 0 {
			h.MTU = min(h.MTU, int(k.mtu))
		}
		n := s.neighbours[neighbourKey{l.index, k.addr}]
		h.Dst, h.Resolved = n.mac, n.known
		h.setPlainMTU()
	}
}
