//go:build !amd64 && !arm64

package conntrack

// prefetch is a hint that this processor does without.
func prefetch(*byte) {}
