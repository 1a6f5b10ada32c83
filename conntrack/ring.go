package conntrack

// A node is a place in a circular doubly linked list. Its neighbours are
// positions in the same array; a node that is in no list is its own neighbour.
type node struct{ next, prev uint32 }

// nodes holds a shard's lists: for each connection one node in the timer wheel
// and one in the list of half-open connections, side by side so that both are in
// one cache line, and after them the heads of the lists. A list is its head; it
// is empty if the head is alone.
type nodes []node

// wheelNode and halfNode return the nodes of the connection in a slot.
func wheelNode(slot uint32) uint32 { return 2 * slot }
func halfNode(slot uint32) uint32  { return 2*slot + 1 }

// slotOf is the inverse of both.
func slotOf(n uint32) uint32 { return n / 2 }

// resetHeads empties the shard's lists.
func (s *Shard) resetHeads() {
	for n := 2 * len(s.conns); n < len(s.nodes); n++ {
		s.nodes.reset(uint32(n))
	}
}

// reset makes n the only node of its list.
func (l nodes) reset(n uint32) { l[n] = node{n, n} }

// alone reports whether n is in no list, or is the head of an empty one.
func (l nodes) alone(n uint32) bool { return l[n].next == n }

// unlink takes n out of its list, if it is in one.
func (l nodes) unlink(n uint32) {
	at := l[n]
	l[at.prev].next = at.next
	l[at.next].prev = at.prev
	l[n] = node{n, n}
}

// pushBack puts n, which is in no list, at the end of the list of head.
func (l nodes) pushBack(head, n uint32) {
	last := l[head].prev
	l[n] = node{head, last}
	l[last].next = n
	l[head].prev = n
}
