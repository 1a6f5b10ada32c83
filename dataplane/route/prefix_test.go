package route

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// longest is the definition that prefixTable must agree with.
func longest(prefixes map[netip.Prefix]int32, a packet.Addr) int32 {
	best, bits := int32(none), -1
	for p, value := range prefixes {
		if p.Addr().Is4() {
			p = netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
		}
		if p.Bits() > bits && p.Contains(netip.AddrFrom16(a).WithZone("")) {
			best, bits = value, p.Bits()
		}
	}
	return best
}

func TestPrefixTableAgreesWithTheLongestMatch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		prefixes := make(map[netip.Prefix]int32)
		var entries []entry
		var probes []packet.Addr
		for i := range rnd.IntN(60) {
			p := randomPrefix(rnd)
			if _, ok := prefixes[p]; ok {
				continue
			}
			value := int32(i % 7)
			if value == 6 {
				value = none
			}
			prefixes[p] = value
			e := entryOf(p, value)
			entries = append(entries, e)
			// Both ends of the prefix and their neighbours outside.
			end := e.first.last(e.bits)
			for _, k := range []key{e.first, end, end.next(), {e.first.hi, e.first.lo - 1}} {
				probes = append(probes, addrOfKey(k))
			}
		}
		table := newPrefixTable(entries)
		for range 20 {
			probes = append(probes, packet.AddrFromNetip(randomPrefix(rnd).Addr()))
		}
		for _, a := range probes {
			if got, want := table.lookup(&a), longest(prefixes, a); got != want {
				t.Fatalf("%v among %v: got %d, want %d", a, prefixes, got, want)
			}
		}
	}
}

// randomPrefix returns a prefix of either family, crowded enough to nest.
func randomPrefix(rnd *rand.Rand) netip.Prefix {
	if rnd.IntN(2) == 0 {
		a := [4]byte{byte(rnd.IntN(2)) * 255, byte(rnd.IntN(2)), 0, byte(rnd.IntN(256))}
		return netip.PrefixFrom(netip.AddrFrom4(a), rnd.IntN(33)).Masked()
	}
	var a [16]byte
	a[0], a[7], a[8], a[15] = byte(rnd.IntN(2))*255, byte(rnd.IntN(3)), byte(rnd.IntN(3)), byte(rnd.IntN(256))
	return netip.PrefixFrom(netip.AddrFrom16(a), rnd.IntN(129)).Masked()
}

func addrOfKey(k key) (a packet.Addr) {
	for i := range 8 {
		a[i], a[8+i] = byte(k.hi>>(56-8*i)), byte(k.lo>>(56-8*i))
	}
	return a
}

func TestPrefixTableOfNothing(t *testing.T) {
	var zero prefixTable
	if got := zero.lookup(&packet.Addr{}); got != none {
		t.Errorf("zero table: got %d, want %d", got, none)
	}
	empty := newPrefixTable(nil)
	somewhere := addrOfKey(key{1, 2})
	if got := empty.lookup(&somewhere); got != none {
		t.Errorf("empty table: got %d, want %d", got, none)
	}
}

func TestPrefixTableMergesEqualNeighbours(t *testing.T) {
	entries := []entry{
		entryOf(netip.MustParsePrefix("10.0.0.0/9"), 1),
		entryOf(netip.MustParsePrefix("10.128.0.0/9"), 1),
		entryOf(netip.MustParsePrefix("10.3.0.0/16"), 1),
	}
	table := newPrefixTable(entries)
	if got := len(table.starts); got != 3 { // before, within, after
		t.Errorf("got %d ranges, want 3", got)
	}
}

func BenchmarkPrefixTableLookup(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := make(map[netip.Prefix]bool)
	var entries []entry
	for len(entries) < 100_000 {
		a := rnd.Uint32()
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a), byte(a >> 8), byte(a >> 16)}), 24)
		if !seen[p] {
			seen[p] = true
			entries = append(entries, entryOf(p, int32(len(entries))))
		}
	}
	table := newPrefixTable(entries)
	dst := packet.AddrFrom4([]byte{10, 1, 2, 3})
	for b.Loop() {
		dst[13] += 17
		dst[14] += 31
		table.lookup(&dst)
	}
}
