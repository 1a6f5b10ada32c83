package synproxy

import (
	"encoding/binary"
	"math/bits"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
)

// MaxBatch is how many flows there may be in a Batch: two for each packet of a worker's.
const MaxBatch = 128

// room is for one more, which SetPair may write without its being wanted, in whole eights.
const room = MaxBatch + 8

// A Batch computes the covers of several cookies together, which takes a third of the
// time.
type Batch struct {
	addrs, rest [room]uint64    // of flows of IPv4
	words       [5][room]uint64 // of IPv6
	is6         [room]bool
	any4, any6  bool
	hash, hash6 [room]uint64
}

// Set makes the i-th flow one of IPv4 from a client, with addresses and ports as a
// packet.Plain has them, and its initial sequence number.
func (b *Batch) Set(i int, addrs uint64, ports, isn uint32) {
	i %= MaxBatch
	b.any4, b.is6[i] = true, false
	b.addrs[i] = words4(addrs)
	b.rest[i] = uint64(ports)<<32 | uint64(isn)
}

// words4 returns IPv4 addresses, which are as a packet.Plain has them, as they are hashed.
func words4(addrs uint64) uint64 { return bits.RotateLeft64(addrs, 32) }

// Set6 is Set for IPv6.
func (b *Batch) Set6(i int, src, dst *packet.Addr, ports, isn uint32) {
	b.set6(i%MaxBatch, src, dst, ports, isn)
}

func (b *Batch) set6(i int, src, dst *packet.Addr, ports, isn uint32) {
	b.any6, b.is6[i] = true, true
	w := &b.words
	w[0][i], w[1][i] = binary.LittleEndian.Uint64(src[0:]), binary.LittleEndian.Uint64(src[8:])
	w[2][i], w[3][i] = binary.LittleEndian.Uint64(dst[0:]), binary.LittleEndian.Uint64(dst[8:])
	w[4][i] = uint64(ports)<<32 | uint64(isn)
}

// SetPair sets the i-th flow and the next: with these ends, of either family, and the initial
// sequence numbers isn and isn+1.
func (b *Batch) SetPair(i int, e *packet.Ends, isn uint32) {
	i %= MaxBatch
	if e.Is6() {
		b.set6(i, e.Src6(), e.Dst6(), e.Ports, isn)
		b.set6(i+1, e.Src6(), e.Dst6(), e.Ports, isn+1)
		return
	}
	addrs, ports := words4(e.Addrs), uint64(e.Ports)<<32
	b.any4, b.is6[i], b.is6[i+1] = true, false, false
	b.addrs[i], b.addrs[i+1] = addrs, addrs
	b.rest[i], b.rest[i+1] = ports|uint64(isn), ports|uint64(isn+1)
}

// Cover computes the covers of the first n flows, which have been set since the last time,
// in the epoch of that parity.
func (k *Keys) Cover(b *Batch, n int, parity uint32) {
	key, all := &k.ByParity[parity], siphash.Round(n)
	if b.any4 {
		key.Sums2(b.hash[:all], b.addrs[:all], b.rest[:all])
	}
	if b.any6 {
		w := &b.words
		key.Sums5(b.hash6[:all], &[5][]uint64{w[0][:], w[1][:], w[2][:], w[3][:], w[4][:]})
		for i := range n {
			if b.is6[i] {
				b.hash[i] = b.hash6[i]
			}
		}
	}
	b.any4, b.any6 = false, false
}

// CookieOf is Cookie for the i-th flow of b, whose covers are those of the current epoch.
func (k *Keys) CookieOf(b *Batch, i int, o *Options) uint32 {
	return k.Current<<parityShift | uint32(b.hash[i])&coverMask ^ o.bits(!b.is6[i])
}

// Good reports whether Check would take cookie for the i-th flow of b, whose covers are
// those of its epoch.
func (b *Batch) Good(i int, cookie uint32) bool { return (uint32(b.hash[i])^cookie)&checkMask == 0 }
