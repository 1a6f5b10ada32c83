package synproxy

import "math/bits"

// MaxBatch is how many flows there may be in a Batch: two for each packet of a worker's.
const MaxBatch = 128

// A Batch computes the covers of several cookies of IPv4 together, which takes a third
// of the time. The zero Batch is empty.
type Batch struct {
	addrs, rest, hash [MaxBatch]uint64
	n                 int
}

// Add adds a client's flow, with addresses and ports as a packet.Plain has them, and its
// initial sequence number.
func (b *Batch) Add(addrs uint64, ports, isn uint32) {
	i := b.n % MaxBatch
	b.addrs[i] = bits.RotateLeft64(bits.ReverseBytes64(addrs), 32)
	b.rest[i] = uint64(ports)<<32 | uint64(isn)
	b.n++
}

// Len returns how many flows there are.
func (b *Batch) Len() int { return b.n }

// Clear takes them all out.
func (b *Batch) Clear() { b.n = 0 }

// Cover computes the covers of all of them in the epoch of that parity.
func (k *Keys) Cover(b *Batch, parity uint32) {
	k.ByParity[parity].Sums2(b.hash[:b.n], b.addrs[:b.n], b.rest[:b.n])
}

// CookieOf is Cookie for the i-th flow of b, whose covers are those of the current epoch.
func (k *Keys) CookieOf(b *Batch, i int, o *Options) uint32 {
	return k.Current<<parityShift | uint32(b.hash[i])&coverMask ^ o.bits(true)
}

// Good reports whether Check would take cookie for the i-th flow of b, whose covers are
// those of its epoch.
func (b *Batch) Good(i int, cookie uint32) bool { return (uint32(b.hash[i])^cookie)&checkMask == 0 }
