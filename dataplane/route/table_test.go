package route

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
)

func addr(s string) packet.Addr { return packet.AddrFromNetip(netip.MustParseAddr(s)) }

// direct is a route to what is on the link.
func direct(p string, link int32) kernelRoute {
	return kernelRoute{prefix: netip.MustParsePrefix(p), targets: []target{{link: link}}}
}

// via is a route through gateways, all on one link.
func via(p string, link int32, gateways ...string) kernelRoute {
	r := kernelRoute{prefix: netip.MustParsePrefix(p)}
	for _, g := range gateways {
		r.targets = append(r.targets, target{gateway: addr(g), link: link})
	}
	return r
}

// nowhere is a route that leads through no port.
func nowhere(p string) kernelRoute { return kernelRoute{prefix: netip.MustParsePrefix(p)} }

// mac is the address of the n-th station.
func mac(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, n} }

// twoPorts returns a snapshot of eth0 (index 7, 10.0.0.0/24) and eth1 (index 8,
// 10.1.0.0/24 and 2001:db8::/64).
func twoPorts(routes ...kernelRoute) *snapshot {
	return &snapshot{
		links: []link{
			{name: "eth0", index: 7, mac: mac(100), mtu: 1500, port: 0},
			{name: "eth1", index: 8, mac: mac(101), mtu: 9000, port: 1},
		},
		own: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.1")},
		routes: append([]kernelRoute{
			direct("10.0.0.0/24", 0), direct("10.1.0.0/24", 1), direct("2001:db8::/64", 1),
		}, routes...),
		neighbours: map[neighbourKey]neighbour{},
	}
}

func (s *snapshot) with(index int, ip string, mac [6]byte) *snapshot {
	s.neighbours[neighbourKey{index, addr(ip)}] = neighbour{mac: mac, known: true}
	return s
}

func TestLookup(t *testing.T) {
	s := twoPorts(
		via("0.0.0.0/0", 0, "10.0.0.254"),
		via("172.16.0.0/12", 1, "10.1.0.254"),
		via("172.16.5.0/24", 0, "10.0.0.254"),
		nowhere("192.0.2.0/24"),
		via("224.0.0.0/8", 0, "10.0.0.254"),
	).with(7, "10.0.0.254", mac(1)).with(8, "10.1.0.9", mac(2)).with(8, "2001:db8::9", mac(3)).
		with(8, "10.0.0.77", mac(4)) // a neighbour where the route does not lead
	table := build(s, nil, newReflected())
	gateway := Hop{Port: 0, Dst: mac(1), Src: mac(100), MTU: 1500, PlainMTU: 1500, Gateway: addr("10.0.0.254"), Resolved: true}
	for _, c := range []struct {
		name string
		dst  string
		want Hop
	}{
		{"default_route", "8.8.8.8", gateway},
		{"longest_prefix_wins", "172.16.5.1", gateway},
		{"gateway_not_resolved", "172.16.6.1", Hop{Port: 1, Src: mac(101), MTU: 9000, Gateway: addr("10.1.0.254")}},
		{"neighbour_on_link", "10.1.0.9", Hop{Port: 1, Dst: mac(2), Src: mac(101), MTU: 9000, PlainMTU: 9000, Gateway: addr("10.1.0.9"), Resolved: true}},
		{"neighbour_on_link_ipv6", "2001:db8::9", Hop{Port: 1, Dst: mac(3), Src: mac(101), MTU: 9000, PlainMTU: 9000, Gateway: addr("2001:db8::9"), Resolved: true}},
		{"unknown_neighbour_on_link", "10.1.0.10", Hop{Port: 1, Src: mac(101), MTU: 9000}},
		{"neighbour_on_the_wrong_link", "10.0.0.77", Hop{Port: 0, Src: mac(100), MTU: 1500}},
		{"route_that_leads_nowhere_hides_the_default", "192.0.2.1", Hop{}},
		{"own_address", "10.1.0.1", Hop{}},
		{"ipv6_without_a_route", "2001:db8:1::1", Hop{}},
		{"loopback", "127.0.0.1", Hop{}},
		{"multicast_despite_a_route", "224.0.0.1", Hop{}},
		{"broadcast", "255.255.255.255", Hop{}},
		{"unspecified", "0.0.0.0", Hop{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := table.Lookup(addr(c.dst))
			if (id == 0) != (c.want == Hop{}) {
				t.Errorf("got id %d for %+v", id, c.want)
			}
			if diff := cmp.Diff(*table.Hop(id), c.want); diff != "" {
				t.Errorf("got - want +:\n%s", diff)
			}
		})
	}
}

