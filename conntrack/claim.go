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
	hash  uint64   // of the outbound flow
	ports *portSet // of the shard and the local address
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
	s := t.Lock(k)
	i := cs.n % MaxBatch
	c, real := &cs.of[i], &t.bindings[b]
	s.claim(c, b, locals, aim)
	s.mu.Unlock()
	if !c.held() {
		return false
	}
	addrs, is4 := addrsOf(&real.Real.Addr, &t.locals[c.local].Addr)
	if cs.addrs[i], cs.rest[i] = addrs, restOf(real.Real.Port, c.port, real.Proto, outbound); !is4 {
		out := s.claimed(b, c)
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
	c.ports.release(s.portIndex(c.port), s.bindings[b].real)
	s.Unlock()
}

// claim chooses a local address and port toward the real server of b, and takes the port. It
// makes c what was found, but for the hash: the zero Claim if no port is left.
func (s *Shard) claim(c *Claim, b BindingID, locals []LocalID, aim *Aim) {
	if len(locals) == 0 {
		*c = Claim{}
		return
	}
	if aim == nil {
		aim = &aimless
	}
	real := &s.bindings[b]
	s.turn.next(s, locals, aim.cursor())
	if aim.Hits == nil { // as choose does, if the first has an idle port, but without a flow to look for
		p, local := s.turn.ports, s.turn.local
		if p.free > 0 && s.locals[local].Addr.Is4() == real.Real.Addr.Is4() {
			i := p.nextIdle(int(p.cursor[aim.cursor()]))
			p.take(i, aim.cursor())
			c.ports, c.port, c.local = p, s.port(i), local
			return
		}
	}
	out := packet.Flow{Src: real.Real.Addr, SrcPort: real.Real.Port, Proto: real.Proto}
	local, ok := s.choose(&out, real.real, locals, aim)
	if !ok {
		*c = Claim{}
		return
	}
	p := s.ports[local]
	p.take(s.portIndex(out.DstPort), aim.cursor())
	c.ports, c.port, c.local = p, out.DstPort, local
}

// claimOne is claim for a single connection.
func (s *Shard) claimOne(b BindingID, locals []LocalID, aim *Aim) (c Claim) {
	if s.claim(&c, b, locals, aim); c.held() {
		out := s.claimed(b, &c)
		c.hash = s.t.hash(&out, outbound)
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
