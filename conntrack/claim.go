package conntrack

import (
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/prefetch"
	"github.com/fnatd/fnatd/internal/siphash"
)

// A Claim is a local address and port toward a real server that are kept for a
// connection which is about to be inserted. It is of one shard, and nobody but its holder
// knows of it. The zero Claim is none.
type Claim struct {
	hash  uint64 // of the outbound flow
	port  uint16
	local LocalID
}

// Local returns the claim's local address, and Port the port.
func (c *Claim) Local() LocalID { return c.local }
func (c *Claim) Port() uint16   { return c.port }

// held reports whether there is a claim.
func (c *Claim) held() bool { return c.local != 0 }

// Claims are those of a batch. Their outbound flows are hashed together.
type Claims struct {
	n                 int
	of                [MaxBatch]Claim
	addrs, rest, hash [MaxBatch]uint64 // of the outbound flows, see Table.hash
	others            uint64           // bits of those that are hashed already, as they are not of IPv4
}

// Reset forgets the claims, which are their users' then.
func (cs *Claims) Reset() { cs.n, cs.others = 0, 0 }

// Len returns how many claims there are, and At the i-th, which is ready when HashClaims was
// called since.
func (cs *Claims) Len() int        { return cs.n }
func (cs *Claims) At(i int) *Claim { return &cs.of[i] }

// Claim is the part of Insert that finds a local address and port, to be called for
// several connections one after another, before they are inserted: what that takes may
// then be loaded for one while others are. It adds the claim to cs, and reports whether a
// port was left. The claim is to be used by InsertClaimed or given up by Disclaim.
func (t *Table) Claim(cs *Claims, k Key, b BindingID, locals []LocalID, aim *Aim) bool {
	var out packet.Flow
	s := t.Lock(k)
	local := s.claim(&out, b, locals, aim)
	s.Unlock()
	if local == 0 {
		return false
	}
	i := cs.n % MaxBatch
	c := &cs.of[i]
	c.port, c.local = out.DstPort, local
	addrs, is4 := addrsOf(&out.Src, &out.Dst)
	if cs.addrs[i], cs.rest[i] = addrs, restOf(out.SrcPort, out.DstPort, out.Proto, outbound); !is4 {
		c.hash = t.hash(&out, outbound)
		cs.others |= 1 << i
	}
	cs.n++
	return true
}

// HashClaims makes the claims ready to be used.
func (t *Table) HashClaims(cs *Claims) {
	all := siphash.Round(cs.n) // of which the last may be of nobody any more
	t.key.Sums2(cs.hash[:all], cs.addrs[:all], cs.rest[:all])
	for i := range cs.of[:cs.n] {
		if cs.others>>i&1 == 0 {
			cs.of[i].hash = cs.hash[i]
		}
	}
}

// Foresee begins to load what inserting the connection of a claim takes.
func (t *Table) Foresee(c *Claim) {
	x := t.shards[uint32(c.port)&t.shardMask].index
	prefetch.Line(&x[x.home(c.hash)])
}

// Disclaim gives up a claim for a connection of b, of which k is the key.
func (t *Table) Disclaim(k Key, b BindingID, c *Claim) {
	s := t.Lock(k)
	s.ports[c.local].release(s.portIndex(c.port), s.bindings[b].real)
	s.Unlock()
}

// claim chooses a local address and port toward the real server of b, takes the port, and
// makes out the outbound flow. It returns 0 if no port is left.
func (s *Shard) claim(out *packet.Flow, b BindingID, locals []LocalID, aim *Aim) LocalID {
	real := &s.bindings[b]
	out.Src, out.SrcPort, out.Proto = real.Real.Addr, real.Real.Port, real.Proto
	if aim == nil {
		aim = &aimless
	}
	local, ok := s.choose(out, real.real, locals, aim)
	if ok {
		s.ports[local].take(s.portIndex(out.DstPort), aim.cursor())
	}
	return local
}

// claimOne is claim for a single connection.
func (s *Shard) claimOne(b BindingID, locals []LocalID, aim *Aim) (c Claim) {
	var out packet.Flow
	if local := s.claim(&out, b, locals, aim); local != 0 {
		c = Claim{s.t.hash(&out, outbound), out.DstPort, local}
	}
	return c
}

// claimed returns the outbound flow of a claim for a connection of b.
func (s *Shard) claimed(b BindingID, c *Claim) packet.Flow {
	real := &s.bindings[b]
	return packet.Flow{
		Src: real.Real.Addr, SrcPort: real.Real.Port,
		Dst: s.locals[c.local].Addr, DstPort: c.port,
		Proto: real.Proto,
	}
}
