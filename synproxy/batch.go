package synproxy

import (
	"encoding/binary"
	"math/bits"

	"github.com/fnatd/fnatd/internal/packet"
)

// MaxBatch is how many flows there may be in a Batch: two for each packet of a worker's.
const MaxBatch = 128

// A Batch computes the covers of several cookies together, which takes a third of the
// time. The zero Batch is empty.
type Batch struct {
	addrs, rest, hash [MaxBatch]uint64 // addrs and rest: of IPv4
	n                 int
	is6               [MaxBatch]bool
	six               batch6
}

// batch6 is the flows of IPv6.
type batch6 struct {
	n     int
	of    [MaxBatch]uint8 // which flow of the Batch each is
	words [5][MaxBatch]uint64
	hash  [MaxBatch]uint64
}

// Add adds a client's flow of IPv4, with addresses and ports as a packet.Plain has them, and
// its initial sequence number.
func (b *Batch) Add(addrs uint64, ports, isn uint32) {
	i := b.n % MaxBatch
	b.n++
	b.is6[i] = false
	b.addrs[i] = bits.RotateLeft64(bits.ReverseBytes64(addrs), 32)
	b.rest[i] = uint64(ports)<<32 | uint64(isn)
}

// Add6 is Add for IPv6.
func (b *Batch) Add6(src, dst *packet.Addr, ports, isn uint32) {
	i, s := b.n%MaxBatch, &b.six
	k := s.n % MaxBatch
	b.n++
	s.n++
	b.is6[i], s.of[k] = true, uint8(i)
	s.words[0][k], s.words[1][k] = binary.LittleEndian.Uint64(src[0:]), binary.LittleEndian.Uint64(src[8:])
	s.words[2][k], s.words[3][k] = binary.LittleEndian.Uint64(dst[0:]), binary.LittleEndian.Uint64(dst[8:])
	s.words[4][k] = uint64(ports)<<32 | uint64(isn)
}

// Len returns how many flows there are.
func (b *Batch) Len() int { return b.n }

// Clear takes them all out.
func (b *Batch) Clear() { b.n, b.six.n = 0, 0 }

// Cover computes the covers of all of them in the epoch of that parity.
func (k *Keys) Cover(b *Batch, parity uint32) {
	key, s := &k.ByParity[parity], &b.six
	if s.n < b.n {
		key.Sums2(b.hash[:b.n], b.addrs[:b.n], b.rest[:b.n])
	}
	if s.n == 0 {
		return
	}
	w := &s.words
	key.Sums5(s.hash[:s.n], &[5][]uint64{w[0][:], w[1][:], w[2][:], w[3][:], w[4][:]})
	for i, hash := range s.hash[:s.n] {
		b.hash[s.of[i]%MaxBatch] = hash
	}
}

// CookieOf is Cookie for the i-th flow of b, whose covers are those of the current epoch.
func (k *Keys) CookieOf(b *Batch, i int, o *Options) uint32 {
	return k.Current<<parityShift | uint32(b.hash[i])&coverMask ^ o.bits(!b.is6[i])
}

// Good reports whether Check would take cookie for the i-th flow of b, whose covers are
// those of its epoch.
func (b *Batch) Good(i int, cookie uint32) bool { return (uint32(b.hash[i])^cookie)&checkMask == 0 }
