package conntrack

import (
	"fmt"
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

// hugePage is the size of the huge pages that mapArena asks for.
const hugePage = 2 << 20

// mapArena returns at least size bytes of zeroed memory behind a file
// descriptor, which the garbage collector never sees. If the host has enough
// huge pages set aside they are used: at a million connections most lookups miss
// the TLB too, unless pages are huge. Otherwise the kernel provides pages as they
// are first touched, and makes them huge where it is configured to.
func mapArena(size int) ([]byte, error) {
	size = (size + hugePage - 1) &^ (hugePage - 1)
	if mem, err := mapShared(size, unix.MFD_HUGETLB|unix.MFD_HUGE_2MB); err == nil {
		return mem, nil
	}
	mem, err := mapShared(size, 0)
	if err != nil {
		return nil, fmt.Errorf("connection table: %d bytes: %w (lower max_connections)", size, err)
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // a host that has none to give is no error
	return mem, nil
}

// mapShared maps a new memory file of the given size and memfd_create flags.
func mapShared(size, flags int) ([]byte, error) {
	fd, err := unix.MemfdCreate("fnatd-conntrack", unix.MFD_CLOEXEC|flags)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(fd) // the mapping keeps the memory
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("ftruncate: %w", err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return mem, nil
}

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

// slot returns the place of c, which must be one of s's connections.
func (s *Shard) slot(c *Conn) uint32 {
	first := unsafe.Pointer(unsafe.SliceData(s.conns))
	return uint32((uintptr(unsafe.Pointer(c)) - uintptr(first)) / unsafe.Sizeof(*c))
}

// firstByte returns where v begins.
func firstByte[T any](v *T) *byte { return (*byte)(unsafe.Pointer(v)) }

// empty reports whether e is all zeros, which nearly all entries are.
func (e *bindingEntry) empty() bool {
	w := (*[8]uint64)(unsafe.Pointer(e))
	return w[0]|w[1]|w[2]|w[3]|w[4]|w[5]|w[6]|w[7] == 0
}
