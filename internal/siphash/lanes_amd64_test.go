package siphash

import "testing"

// TestSumsAreSumWithoutRotation is TestSumsAreSum on a processor that has AVX2 and not
// AVX-512.
func TestSumsAreSumWithoutRotation(t *testing.T) {
	defer func(was bool) { rotates = was }(rotates)
	rotates = false
	TestSumsAreSum(t)
}
