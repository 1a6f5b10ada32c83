package sched

import (
	"reflect"
	"sync"
	"testing"
)

func TestLoadCounts(t *testing.T) {
	var l Load
	l.Opened()
	l.Opened()
	l.Opened()
	l.Add(1, -1)
	l.Add(1, -1)
	l.Add(-1, 1)
	if a, i, n := l.Active.Load(), l.Inactive.Load(), l.Total(); a != 1 || i != 2 || n != 3 {
		t.Errorf("active %d, inactive %d, total %d; want 1, 2, 3", a, i, n)
	}
	l.Add(-1, 0)
	l.Add(0, -1)
	if a, i := l.Active.Load(), l.Inactive.Load(); a != 0 || i != 1 {
		t.Errorf("active %d, inactive %d; want 0, 1", a, i)
	}
}

func TestLoadInherited(t *testing.T) {
	var l Load
	l.Inherited(7, 4)
	if a, i := l.Active.Load(), l.Inactive.Load(); a != 7 || i != 4 {
		t.Errorf("active %d, inactive %d; want 7, 4", a, i)
	}
	l.Add(-1, 0)
	l.Add(-1, 0)
	if !l.Over(10, 4) { // as if they had been opened here
		t.Error("the threshold that was reached is forgotten")
	}
}

// Each step changes the connections by so many and says whether the server then
// counts as overloaded.
func TestLoadOver(t *testing.T) {
	type step struct {
		change int
		over   bool
	}
	tests := []struct {
		name         string
		upper, lower int
		steps        []step
	}{
		{"no_upper_threshold_never", 0, 0, []step{{1000, false}}},
		{"reached_is_over", 10, 0, []step{{9, false}, {1, true}, {5, true}}},
		{"stays_until_below_lower", 10, 4, []step{{10, true}, {-5, true}, {-1, true}, {-1, false}, {6, false}, {1, true}}},
		{"stays_until_below_three_quarters", 8, 0, []step{{8, true}, {-1, true}, {-1, true}, {-1, false}, {2, false}, {1, true}}},
		{"lower_equal_to_upper_has_no_memory", 5, 5, []step{{5, true}, {-1, false}, {1, true}, {-1, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l Load
			for i, s := range tt.steps {
				for range s.change {
					l.Opened()
				}
				for range -s.change {
					l.Add(0, -1)
				}
				if got := l.Over(tt.upper, tt.lower); got != s.over {
					t.Fatalf("step %d, %d connections: Over = %v", i, l.Total(), got)
				}
			}
		})
	}
}

func TestLoadOverRemembersAPeakNobodySaw(t *testing.T) {
	var l Load
	for range 10 {
		l.Opened()
	}
	for range 3 {
		l.Add(0, -1)
	}
	if !l.Over(10, 5) {
		t.Error("the upper threshold was reached and the lower is not yet, but Over = false")
	}
}

func TestLoadOverFollowsThresholdsThatChange(t *testing.T) {
	var l Load
	for range 10 {
		l.Opened()
	}
	if !l.Over(10, 8) || l.Over(20, 8) || !l.Over(5, 0) || l.Over(0, 0) {
		t.Error("Over does not go by the thresholds it is given")
	}
}

func TestLoadIsSafeForManyWorkers(t *testing.T) {
	var l Load
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				l.Opened()
				l.Add(1, -1)
				l.Over(4, 2)
				l.Add(-1, 1)
				l.Add(0, -1)
			}
			l.Opened()
		})
	}
	wg.Wait()
	if l.Active.Load() != 0 || l.Inactive.Load() != 8 || !l.Over(8, 2) {
		t.Errorf("active %d, inactive %d; want 0, 8 and overloaded", l.Active.Load(), l.Inactive.Load())
	}
}

func TestLoadFillsACacheLine(t *testing.T) {
	if got := reflect.TypeFor[Load]().Size(); got != 64 {
		t.Errorf("a Load has %d bytes, want 64", got)
	}
}
