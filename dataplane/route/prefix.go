package route

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/fnatd/fnatd/internal/packet"
)

// none is the value of an address that no prefix covers, or whose longest prefix
// leads nowhere.
const none = -1

// A prefixTable maps every address to the value of the longest prefix that covers
// it. The prefixes are flattened into ranges that do not overlap, so that a lookup
// is one binary search in a flat array, whatever the lengths of the prefixes.
// IPv4 lives in ::ffff:0:0/96.
type prefixTable struct {
	starts []key   // first address of each range, ascending; the first is 0
	values []int32 // of each range
}

// A key is an address as a number of 128 bits.
type key struct{ hi, lo uint64 }

func keyOf(a *packet.Addr) key {
	return key{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
}

func (k key) compare(l key) int {
	if c := cmp.Compare(k.hi, l.hi); c != 0 {
		return c
	}
	return cmp.Compare(k.lo, l.lo)
}

// next returns k+1. After the last address comes the first.
func (k key) next() key {
	k.lo++
	if k.lo == 0 {
		k.hi++
	}
	return k
}

// last returns the last address of the prefix of that many bits that begins at k.
func (k key) last(bits int) key {
	if bits < 64 {
		return key{k.hi | ^uint64(0)>>bits, ^uint64(0)}
	}
	return key{k.hi, k.lo | ^uint64(0)>>(bits-64)} // a shift by 64 leaves 0
}

// lookup returns the value for a. The zero prefixTable has none for every address.
func (t *prefixTable) lookup(a *packet.Addr) int32 {
	k := keyOf(a)
	first, n := 0, len(t.starts) // those that it may be in
	for n > 1 {
		half := n / 2
		if s := &t.starts[first+half]; s.hi < k.hi || s.hi == k.hi && s.lo <= k.lo {
			first += half
		}
		n -= half
	}
	if n == 0 {
		return none
	}
	return t.values[first]
}

// An entry is a prefix of the table to be built.
type entry struct {
	first key
	bits  int // of 128
	value int32
}

// newPrefixTable flattens entries, which hold no prefix twice and are sorted in
// place.
func newPrefixTable(entries []entry) prefixTable {
	slices.SortFunc(entries, func(a, b entry) int {
		if c := a.first.compare(b.first); c != 0 {
			return c
		}
		return cmp.Compare(a.bits, b.bits)
	})
	type open struct {
		last  key
		value int32
	}
	var t prefixTable
	// Prefixes nest or are disjoint: the ones that are open form a stack, the
	// longest on top.
	stack := []open{{key{^uint64(0), ^uint64(0)}, none}}
	t.begin(key{}, none)
	closeTop := func() {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if after := top.last.next(); after != (key{}) {
			t.begin(after, stack[len(stack)-1].value)
		}
	}
	for _, e := range entries {
		for stack[len(stack)-1].last.compare(e.first) < 0 {
			closeTop()
		}
		stack = append(stack, open{e.first.last(e.bits), e.value})
		t.begin(e.first, e.value)
	}
	for len(stack) > 1 {
		closeTop()
	}
	return t
}

// begin adds a range, which ends the one before it. A range that begins where the
// last one did takes its place; one with the same value continues it.
func (t *prefixTable) begin(at key, value int32) {
	if n := len(t.starts); n > 0 && t.starts[n-1] == at {
		t.starts, t.values = t.starts[:n-1], t.values[:n-1]
	}
	if n := len(t.values); n > 0 && t.values[n-1] == value {
		return
	}
	t.starts = append(t.starts, at)
	t.values = append(t.values, value)
}

func (t *prefixTable) equal(u *prefixTable) bool {
	return slices.Equal(t.starts, u.starts) && slices.Equal(t.values, u.values)
}
