package sched

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// servers returns servers 10.0.0.0:80, 10.0.0.1:80 and so on with weights.
func servers(weights ...int) []Server {
	all := make([]Server, len(weights))
	for i, w := range weights {
		all[i] = Server{Addr: ip(10, 0, byte(i>>8), byte(i)), Port: 80, Weight: w, Load: new(Load)}
	}
	return all
}

// equal returns n servers of weight 1.
func equal(n int) []Server { return servers(slices.Repeat([]int{1}, n)...) }

// ip returns an IPv4 address mapped into IPv6.
func ip(a, b, c, d byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: a, 13: b, 14: c, 15: d}
}

// client returns the i-th of many clients.
func client(i int) Client {
	addr := ip(198, 51, byte(i>>8), byte(i))
	return ClientAt(&addr, uint16(i>>16+1024))
}

func mustNew(t testing.TB, s Spec, prev *Scheduler) *Scheduler {
	t.Helper()
	scheduler, err := New(s, prev)
	if err != nil {
		t.Fatal(err)
	}
	return scheduler
}

// picks returns how often each of n servers is picked in a number of times, and
// in the last place how often none is.
func picks(s *Scheduler, n, times int) []int {
	counts := make([]int, n+1)
	for i := range times {
		if at := s.Pick(client(i)); at >= 0 {
			counts[at]++
		} else {
			counts[n]++
		}
	}
	return counts
}

// overload lets s reach its upper threshold.
func overload(s *Server) {
	s.Upper = 1
	s.Load.Opened()
}

// setLoad gives s that many connections.
func setLoad(s *Server, active, inactive int) {
	for range active + inactive {
		s.Load.Opened()
	}
	for range active {
		s.Load.Add(1, -1)
	}
}

func TestNamesAreThoseThatNewKnows(t *testing.T) {
	if got, want := len(Names()), len(constructors); got != want {
		t.Errorf("%d names, %d constructors", got, want)
	}
	for _, name := range Names() {
		mustNew(t, Spec{Name: name, Servers: equal(1)}, nil)
	}
	_, err := New(Spec{Name: "best"}, nil)
	const want = `scheduler "best": unknown (want rr, wrr, lc, wlc, sed, nq, sh, dh, mh, fo, ovf)`
	if err == nil || err.Error() != want {
		t.Errorf("New = %v; want %s", err, want)
	}
}

func TestPickOfEveryScheduler(t *testing.T) {
	all := func(name string, s []Server) *Scheduler { return mustNew(t, Spec{Name: name, Servers: s}, nil) }
	for _, name := range Names() {
		t.Run(name+"/no_servers", func(t *testing.T) {
			if got := all(name, nil).Pick(client(1)); got != -1 {
				t.Errorf("Pick = %d, want -1", got)
			}
		})
		t.Run(name+"/weight_0_drains", func(t *testing.T) {
			s := all(name, servers(0, 3, 0))
			if diff := cmp.Diff(picks(s, 3, 1000), []int{0, 1000, 0, 0}); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
			if got := all(name, servers(0, 0)).Pick(client(1)); got != -1 {
				t.Errorf("all weights 0: Pick = %d, want -1", got)
			}
		})
		t.Run(name+"/overloaded_takes_none", func(t *testing.T) {
			three := servers(3, 2, 1)
			overload(&three[0])
			if got := picks(all(name, three), 3, 1000)[0]; got != 0 {
				t.Errorf("picked %d times", got)
			}
			overload(&three[1])
			overload(&three[2])
			if got := all(name, three).Pick(client(1)); got != -1 {
				t.Errorf("all overloaded: Pick = %d, want -1", got)
			}
		})
		t.Run(name+"/does_not_allocate", func(t *testing.T) {
			three := servers(3, 2, 1)
			s, n := all(name, three), 0
			pick := func() { n++; s.Pick(client(n)) }
			if got := testing.AllocsPerRun(1000, pick); got != 0 {
				t.Errorf("%v allocations", got)
			}
			overload(&three[0])
			overload(&three[1])
			s = all(name, three)
			if got := testing.AllocsPerRun(1000, pick); got != 0 {
				t.Errorf("%v allocations with servers overloaded", got)
			}
		})
	}
}

func TestNewKeepsWhatDidNotChange(t *testing.T) {
	three := equal(3)
	for _, name := range Names() {
		was := mustNew(t, Spec{Name: name, Servers: three}, nil)
		if now := mustNew(t, Spec{Name: name, Servers: slices.Clone(three)}, was); now != was {
			t.Errorf("%s: made anew", name)
		}
		other := slices.Clone(three)
		other[1].Weight = 5
		if now := mustNew(t, Spec{Name: name, Servers: other}, was); now == was {
			t.Errorf("%s: kept with another weight", name)
		}
	}
}

// concurrently calls pick from several goroutines, n times in all, and returns
// how often each of the servers was picked.
func concurrently(s *Scheduler, servers, n int) []int {
	const workers = 8
	counts := make([]int, servers)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			mine := make([]int, servers)
			for i := w; i < n; i += workers {
				mine[s.Pick(client(i))]++
			}
			mu.Lock()
			defer mu.Unlock()
			for i, c := range mine {
				counts[i] += c
			}
		})
	}
	wg.Wait()
	return counts
}

func BenchmarkPick(b *testing.B) {
	for _, name := range Names() {
		for _, n := range []int{2, 10, 100} {
			b.Run(fmt.Sprintf("%s/%d_servers", name, n), func(b *testing.B) {
				s := mustNew(b, Spec{Name: name, Servers: equal(n)}, nil)
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					i++
					s.Pick(client(i))
				}
			})
		}
	}
}
