package conntrack

import "github.com/fnatd/fnatd/internal/prefetch"

// A connection that is not half-open does not use its node of the half-open list,
// which lies beside its timer. There the packet path may keep 64 bits more of it,
// for the few connections whose packets need more than their Conn.

// Spare returns what SetSpare stored last for c. It means nothing if c is half-open
// or was so since.
func (s *Shard) Spare(c *Conn) (x, y uint32) {
	n := s.nodes[halfNode(s.slot(c))]
	return n.next, n.prev
}

// SetSpare stores 64 bits for c, which must not be half-open.
func (s *Shard) SetSpare(c *Conn, x, y uint32) {
	s.unlist(c)
	s.nodes[halfNode(s.slot(c))] = node{next: x, prev: y}
}

// Spare is the same for who has only the latch of c, which is the connection of the batch's
// i-th packet. It has Load ask for what it returns in the next batch.
func (t *Table) Spare(b *Batch, i uint8, c *Conn) (x, y uint32) {
	b.spareWanted = true
	return t.shards[b.Key(i).shard].Spare(c)
}

// loadSpare begins to load what Spare will return of these packets' connections.
func (t *Table) loadSpare(b *Batch, packets []uint8) {
	l := &t.lines
	for _, i := range packets {
		prefetch.Add(&b.spare, &l.conns[l.nodes(b.Key(i).shard, uint32(b.Hint(i)))])
	}
	b.spare.Load()
}
