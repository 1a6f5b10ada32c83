package conntrack

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bytes that each part takes in the arena. A test holds them to their cache
// lines.
const (
	connBytes    = int(unsafe.Sizeof(Conn{}))
	nodeBytes    = int(unsafe.Sizeof(node{}))
	bucketBytes  = int(unsafe.Sizeof(bucket{}))
	bindingBytes = int(unsafe.Sizeof(bindingEntry{}))
	localBytes   = int(unsafe.Sizeof(localEntry{}))
	headerBytes  = int(unsafe.Sizeof(header{}))
	markBytes    = int(unsafe.Sizeof(mark{}))
	shardBytes   = int(unsafe.Sizeof(Shard{}))
	cacheLine    = 64
)

// carve takes n values of type T, which has no pointers, from the front of mem
// and returns them and the rest of mem, aligned to a cache line.
func carve[T any](mem []byte, n int) (values []T, rest []byte) {
	var zero T
	size := lines(n * int(unsafe.Sizeof(zero)))
	_ = mem[:size]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), n), mem[size:]
}

// lines rounds a number of bytes up to whole cache lines.
func lines(size int) int { return (size + cacheLine - 1) &^ (cacheLine - 1) }

// shardLines are the cache lines of all shards, which lie one after the other in the
// memory: so a bucket or a connection is found by its number among them, and a packet
// needs nothing of its Shard. Either of the slices is all the memory.
type shardLines struct {
	buckets []bucket
	conns   []Conn
	shard   uint32 // lines of a shard: an index, connections and lists
	index   uint32 // of them the buckets of its index
	slots   uint32 // and its connections
}

// linesOf returns the lines of so many shards in the memory that begins with the first.
func linesOf(l *layout, mem []byte, shards int) (all shardLines) {
	n := l.buckets + l.capacity + lines(l.nodes*nodeBytes)/cacheLine
	all.buckets, _ = carve[bucket](mem, shards*n)
	all.conns, _ = carve[Conn](mem, shards*n)
	all.shard, all.index, all.slots = uint32(n), uint32(l.buckets), uint32(l.capacity)
	return all
}

// home returns the home bucket of hash h in a shard.
func (l *shardLines) home(shard uint32, h uint64) uint32 {
	return shard*l.shard + homeOf(h, uint64(l.index))
}

// conn returns the connection in a slot, plus one, of a shard. It is not ok, and the
// connection none, if there is no such slot.
func (l *shardLines) conn(shard, slot uint32) (at uint32, ok bool) {
	return shard*l.shard + l.index + slot - 1, slot-1 < l.slots
}

// nodes returns the line with the nodes of a shard's connection, or the first line there is
// for none.
func (l *shardLines) nodes(shard, at uint32) uint32 {
	if at == 0 {
		return 0
	}
	conns := shard*l.shard + l.index
	return conns + l.slots + (at-conns)/(uint32(cacheLine/nodeBytes)/2)
}

// slot returns the place of c, which must be one of s's connections.
func (s *Shard) slot(c *Conn) uint32 {
	first := unsafe.Pointer(unsafe.SliceData(s.conns))
	return uint32((uintptr(unsafe.Pointer(c)) - uintptr(first)) / unsafe.Sizeof(*c))
}

// empty reports whether e is all zeros, which nearly all entries are.
func (e *bindingEntry) empty() bool {
	w := (*[8]uint64)(unsafe.Pointer(e))
	return w[0]|w[1]|w[2]|w[3]|w[4]|w[5]|w[6]|w[7] == 0
}

// warm has the kernel map the pages that values lie in, all at once instead of one by one
// as they are touched.
func warm[T any](values []T) {
	if len(values) == 0 {
		return
	}
	page := os.Getpagesize()
	first := unsafe.Pointer(unsafe.SliceData(values))
	skip := int(-uintptr(first)) & (page - 1) // what it begins within is whoever's before it
	size := (len(values)*int(unsafe.Sizeof(values[0])) - skip) &^ (page - 1)
	if size <= 0 {
		return
	}
	b := unsafe.Slice((*byte)(unsafe.Add(first, skip)), size)
	_ = unix.Madvise(b, unix.MADV_POPULATE_READ) // which kernels before 5.14 do not know
}
