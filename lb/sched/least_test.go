package sched

import "testing"

type load struct{ weight, active, inactive int }

func TestPickByLoad(t *testing.T) {
	tests := []struct {
		scheduler, name string
		servers         []load
		want            int
	}{
		{"lc", "fewest_active", []load{{1, 3, 0}, {1, 1, 0}, {1, 2, 0}}, 1},
		{"lc", "first_of_equals", []load{{1, 1, 1}, {1, 1, 1}}, 0},
		{"lc", "active_counts_256_inactive", []load{{1, 1, 0}, {1, 0, 255}}, 1},
		{"lc", "active_counts_no_more_than_256_inactive", []load{{1, 1, 0}, {1, 0, 257}}, 0},
		{"lc", "weight_does_not_matter", []load{{100, 2, 0}, {1, 1, 0}}, 1},
		{"wlc", "fewest_for_its_weight", []load{{1, 2, 0}, {4, 4, 0}}, 1},
		{"wlc", "same_ratio_is_first", []load{{1, 2, 0}, {2, 4, 0}}, 0},
		{"wlc", "inactive_decides_between_equals", []load{{2, 1, 3}, {2, 1, 2}}, 1},
		{"wlc", "skips_weight_0", []load{{0, 0, 0}, {1, 9, 9}}, 1},
		{"wlc", "large_numbers_do_not_overflow", []load{{65535, 20000, 0}, {1, 20000, 0}}, 0},
		{"sed", "counts_the_coming_connection", []load{{1, 0, 0}, {3, 1, 0}}, 1},
		{"sed", "inactive_does_not_matter", []load{{1, 0, 5}, {1, 0, 0}}, 0},
		{"nq", "idle_server_first", []load{{10, 1, 0}, {1, 0, 9}}, 1},
		{"nq", "none_idle_is_sed", []load{{1, 1, 0}, {3, 2, 0}}, 1},
		{"nq", "idle_but_weight_0", []load{{0, 0, 0}, {1, 1, 0}}, 1},
		{"fo", "highest_weight_whatever_its_load", []load{{1, 0, 0}, {3, 1000, 0}, {2, 0, 0}}, 1},
		{"fo", "first_of_equals", []load{{2, 1, 0}, {2, 0, 0}}, 0},
		{"ovf", "highest_weight_while_it_has_room", []load{{2, 0, 0}, {3, 2, 9}}, 1},
		{"ovf", "full_flows_over_to_the_next", []load{{2, 1, 0}, {3, 3, 0}, {1, 0, 0}}, 0},
		{"ovf", "all_full_is_none", []load{{2, 2, 0}, {3, 3, 0}}, -1},
	}
	for _, tt := range tests {
		t.Run(tt.scheduler+"/"+tt.name, func(t *testing.T) {
			var list []Server
			for i, l := range tt.servers {
				list = append(list, Server{Addr: ip(10, 0, 0, byte(i)), Port: 80, Weight: l.weight, Load: new(Load)})
				setLoad(&list[i], l.active, l.inactive)
			}
			s := mustNew(t, Spec{Name: tt.scheduler, Servers: list}, nil)
			if got := s.Pick(Client{}); got != tt.want {
				t.Errorf("Pick = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestOverflowFillsServersInTheOrderOfTheirWeights(t *testing.T) {
	list := servers(2, 3, 1)
	s := mustNew(t, Spec{Name: "ovf", Servers: list}, nil)
	want := []int{1, 1, 1, 0, 0, 2, -1}
	for i, w := range want {
		got := s.Pick(Client{})
		if got != w {
			t.Fatalf("connection %d went to %d, want %d", i, got, w)
		}
		if got >= 0 {
			setLoad(&list[got], 1, 0)
		}
	}
}

func TestFailoverComesBack(t *testing.T) {
	list := servers(2, 1)
	list[0].Upper, list[0].Lower = 2, 1
	setLoad(&list[0], 2, 0)
	s := mustNew(t, Spec{Name: "fo", Servers: list}, nil)
	if got := s.Pick(Client{}); got != 1 {
		t.Errorf("overloaded: Pick = %d, want 1", got)
	}
	list[0].Load.Add(-1, 0)
	list[0].Load.Add(-1, 0)
	if got := s.Pick(Client{}); got != 0 {
		t.Errorf("relieved: Pick = %d, want 0", got)
	}
}
