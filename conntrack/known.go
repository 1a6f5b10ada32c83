package conntrack

import (
	"math/bits"
	"slices"

	"github.com/fnatd/fnatd/internal/siphash"
)

// Whoever sees packets before the table does may be told which flows of clients it may
// have a connection for. That is kept as small counts in memory of theirs: a flow whose
// count is 0 has none. Hash and shard choose the place, so counts are changed under the
// shard's lock, as all else of a connection. One is raised before its connection can be
// found, and lowered when it can be found no more.

// known is what one shard tells of its connections.
type known struct {
	counts []uint8 // by the highest bits of the flow's hash; nil: nobody asks
	lines  []uint8 // how many counts of each line are not 0
	shift  uint8   // to those bits
	of     []bool  // by BindingID: its connections are counted
}

// KnownLine is how many counts share one in lines: those of a cache line. Under a flood
// most of them are 0, and whoever asks may see that in a 64th of the memory.
const KnownLine = 64

// stuck is a count that is not certain any more, and stays.
const stuck = 255

// HashKey returns the key of InboundKey's hash. What is known of it lets one aim
// connections at a shard.
func (t *Table) HashKey() siphash.Key { return t.key }

// KnownPlaces returns for how many counts there should be room for Know: with a full
// table a flow without connection finds a count that is not 0 once in four times at
// most.
func (t *Table) KnownPlaces() int { return knownPlaces(int(t.max), len(t.shards)) }

func knownPlaces(connections, shards int) int {
	return max(1<<bits.Len64(uint64(4*connections-1)), KnownLine*shards) // no two shards share a line
}

// Know counts, in counts, the connections of the bindings in set, besides those that it
// counts already, and in lines the counts that are not 0, of each KnownLine. counts has a
// power of two, and both are the same memory each time, zeroed the first time. Who makes
// connections with a new binding calls it before.
func (t *Table) Know(counts, lines []uint8, set *BindingSet) {
	each, eachLines := len(counts)/len(t.shards), len(lines)/len(t.shards)
	t.eachShard(func(s *Shard) {
		at := int(s.number)
		s.know(counts[at*each:][:each], lines[at*eachLines:][:eachLines], set)
	})
}

func (s *Shard) know(counts, lines []uint8, set *BindingSet) {
	s.known.counts, s.known.lines, s.known.shift = counts, lines, uint8(64-bits.Len(uint(len(counts)-1)))
	fresh := make([]bool, max(len(s.known.of), len(set.has)))
	for _, id := range set.ids {
		fresh[id] = !s.counts(id)
	}
	s.raiseAll(fresh)
	for id, of := range s.known.of {
		fresh[id] = fresh[id] || of
	}
	s.known.of = fresh
}

// raiseAll counts the connections of the bindings in set.
func (s *Shard) raiseAll(set []bool) {
	if !slices.Contains(set, true) {
		return
	}
	for i := range s.conns[:s.fresh] {
		c := &s.conns[i]
		if c.isUsed() && !c.isTemplate() && int(c.Binding()) < len(set) && set[c.Binding()] {
			s.raise(s.inboundHash(c))
		}
	}
}

// inboundHash returns the hash of the client's flow of c.
func (s *Shard) inboundHash(c *Conn) uint64 {
	in := s.t.InboundFlow(c)
	return s.t.hash(&in, inbound)
}

// moved has the count of c follow it from one binding to another.
func (s *Shard) moved(c *Conn, from, to BindingID) {
	switch was, is := s.counts(from), s.counts(to); {
	case was && !is:
		s.lower(s.inboundHash(c))
	case is && !was:
		s.raise(s.inboundHash(c))
	}
}

// counts reports whether connections of a binding are counted.
func (s *Shard) counts(id BindingID) bool { return int(id) < len(s.known.of) && s.known.of[id] }

// place returns the count of a flow with that hash.
func (s *Shard) place(hash uint64) *uint8 {
	return &s.known.counts[hash>>s.known.shift]
}

// line returns how many counts are not 0 in the line of that one.
func (s *Shard) line(hash uint64) *uint8 {
	return &s.known.lines[hash>>s.known.shift/KnownLine]
}

func (s *Shard) raise(hash uint64) {
	n := s.place(hash)
	if *n == 0 {
		*s.line(hash)++
	}
	if *n != stuck {
		*n++
	}
}

func (s *Shard) lower(hash uint64) {
	n := s.place(hash)
	if *n == stuck {
		return
	}
	if *n--; *n == 0 {
		*s.line(hash)--
	}
}
