//go:build !fnatd_state_before

package state

// Version is that of the file's layout, the connection table's included: who changes
// either raises it, here and in version_before.go.
const Version = 2
