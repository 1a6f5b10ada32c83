package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// share counts the slots of each of n servers.
func share(slots []uint16, n int) []int {
	counts := make([]int, n)
	for _, at := range slots {
		counts[at]++
	}
	return counts
}

// checkBalance requires each server to be within one slot of its exact share.
func checkBalance(t *testing.T, list []Server, slots []uint16) {
	t.Helper()
	total := 0
	for i := range list {
		total += list[i].Weight
	}
	for i, got := range share(slots, len(list)) {
		ideal := float64(mhSlots) * float64(list[i].Weight) / float64(total)
		if off := float64(got) - ideal; off >= 1 || off <= -1 {
			t.Errorf("%d servers: server %d has %d slots, ideal %.1f", len(list), i, got, ideal)
		}
	}
}

// moved returns what part of the slots that did not belong to server gone have
// another owner now that it is gone from the list.
func moved(before, after []uint16, gone int) float64 {
	others, moves := 0, 0
	for at, was := range before {
		if int(was) == gone {
			continue
		}
		others++
		now := int(after[at])
		if now >= gone {
			now++
		}
		if now != int(was) {
			moves++
		}
	}
	return float64(moves) / float64(others)
}

// For every number of servers up to 100: slots within one of the ideal share,
// and removing one of them moves under 1 % of the others' slots. One server of
// each N is removed; the next test removes every one of a few.
func TestMaglevRemovalMovesLittle(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	worst := 0.0
	for n := 2; n <= 100; n++ {
		list := equal(n)
		before := maglev(list)
		checkBalance(t, list, before)
		gone := random.IntN(n)
		fewer := slices.Delete(slices.Clone(list), gone, gone+1)
		after := maglev(fewer)
		checkBalance(t, fewer, after)
		part := moved(before, after, gone)
		if part >= 0.01 {
			t.Errorf("%d servers: without server %d %.2f %% of the others' slots move", n, gone, 100*part)
		}
		worst = max(worst, part)
	}
	t.Logf("worst %.2f %%", 100*worst)
}

func TestMaglevRemovalOfAnyServerMovesLittle(t *testing.T) {
	lists := map[string][]Server{
		"3 servers":        equal(3),
		"20 servers":       equal(20),
		"different weight": servers(1, 2, 3, 5, 8, 13, 21, 34, 55, 89),
		"one heavy":        servers(20, 1, 1, 1, 1, 1),
	}
	for name, list := range lists {
		before := maglev(list)
		checkBalance(t, list, before)
		for gone := range list {
			after := maglev(slices.Delete(slices.Clone(list), gone, gone+1))
			if part := moved(before, after, gone); part >= 0.01 {
				t.Errorf("%s: without server %d %.2f %% of the others' slots move", name, gone, 100*part)
			}
		}
	}
}

// Draining is removal, and the order of the list says nothing.
func TestMaglevDependsOnTheSetOfServersAlone(t *testing.T) {
	list := equal(9)
	before := maglev(list)
	drained := slices.Clone(list)
	drained[4].Weight = 0
	if part := moved(before, maglev(slices.Delete(slices.Clone(list), 4, 5)), 4); part >= 0.01 {
		t.Errorf("%.2f %% move", 100*part)
	}
	for at, i := range maglev(drained) {
		if i == 4 {
			t.Fatalf("slot %d belongs to a server of weight 0", at)
		}
	}
	backwards := slices.Clone(list)
	slices.Reverse(backwards)
	for at, i := range maglev(backwards) {
		if 8-i != before[at] {
			t.Fatalf("slot %d has another server when the list is turned round", at)
		}
	}
}

func TestMaglevTableOutlivesAChangeOfThresholds(t *testing.T) {
	list := equal(5)
	was := mustNew(t, Spec{Name: "mh", Servers: list}, nil)
	other := slices.Clone(list)
	other[2].Upper = 100
	now := mustNew(t, Spec{Name: "mh", Servers: other, Fallback: true}, was)
	a, b := was.algorithm.(*hashed), now.algorithm.(*hashed)
	if a == b || &a.slots[0] != &b.slots[0] {
		t.Error("the table was made anew")
	}
	fromSH := mustNew(t, Spec{Name: "sh", Servers: list}, nil)
	if got := len(mustNew(t, Spec{Name: "mh", Servers: list}, fromSH).algorithm.(*hashed).slots); got != mhSlots {
		t.Errorf("after sh, mh has %d slots", got)
	}
}

func BenchmarkMaglevTable(b *testing.B) {
	for _, n := range []int{2, 10, 100, 1000} {
		b.Run(fmt.Sprintf("%d_servers", n), func(b *testing.B) {
			list := equal(n)
			for b.Loop() {
				maglev(list)
			}
		})
	}
}
