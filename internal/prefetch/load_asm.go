//go:build amd64 || arm64

package prefetch

// load is assembler because a load in Go, even an unused one, holds up the instructions
// behind it when it misses, so that fewer misses overlap.
//
//go:noescape
func load(lines *uintptr, n int)
