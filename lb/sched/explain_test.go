package sched

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestExplainSaysWhatPickDoes asks each algorithm before it picks, in states at
// random.
func TestExplainSaysWhatPickDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			for range 200 {
				spec := Spec{Name: name, Port: random.IntN(2) == 0, Fallback: random.IntN(2) == 0}
				for i := range random.IntN(5) {
					s := Server{Weight: random.IntN(4), Upper: random.IntN(3) * 5, Load: new(Load)}
					s.Addr[10], s.Addr[11], s.Addr[15], s.Port = 0xff, 0xff, byte(i), 80
					for range random.IntN(8) {
						s.Load.Opened()
						if random.IntN(2) == 0 {
							s.Load.Add(1, -1)
						}
					}
					spec.Servers = append(spec.Servers, s)
				}
				s, err := New(spec, nil)
				if err != nil {
					t.Fatal(err)
				}
				for range 5 {
					c := Client{Low: uint64(random.IntN(256)), Port: uint16(random.IntN(1 << 16))}
					want, why := s.Explain(c)
					again, _ := s.Explain(c)
					if got := s.Pick(c); got != want || again != want || why == "" {
						t.Fatalf("%+v: picked %d, explained as %d and %d because of %q", spec, got, want, again, why)
					}
				}
			}
		})
	}
}

func TestExplainSaysWhy(t *testing.T) {
	server := func(n byte, weight, upper, active int) Server {
		s := Server{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 10, 14: 2, 15: n}, Port: 80, Weight: weight, Upper: upper, Load: new(Load)}
		for range active {
			s.Load.Opened()
			s.Load.Add(1, -1)
		}
		return s
	}
	for name, want := range map[string]string{
		"rr":  "the next turn is that of 10.0.2.1:80, which is overloaded, and goes to another by weight",
		"wlc": "the lowest (256 active + inactive) / weight of 10.0.2.2:80 512/2, 10.0.2.3:80 768/1",
		"lc":  "the lowest connections of 10.0.2.2:80 512, 10.0.2.3:80 768",
		"sed": "the lowest (active + 1) / weight of 10.0.2.2:80 3/2, 10.0.2.3:80 4/1",
		"nq":  "the first without active connections, or else the lowest (active + 1) / weight of 10.0.2.2:80 3/2, 10.0.2.3:80 4/1",
		"fo":  "the highest weight of those that are available",
	} {
		s, err := New(Spec{Name: name, Servers: []Server{server(1, 3, 1, 1), server(2, 2, 0, 2), server(3, 1, 0, 3)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if at, why := s.Explain(Client{}); why != want || at != 1 {
			t.Errorf("%s: got %d, %q, want 1, %q", name, at, why, want)
		}
	}
	alone, err := New(Spec{Name: "sh", Servers: []Server{server(1, 1, 1, 1)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "a hash of the client's address leads to 10.0.2.1:80, which is overloaded; without fallback no other takes its place"
	if at, why := alone.Explain(Client{}); at != -1 || !strings.HasPrefix(why, want) {
		t.Errorf("sh: got %d, %q, want -1, %q", at, why, want)
	}
}
