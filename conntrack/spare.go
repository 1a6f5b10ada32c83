package conntrack

// A connection that is not half-open does not use its node of the half-open list,
// which lies beside its timer. There the packet path may keep 64 bits more of it,
// for the few connections whose packets need more than their Conn.

// Spare returns what SetSpare stored last for c. It means nothing if c is half-open
// or was so since.
func (s *Shard) Spare(c *Conn) (a, b uint32) {
	n := s.nodes[halfNode(s.slot(c))]
	return n.next, n.prev
}

// SetSpare stores 64 bits for c, which must not be half-open.
func (s *Shard) SetSpare(c *Conn, a, b uint32) {
	s.nodes[halfNode(s.slot(c))] = node{next: a, prev: b}
}
