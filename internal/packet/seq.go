package packet

// Sequence numbers are compared modulo 2^32 (RFC 9293, section 3.4): a is before
// b if it takes less than 2^31 steps forward to come from a to b.

// SeqLess reports whether sequence number a is before b.
func SeqLess(a, b uint32) bool { return int32(a-b) < 0 }

// SeqLessEq reports whether sequence number a is before b or equal to it.
func SeqLessEq(a, b uint32) bool { return int32(a-b) <= 0 }

// SeqInWindow reports whether seq is one of the size numbers that begin at first.
func SeqInWindow(seq, first, size uint32) bool { return seq-first < size }
