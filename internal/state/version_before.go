//go:build fnatd_state_before

package state

// Version is the one before that of version.go. Tests build a fnatd with this tag, to be
// replaced by one that takes the step, and to be handed a state that it does not know.
const Version = 1
