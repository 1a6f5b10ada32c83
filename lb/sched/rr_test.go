package sched

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundRobinGoesInTurn(t *testing.T) {
	s := mustNew(t, Spec{Name: "rr", Servers: servers(1, 7, 0, 2)}, nil)
	var got []int
	for range 7 {
		got = append(got, s.Pick(Client{}))
	}
	if diff := cmp.Diff(got, []int{0, 1, 3, 0, 1, 3, 0}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestRoundRobinCountsAreExact(t *testing.T) {
	tests := []struct {
		name    string
		weights []int
		cycle   []int // picks of each server in one cycle
	}{
		{"rr", []int{1, 1, 1}, []int{1, 1, 1}},
		{"rr", []int{100, 1, 0, 7}, []int{1, 1, 0, 1}},
		{"rr", slices.Repeat([]int{1}, 100), slices.Repeat([]int{1}, 100)},
		{"wrr", []int{1}, []int{1}},
		{"wrr", []int{5, 1, 1}, []int{5, 1, 1}},
		{"wrr", []int{4, 3, 2}, []int{4, 3, 2}},
		{"wrr", []int{400, 300, 200}, []int{4, 3, 2}},
		{"wrr", []int{2, 0, 6}, []int{1, 0, 3}},
		{"wrr", []int{65535, 1, 65534}, []int{65535, 1, 65534}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.name, tt.weights[:min(3, len(tt.weights))]), func(t *testing.T) {
			s := mustNew(t, Spec{Name: tt.name, Servers: servers(tt.weights...)}, nil)
			total := 0
			for _, n := range tt.cycle {
				total += n
			}
			for range 3 { // each cycle, not only their sum
				if diff := cmp.Diff(picks(s, len(tt.cycle), total)[:len(tt.cycle)], tt.cycle); diff != "" {
					t.Fatalf("one worker (-got +want):\n%s", diff)
				}
			}
			cycles := 1 + 80_000/total
			want := slices.Clone(tt.cycle)
			for i := range want {
				want[i] *= cycles
			}
			if diff := cmp.Diff(concurrently(s, len(want), cycles*total), want); diff != "" {
				t.Errorf("eight workers (-got +want):\n%s", diff)
			}
		})
	}
}

// A heavy server's turns are spread over the cycle: at any time each server is
// within a few picks of its share.
func TestWeightedRoundRobinIsSmooth(t *testing.T) {
	for _, weights := range [][]int{{5, 1, 1}, {100, 1, 1, 1, 1}, {30, 20, 10, 7, 3}, {65535, 65534, 1}} {
		s := mustNew(t, Spec{Name: "wrr", Servers: servers(weights...)}, nil)
		total := 0
		for _, w := range weights {
			total += w
		}
		counts := make([]int, len(weights))
		for n := 1; n <= 2000; n++ {
			counts[s.Pick(Client{})]++
			for i, w := range weights {
				if off := float64(counts[i]) - float64(n)*float64(w)/float64(total); off > 3 || off < -3 {
					t.Fatalf("weights %v: after %d picks server %d is %.1f off its share", weights, n, i, off)
				}
			}
		}
	}
}

// The turns of an overloaded server are shared by weight, not all given to its
// neighbour.
func TestRoundRobinSharesTheTurnsOfAnOverloadedServer(t *testing.T) {
	tests := []struct {
		name    string
		weights []int
		want    []int
	}{
		{"rr", []int{1, 1, 1, 1}, []int{0, 400, 400, 400, 0}},
		{"wrr", []int{6, 3, 2, 1}, []int{0, 600, 400, 200, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := servers(tt.weights...)
			overload(&list[0])
			s := mustNew(t, Spec{Name: tt.name, Servers: list}, nil)
			if diff := cmp.Diff(picks(s, 4, 1200), tt.want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

func TestRoundRobinGoesOnAfterAChange(t *testing.T) {
	was := mustNew(t, Spec{Name: "rr", Servers: equal(4)}, nil)
	was.Pick(Client{})
	was.Pick(Client{})
	now := mustNew(t, Spec{Name: "rr", Servers: servers(1, 2, 1, 1)}, was)
	got := []int{now.Pick(Client{}), was.Pick(Client{}), now.Pick(Client{})}
	if diff := cmp.Diff(got, []int{2, 3, 0}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}
