package sched

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHashingKeepsAClientOnItsServer(t *testing.T) {
	for _, name := range []string{"sh", "mh"} {
		list := equal(7)
		s := mustNew(t, Spec{Name: name, Servers: list}, nil)
		again := mustNew(t, Spec{Name: name, Servers: equal(7)}, nil) // as after a restart
		ports := mustNew(t, Spec{Name: name, Servers: list, Port: true}, nil)
		split := 0
		for i := range 1000 {
			c, other := client(i), client(i)
			other.Port++
			at := s.Pick(c)
			if s.Pick(other) != at || again.Pick(c) != at {
				t.Fatalf("%s: client %v went to two servers", name, c)
			}
			if ports.Pick(c) != ports.Pick(other) {
				split++
			}
		}
		if split < 700 { // of 1000 × 6/7
			t.Errorf("%s with the port hashed: only %d of 1000 clients are on several servers", name, split)
		}
	}
}

func TestHashingFollowsWeights(t *testing.T) {
	for _, name := range []string{"sh", "mh"} {
		s := mustNew(t, Spec{Name: name, Servers: servers(100, 300, 600)}, nil)
		counts := picks(s, 3, 60_000)
		for i, want := range []int{6_000, 18_000, 36_000} {
			if off := counts[i] - want; off > 600 || off < -600 {
				t.Errorf("%s: server %d has %d clients, want about %d", name, i, counts[i], want)
			}
		}
	}
}

func TestHashingWithAnOverloadedServer(t *testing.T) {
	for _, name := range []string{"sh", "mh"} {
		list := servers(1, 1, 2, 4)
		before := mustNew(t, Spec{Name: name, Servers: slices.Clone(list)}, nil)
		overload(&list[0])
		strict := mustNew(t, Spec{Name: name, Servers: list}, nil)
		fallback := mustNew(t, Spec{Name: name, Servers: list, Fallback: true}, nil)
		got := make([]int, 5)
		for i := range 8000 {
			c := client(i)
			was, now := before.Pick(c), fallback.Pick(c)
			if was != 0 {
				if now != was || strict.Pick(c) != was {
					t.Fatalf("%s: a client of server %d was moved", name, was)
				}
				continue
			}
			if strict.Pick(c) != -1 {
				t.Fatalf("%s: served without fallback", name)
			}
			got[now]++
		}
		if got[0] != 0 || got[1] == 0 || got[2] < got[1] || got[3] < got[2] {
			t.Errorf("%s: the clients of the overloaded server went to %v, want by weight", name, got)
		}
	}
}

func TestFallbackFindsTheOnlyServerLeft(t *testing.T) {
	list := servers(slices.Repeat([]int{1}, 200)...)
	for i := range list[:199] {
		overload(&list[i])
	}
	for _, name := range []string{"sh", "mh"} {
		s := mustNew(t, Spec{Name: name, Servers: list, Fallback: true}, nil)
		if got := picks(s, 200, 2000)[199]; got != 2000 {
			t.Errorf("%s: %d of 2000 clients found it", name, got)
		}
	}
}

func TestDestinationHashSpreadsServices(t *testing.T) {
	list := equal(4)
	counts := make([]int, 4)
	for i := range 1000 {
		s := mustNew(t, Spec{Name: "dh", Virtual: ip(203, 0, byte(i>>8), byte(i)), Servers: list}, nil)
		at := s.Pick(client(1))
		if s.Pick(client(2)) != at {
			t.Fatal("two clients of one service went to two servers")
		}
		counts[at]++
	}
	for i, n := range counts {
		if n < 200 || n > 300 {
			t.Errorf("server %d has %d of 1000 services", i, n)
		}
	}
}

func TestQuotasAreWithinOneOfTheShare(t *testing.T) {
	tests := []struct {
		weights []int
		size    int
		want    []int
	}{
		{[]int{1, 1}, 10, []int{5, 5}},
		{[]int{1, 2, 1}, 8, []int{2, 4, 2}},
		{[]int{0, 5}, 7, []int{0, 7}},
		{[]int{0, 0}, 7, []int{0, 0}},
		{[]int{3, 1}, 2, []int{2, 0}}, // of 1.5 and 0.5; the hash decides between equals
		{[]int{65535, 1}, 65537, []int{65536, 1}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(quotas(servers(tt.weights...), tt.size), tt.want); diff != "" {
			t.Errorf("quotas of %v (-got +want):\n%s", tt.weights, diff)
		}
	}
}