func TestLookupOfIPv4NeverTakesAnIPv6Route(t *testing.T) {
	table := build(twoPorts(via("::/0", 1, "2001:db8::1")), nil, newReflected())
	if id := table.Lookup(addr("8.8.8.8")); id != 0 {
		t.Errorf("got %+v, want no hop", table.Hop(id))
	}
	if id := table.Lookup(addr("2001:db8:1::1")); id == 0 {
		t.Error("IPv6: got no hop")
	}
}

func TestLookupPrefersTheLowerMetric(t *testing.T) {
	worse := via("0.0.0.0/0", 0, "10.0.0.254")
	worse.metric = 100
	better := via("0.0.0.0/0", 1, "10.1.0.254")
	better.metric = 50
	for _, s := range []*snapshot{twoPorts(worse, better), twoPorts(better, worse)} {
		table := build(s, nil, newReflected())
		if got := table.Hop(table.Lookup(addr("8.8.8.8"))).Port; got != 1 {
			t.Errorf("got port %d, want 1", got)
		}
	}
}

func TestMultipathSpreadsDestinationsAndKeepsEach(t *testing.T) {
	s := twoPorts(via("0.0.0.0/0", 0, "10.0.0.251", "10.0.0.252", "10.0.0.252", "10.0.0.252"))
	table := build(s, nil, newReflected())
	count := map[packet.Addr]int{}
	for i := range 4000 {
		dst := addr("8.0.0.0")
		binary.BigEndian.PutUint16(dst[14:], uint16(i))
		id := table.Lookup(dst)
		if again := table.Lookup(dst); again != id {
			t.Fatalf("%v: hop %d, then %d", dst, id, again)
		}
		count[table.Hop(id).Gateway]++
	}
	// 1 to 3 by weight.
	if got := count[addr("10.0.0.251")]; got < 800 || got > 1200 {
		t.Errorf("the lighter way got %d of 4000, want about 1000", got)
	}
}

func TestHopMTUIsTheSmallerOne(t *testing.T) {
	r := via("0.0.0.0/0", 0, "10.0.0.254")
	r.targets[0].mtu = 1400
	onLink := direct("10.0.0.0/28", 0)
	onLink.targets[0].mtu = 1300
	s := twoPorts(r, onLink, via("172.16.0.0/12", 0, "10.0.0.254")).
		with(7, "10.0.0.254", mac(1)).with(7, "10.0.0.5", mac(2))
	table := build(s, nil, newReflected())
	for _, c := range []struct {
		dst  string
		want int
	}{{"8.8.8.8", 1400}, {"10.0.0.5", 1300}, {"172.16.0.1", 1500}} {
		h := table.Hop(table.Lookup(addr(c.dst)))
		if h.MTU != c.want || !h.Resolved {
			t.Errorf("%s: got MTU %d, resolved %v; want %d, true", c.dst, h.MTU, h.Resolved, c.want)
		}
	}
}

