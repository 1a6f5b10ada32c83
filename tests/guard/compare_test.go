package main

import (
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	packet, allocs := measure{"p", "best-ns/packet"}, measure{"p", "allocs/op"}
	old := map[measure][]float64{
		packet: {100, 101, 99, 100, 102, 100, 101, 99, 100, 103},
		allocs: {0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	}
	scaled := func(by float64) []float64 {
		var all []float64
		for i, v := range old[packet] {
			all = append(all, by*v+float64(i)/100)
		}
		return all
	}
	none := old[allocs]
	for name, test := range map[string]struct {
		new  map[measure][]float64
		want string
	}{
		"same":                {map[measure][]float64{packet: scaled(1), allocs: none}, ""},
		"faster":              {map[measure][]float64{packet: scaled(0.5), allocs: none}, ""},
		"a_little_slower":     {map[measure][]float64{packet: scaled(1.03), allocs: none}, ""},
		"slower":              {map[measure][]float64{packet: scaled(1.2), allocs: none}, "best-ns/packet"},
		"slower_now_and_then": {map[measure][]float64{packet: {99, 100, 150, 98, 160, 100, 99, 170, 100, 101}, allocs: none}, ""},
		"allocates":           {map[measure][]float64{packet: scaled(1), allocs: {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}, "allocs/op"},
		"benchmark_gone":      {map[measure][]float64{packet: scaled(1)}, "not measured any more"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := compare(&out, old, test.new)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want no loss", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want a loss of %q", err, test.want)
			}
		})
	}
}

func TestNewBenchmarkIsNoLoss(t *testing.T) {
	var out strings.Builder
	if err := compare(&out, nil, map[measure][]float64{{"p", "allocs/op"}: {0}}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "new") {
		t.Errorf("got %q, want it to say that it is new", out.String())
	}
}
