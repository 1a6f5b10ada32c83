//go:build amd64 || arm64

package conntrack

// prefetch begins to load a cache line. It is assembler because a load in Go,
// even an unused one, holds up the instructions behind it when it misses, so
// that fewer misses overlap.
//
//go:noescape
func prefetch(line *byte)