func TestGeneration(t *testing.T) {
	base := func() *snapshot { return twoPorts(via("0.0.0.0/0", 0, "10.0.0.254")) }
	first := build(base().with(7, "10.0.0.9", mac(1)), nil, newReflected())
	id, gateway := first.Lookup(addr("10.0.0.9")), first.Lookup(addr("8.8.8.8"))
	if first.Generation() == 0 {
		t.Error("the first generation is 0")
	}

	t.Run("stays_when_a_neighbour_comes_changes_or_goes", func(t *testing.T) {
		table := first
		for _, s := range []*snapshot{
			base().with(7, "10.0.0.9", mac(1)).with(7, "10.0.0.5", mac(2)),
			base().with(7, "10.0.0.9", mac(3)).with(7, "10.0.0.254", mac(4)),
			base(),
		} {
			table = table.update(s)
			if table.Generation() != first.Generation() {
				t.Fatalf("got %d, want %d", table.Generation(), first.Generation())
			}
			if got := table.Lookup(addr("10.0.0.9")); got != id {
				t.Errorf("the neighbour's id: got %d, want %d", got, id)
			}
			if got := table.Lookup(addr("8.8.8.8")); got != gateway {
				t.Errorf("the gateway's id: got %d, want %d", got, gateway)
			}
		}
		if table.Hop(id).Resolved {
			t.Error("a neighbour that has gone is still resolved")
		}
		if !first.Hop(id).Resolved {
			t.Error("an older table has changed")
		}
	})
	t.Run("stays_when_the_same_routes_are_read_again", func(t *testing.T) {
		if got := build(base(), first, first.reflected).Generation(); got != first.Generation() {
			t.Errorf("got %d, want %d", got, first.Generation())
		}
	})
	for name, s := range map[string]*snapshot{
		"changes_with_a_gateway":     twoPorts(via("0.0.0.0/0", 0, "10.0.0.253")),
		"changes_with_a_new_route":   twoPorts(via("0.0.0.0/0", 0, "10.0.0.254"), via("172.16.0.0/12", 1, "10.1.0.254")),
		"changes_with_a_lost_route":  twoPorts(),
		"changes_with_a_port's_link": func() *snapshot { s := base(); s.links[1].index = 9; return s }(),
		"changes_with_own_addresses": func() *snapshot { s := base(); s.own = s.own[:1]; return s }(),
	} {
		t.Run(name, func(t *testing.T) {
			if got := build(s, first, first.reflected).Generation(); got == first.Generation() {
				t.Errorf("still %d", got)
			}
		})
	}
	t.Run("is_never_zero", func(t *testing.T) {
		last := &Table{generation: 0xffff}
		if got := build(base(), last, newReflected()).Generation(); got != 1 {
			t.Errorf("after 65535: got %d, want 1", got)
		}
	})
}

func TestPortThatHasGoneLeadsNowhere(t *testing.T) {
	s := twoPorts()
	s.links[1] = link{name: "eth1", port: 1}
	s.routes = s.routes[:1]
	table := build(s, nil, newReflected())
	if id := table.Lookup(addr("10.1.0.9")); id != 0 {
		t.Errorf("got %+v, want no hop", table.Hop(id))
	}
}

func TestMoreNeighboursThanIDs(t *testing.T) {
	s := twoPorts(direct("10.8.0.0/13", 0))
	nth := func(i int) packet.Addr {
		a := addr("10.8.0.0")
		binary.BigEndian.PutUint32(a[12:], binary.BigEndian.Uint32(a[12:])+uint32(i))
		return a
	}
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			s.neighbours[neighbourKey{7, nth(i)}] = neighbour{mac: mac(1), known: true}
		}
	}
	resolved := func(table *Table, from, to int) (n int) {
		for i := from; i < to; i++ {
			id := table.Lookup(nth(i))
			if id == 0 || id.Reflected() {
				t.Fatalf("%v: got id %d", nth(i), id)
			}
			if table.Hop(id).Resolved {
				n++
			}
		}
		return n
	}
	fill(0, 40_000)
	first := build(s, nil, newReflected())
	clear(s.neighbours)
	fill(40_000, 80_000)
	second := first.update(s)
	t.Run("those_that_are_gone_make_room_in_a_new_generation", func(t *testing.T) {
		if first.Generation() == second.Generation() {
			t.Error("ids were reused in one generation")
		}
		if got := resolved(second, 40_000, 80_000); got != 40_000 {
			t.Errorf("got %d resolved, want 40000", got)
		}
	})
	t.Run("those_that_find_no_room_are_not_resolved", func(t *testing.T) {
		fill(0, 80_000)
		third := second.update(s)
		// Id 0 is no hop, and each port has an unresolved one.
		if got, want := resolved(third, 0, 80_000), int(firstReflected)-3; got != want {
			t.Errorf("got %d resolved, want %d", got, want)
		}
	})
}

