package conntrack

const seesTogether = true

// seeAll does what see does for each of n packets, as many instructions in the place of one
// comparison of all tags there: SSE2, which every amd64 has. It reads what other workers
// write: each word of a bucket at once, as see does.
//
//go:noescape
func seeAll(keys *Key, homes, hints *uint32, n int, l *shardLines) (absent uint64)
