package prefetch

import "testing"

// TestLoadTakesAnyAddress loads what is mapped, and what is not.
func TestLoadTakesAnyAddress(t *testing.T) {
	var l Lines
	l.Load()
	words := make([]uint64, Max)
	for i := range words {
		Add(&l, &words[i])
	}
	l.Load()
	if l.n != 0 {
		t.Errorf("%d lines are left", l.n)
	}
	Add[byte](&l, nil)
	l.Load()
}