func TestHopOfAnUnknownIDIsNotResolved(t *testing.T) {
	table := build(twoPorts(), nil, newReflected())
	for _, id := range []HopID{0, 5000, firstReflected, 0xffff} {
		if h := table.Hop(id); h.Resolved {
			t.Errorf("%d: got %+v", id, h)
		}
	}
}

func TestReflect(t *testing.T) {
	r := &Resolver{reflected: newReflected()}
	s := twoPorts()
	r.table.Store(build(s, nil, r.reflected))
	id := r.Reflect(1, mac(9), packet.VLANs{})
	want := Hop{Dst: mac(9), Src: mac(101), Port: 1, MTU: 9000, PlainMTU: 9000, Resolved: true}
	if diff := cmp.Diff(*r.Table().Hop(id), want); diff != "" || !id.Reflected() {
		t.Errorf("id %d: got - want +:\n%s", id, diff)
	}
	t.Run("same_station_same_id", func(t *testing.T) {
		if got := r.Reflect(1, mac(9), packet.VLANs{}); got != id {
			t.Errorf("got %d, want %d", got, id)
		}
		if got := r.Reflect(0, mac(9), packet.VLANs{}); got == id {
			t.Error("the other port has the same id")
		}
	})
	t.Run("group_addresses_are_refused", func(t *testing.T) {
		for _, m := range [][6]byte{{}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}} {
			if got := r.Reflect(0, m, packet.VLANs{}); got != 0 {
				t.Errorf("%x: got %d, want 0", m, got)
			}
		}
	})
	t.Run("follows_the_link_over_generations", func(t *testing.T) {
		s := twoPorts(via("0.0.0.0/0", 0, "10.0.0.254"))
		s.links[1].mac, s.links[1].mtu = mac(55), 1400
		r.table.Store(build(s, r.Table(), r.reflected))
		h := r.Table().Hop(id)
		if h.Src != mac(55) || h.MTU != 1400 || h.Dst != mac(9) {
			t.Errorf("got %+v", h)
		}
	})
	t.Run("no_more_than_1024", func(t *testing.T) {
		given := 0
		for i := range 2000 {
			if r.Reflect(0, [6]byte{2, 1, 0, 0, byte(i >> 8), byte(i)}, packet.VLANs{}) != 0 {
				given++
			}
		}
		if got, want := given, maxReflected-2; got != want {
			t.Errorf("got %d more, want %d", got, want)
		}
		if got := r.Reflect(1, mac(9), packet.VLANs{}); got != id {
			t.Errorf("a known station: got %d, want %d", got, id)
		}
	})
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	r := &Resolver{reflected: newReflected(), wants: make(chan packet.Addr, 1)}
	s := twoPorts(via("0.0.0.0/0", 0, "10.0.0.251", "10.0.0.252")).with(8, "10.1.0.9", mac(2))
	r.table.Store(build(s, nil, r.reflected))
	r.Reflect(0, mac(9), packet.VLANs{})
	dsts := []packet.Addr{addr("8.8.8.8"), addr("10.1.0.9"), addr("10.1.0.10"), addr("2001:db8::9"), addr("2001::1")}
	for name, f := range map[string]func(){
		"lookup":  func() { r.Table().Hop(r.Table().Lookup(dsts[0])) },
		"use":     func() { r.Use(7) },
		"reflect": func() { r.Table().Hop(r.Reflect(0, mac(9), packet.VLANs{})) },
		"want": func() {
			for _, d := range dsts {
				r.Table().Lookup(d)
				r.Want(d)
			}
		},
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: got %v allocations, want 0", name, got)
		}
	}
}
