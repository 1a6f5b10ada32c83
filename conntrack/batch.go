package conntrack

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/prefetch"
	"github.com/fnatd/fnatd/internal/siphash"
)

// MaxBatch is how many packets there may be in a Batch.
const MaxBatch = prefetch.Max

// Ahead is how many packets' lines are to be asked for at once. Processors have some ten
// misses under way (Zen 4: 12), and a prefetch beyond them is lost or waits.
const Ahead = 8

// A Batch prepares the lookups of several packets together. Hashes of plain packets take
// a sixth of the time when eight are computed at once. And a lookup of an old connection
// misses the cache twice, one after the other, for its bucket and for itself: so Hash asks
// for buckets and Load for connections, a few at a time and while others are being worked
// on. None of them takes a lock. What they find may be gone when the lock is taken, which
// costs time and nothing else.
type Batch struct {
	addrs, rest, hash [MaxBatch]uint64 // of a plain packet of IPv4, see Table.hash
	keys              [MaxBatch]Key
	six               plain6
	homes             [MaxBatch]uint32 // lines of their home buckets
	hints             [MaxBatch]uint32 // as Hint returns them
	absent            uint64           // see Absent
	spareWanted       bool             // by a packet of this batch
	spareLoads        bool             // by one of the last batch, so that Load does
	spare             prefetch.Lines
}

// plain6 is the plain packets of IPv6.
type plain6 struct {
	n     int
	of    [MaxBatch]uint8 // which packet of the batch each is
	words [5][MaxBatch]uint64
	hash  [MaxBatch]uint64
}

// A Hint is where a connection was seen, as the number of its line among those of all
// shards; the zero Hint, the line of a bucket, is nowhere.
type Hint uint32

// SetPlain makes the i-th packet a plain one of IPv4.
func (b *Batch) SetPlain(i int, p *packet.Plain, isOutbound bool) {
	b.addrs[uint(i)%MaxBatch] = bits.RotateLeft64(p.Addrs, 32)
	b.rest[uint(i)%MaxBatch] = uint64(p.Ports)<<32 | uint64(p.Proto)<<8 | uint64(direction(isOutbound))
}

// SetPlain6 makes the i-th packet a plain one of IPv6, which it is to stay until Hash.
func (b *Batch) SetPlain6(i int, p *packet.Plain, isOutbound bool) {
	b.rest[uint(i)%MaxBatch] = 0 // until Hash
	s := &b.six
	k := uint(s.n) % MaxBatch
	src, dst := p.Src6(), p.Dst6()
	s.of[k] = uint8(i)
	s.words[0][k], s.words[1][k] = binary.LittleEndian.Uint64(src[0:]), binary.LittleEndian.Uint64(src[8:])
	s.words[2][k], s.words[3][k] = binary.LittleEndian.Uint64(dst[0:]), binary.LittleEndian.Uint64(dst[8:])
	s.words[4][k] = uint64(p.Ports)<<32 | uint64(p.Proto)<<8 | uint64(direction(isOutbound))
	s.n++
}

// hash6 hashes the plain packets of IPv6.
func (t *Table) hash6(b *Batch) {
	s := &b.six
	w := &s.words
	t.key.Sums5(s.hash[:siphash.Round(s.n)], &[5][]uint64{w[0][:], w[1][:], w[2][:], w[3][:], w[4][:]})
	for k, hash := range s.hash[:s.n] {
		rest := w[4][k]
		b.keys[s.of[k]] = t.flowKey(hash, kind(rest), uint16(rest>>32))
	}
	s.n = 0
}

// SetKey makes the i-th packet one that k was made for; the zero Key is for none.
func (b *Batch) SetKey(i int, k Key) { b.keys[i], b.rest[i] = k, 0 }

// Key returns the key of the i-th packet.
func (b *Batch) Key(i uint8) Key { return b.keys[i%MaxBatch] }

// Hint returns where See has seen the connection of the i-th packet.
func (b *Batch) Hint(i uint8) Hint { return Hint(b.hints[i%MaxBatch]) }

// Absent reports whether there was certainly no connection of the i-th packet when See
// looked.
func (b *Batch) Absent(i int) bool { return b.absent>>(i%MaxBatch)&1 != 0 }

// Hash makes the keys of the packets that were set since the last time, which are those from
// one to before another, and begins to load their buckets.
func (t *Table) Hash(b *Batch, from, to int) {
	if n := to - from; b.six.n < n {
		all := from + siphash.Round(n)
		t.key.Sums2(b.hash[from:all], b.addrs[from:all], b.rest[from:all])
	}
	if b.six.n > 0 {
		t.hash6(b)
	}
	for i := uint(from); i < uint(to); i++ {
		var k Key
		if rest := b.rest[i%MaxBatch]; rest != 0 { // that of a plain packet of IPv4 has its protocol
			k = t.flowKey(b.hash[i%MaxBatch], kind(rest), uint16(rest>>32))
			b.keys[i%MaxBatch] = k
		} else {
			k = b.keys[i%MaxBatch]
		}
		b.homes[i%MaxBatch] = t.lines.home(k.shard, k.hash)
	}
	prefetch.Numbers(t.lines.buckets, b.homes[from:to])
}

// See looks where the connections of the first n packets are, which have keys: by an entry
// with their tag in the home bucket, if there is one.
func (t *Table) See(b *Batch, n int) {
	b.spareLoads, b.spareWanted = b.spareWanted, false
	isRead, absent := t.adopting.isRead(), uint64(0) // in this order, see Lacks
	if seesTogether {
		absent = seeAll(&b.keys[0], &b.homes[0], &b.hints[0], min(n, MaxBatch), &t.lines)
	} else {
		absent = t.lines.see(b, n)
	}
	if b.absent = 0; isRead {
		b.absent = absent
		return
	}
	for i := range b.keys[:n] { // what a dead process has left, and nobody has read yet, may lead anywhere
		if t.shards[b.keys[i].shard].unread.Load() {
			b.hints[i] = 0
		}
	}
}

// see sets the hints of the first n packets, and returns whose connections are certainly
// absent.
func (lines *shardLines) see(b *Batch, n int) (absent uint64) {
	for i := range b.keys[:n] {
		k, l := &b.keys[i], &lines.buckets[b.homes[i]]
		last := atomic.LoadUint64(&l[passedWord])
		places := match(tagOf(k.hash), atomic.LoadUint64(&l[0]), atomic.LoadUint64(&l[1]), last)
		if b.hints[i] = 0; places == 0 {
			if last>>32 == 0 {
				absent |= 1 << (i % MaxBatch)
			}
			continue
		}
		place := uint(places.first())
		slot := atomic.LoadUint64(&l[firstSlots+place/2]) >> (place % 2 * 32)
		if at, ok := lines.conn(k.shard, uint32(slot)); ok { // or it has gone in between
			b.hints[i] = at
		}
	}
	return absent
}

// Load begins to load the connections of these packets, as far as See has seen any.
func (t *Table) Load(b *Batch, packets []uint8) {
	prefetch.Chosen(t.lines.conns, &b.hints, packets) // of none the first line there is
	if b.spareLoads {
		t.loadSpare(b, packets)
	}
}

// Lacks reports whether there is certainly no connection that Find would return for k. It
// needs no lock: the entry of one that is there all the time stays in its place, and all
// buckets in front of it count it.
func (t *Table) Lacks(k Key) bool {
	if !t.adopting.isRead() {
		return false // an index that is not read yet says nothing
	}
	x, tag := t.shards[k.shard].index, tagOf(k.hash)
	for b := x.home(k.hash); ; b = x.next(b) {
		l := &x[b]
		last := atomic.LoadUint64(&l[passedWord])
		if match(tag, atomic.LoadUint64(&l[0]), atomic.LoadUint64(&l[1]), last) != 0 {
			return false
		}
		if last>>32 == 0 {
			return true
		}
	}
}
