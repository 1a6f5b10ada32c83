package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// A dial is a probe whose answers a test sets.
type dial struct {
	mu     sync.Mutex
	err    error
	hangs  bool // until its context ends
	result Result
	asked  []time.Time
}

func (d *dial) String() string { return "dial" }

func (d *dial) Probe(ctx context.Context, _ Endpoint) (Result, error) {
	d.mu.Lock()
	d.asked = append(d.asked, time.Now())
	hangs, result, err := d.hangs, d.result, d.err
	d.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return Result{}, ctx.Err()
	}
	return result, err
}

func (d *dial) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

var errRefused = errors.New("refused")

// A watch is a monitor at work and all that it has told.
type watch struct {
	*testing.T
	*Monitor
	began time.Time
	mu    sync.Mutex
	told  []string // "2.5s real up"
}

func newWatch(t *testing.T) *watch { return newWatchBy(t, nil, bfd.UDP) }

func newWatchBy(t *testing.T, source Source, listen bfd.Listen) *watch {
	w := &watch{T: t, began: time.Now()}
	w.Monitor = NewMonitor(source, bfd.NewSpeaker(slog.New(slog.DiscardHandler), listen), func(changes []Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range changes {
			w.told = append(w.told, w.describe(c))
		}
	})
	t.Cleanup(w.Close)
	return w
}

func (w *watch) describe(c Change) string {
	what := fmt.Sprintf("server %d", c.Real.Port)
	if c.Real == (packet.Endpoint{}) {
		what = "quorum"
	}
	at := time.Since(w.began).String()
	switch {
	case !c.Turned:
		return fmt.Sprintf("%s %s weighs %d", at, what, c.Weight)
	case c.Up:
		return fmt.Sprintf("%s %s up", at, what)
	}
	return fmt.Sprintf("%s %s down: %s", at, what, c.Reason)
}

// expect compares what was told since it was last called.
func (w *watch) expect(want ...string) {
	w.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := cmp.Diff(want, w.told); d != "" {
		w.Errorf("told (-want +got):\n%s", d)
	}
	w.told = nil
}

// until sleeps until so long after the beginning, and lets what is due then be done.
func (w *watch) until(d time.Duration) {
	time.Sleep(time.Until(w.began.Add(d)))
	synctest.Wait()
}

func real(port uint16) packet.Endpoint {
	return packet.EndpointFrom(netip.AddrPortFrom(netip.MustParseAddr("10.0.2.11"), port))
}

var web = ID{Proto: packet.ProtoTCP, Virtual: packet.EndpointFrom(netip.MustParseAddrPort("203.0.113.10:80"))}

// every2s is the timing of most tests: a check every 2 s, of which 3 in a row
// take a server down and 2 bring it up, from the first moment on.
var every2s = Timing{Interval: 2 * time.Second, Timeout: time.Second, RetryDelay: time.Second, Rise: 2, Fall: 3}

// service returns a service whose servers have a check each, on ports 1, 2 …
func serviceOf(timing Timing, probes ...Probe) Service {
	s := Service{ID: web, Name: "web", Quorum: 1, Damping: 10 * time.Second}
	for i, p := range probes {
		s.Servers = append(s.Servers, Server{Real: real(uint16(i + 1)), Weight: 1, Checks: []Check{{Key: fmt.Sprint(timing), Probe: p, Timing: timing}}})
	}
	return s
}

func TestServer(t *testing.T) {
	const second = time.Second
	for name, run := range map[string]func(w *watch){
		"goes_down_after_so_many_checks_and_no_earlier": func(w *watch) {
			d := &dial{}
			w.Set([]Service{serviceOf(every2s, d, &dial{})})
			w.until(10*second + 1) // the check of second 10 has passed
			d.set(errRefused)
			w.until(16*second - 1)
			w.expect()
			w.until(16 * second)
			w.expect("16s server 1 down: dial: refused")
		},
		"goes_down_at_most_one_interval_earlier_if_it_stops_just_before_a_check": func(w *watch) {
			d := &dial{}
			w.Set([]Service{serviceOf(every2s, d, &dial{})})
			w.until(12*second - 1)
			d.set(errRefused)
			w.until(16*second - 1)
			w.expect()
			w.until(16 * second)
			w.expect("16s server 1 down: dial: refused")
		},
		"goes_down_when_the_last_check_runs_out_of_time": func(w *watch) {
			d := &dial{}
			w.Set([]Service{serviceOf(every2s, d, &dial{})})
			w.until(10*second + 1)
			d.mu.Lock()
			d.hangs = true
			d.mu.Unlock()
			w.until(17*second - 1)
			w.expect()
			w.until(17 * second)
			w.expect("17s server 1 down: dial: no full answer within 1s")
		},
		"comes_up_after_so_many_checks": func(w *watch) {
			d := &dial{err: errRefused}
			w.Set([]Service{serviceOf(every2s, d, &dial{})})
			w.until(10*second + 1)
			w.expect("4s server 1 down: dial: refused")
			d.set(nil)
			w.until(20 * second)
			w.expect("14s server 1 up")
		},
		"a_failed_check_between_starts_the_count_anew": func(w *watch) {
			d := &dial{}
			w.Set([]Service{serviceOf(every2s, d, &dial{})})
			w.until(second)
			for _, err := range []error{errRefused, errRefused, nil, errRefused, errRefused, nil} {
				d.set(err)
				time.Sleep(2 * second)
			}
			w.expect()
		},
		"retries_before_a_check_has_failed": func(w *watch) {
			timing := every2s
			timing.Interval, timing.Retry, timing.Fall = 10*second, 2, 1
			d := &dial{}
			w.Set([]Service{serviceOf(timing, d, &dial{})})
			w.until(second)
			d.set(errRefused)
			w.until(12*second - 1) // tried at 10 and 11 s
			w.expect()
			w.until(13 * second)
			w.expect("12s server 1 down: dial: refused")
			w.until(21 * second)
			var asked []time.Duration
			for _, at := range d.asked {
				asked = append(asked, at.Sub(w.began))
			}
			if diff := cmp.Diff([]time.Duration{0, 10 * second, 11 * second, 12 * second, 20 * second, 21 * second}, asked); diff != "" {
				w.Errorf("attempts (-want +got):\n%s", diff)
			}
		},
		"passes_when_a_retry_does": func(w *watch) {
			timing := every2s
			timing.Interval, timing.Retry, timing.Fall = 10*second, 1, 1
			d := &dial{err: errRefused}
			w.Set([]Service{serviceOf(timing, d, &dial{})})
			w.until(second / 2)
			d.set(nil)
			w.until(9 * second)
			w.expect()
		},
		"must_pass_all_of_its_checks": func(w *watch) {
			good, bad := &dial{}, &dial{}
			s := serviceOf(every2s, good, &dial{})
			s.Servers[0].Checks = append(s.Servers[0].Checks, Check{Probe: bad, Timing: every2s})
			w.Set([]Service{s})
			w.until(second)
			bad.set(errRefused)
			w.until(9 * second)
			w.expect("6s server 1 down: dial: refused")
			bad.set(nil)
			w.until(12 * second)
			w.expect("12s server 1 up")
		},
		"with_alpha_is_down_until_it_has_passed_once": func(w *watch) {
			timing := every2s
			timing.Alpha = true
			d := &dial{err: errRefused}
			w.Set([]Service{serviceOf(timing, d, &dial{})})
			w.Look(func(l Look) {
				s := serviceOf(timing, d, &dial{})
				if quorum, ok := l.Quorum(s.ID); quorum || !ok {
					w.Error("got a quorum, want none before a server has passed")
				}
				for i, r := range s.Servers {
					if st, ok := l.State(s.ID, i, r.Real); st.Up || !ok {
						w.Errorf("server %v: got %+v, want it down at first", r.Real, st)
					}
				}
			})
			w.expect("0s server 2 up", "0s quorum up")
			w.until(second)
			d.set(nil)
			w.until(5 * second)
			w.expect("4s server 1 up") // it had failed before, so it has to pass twice
		},
		"without_checks_is_up": func(w *watch) {
			w.Set([]Service{{ID: web, Quorum: 1, Servers: []Server{{Real: real(1), Weight: 1}}}})
			w.until(100 * second)
			w.expect()
		},
		"takes_its_weight_from_a_check": func(w *watch) {
			d := &dial{result: Result{Weighted: true, Weight: 7}}
			w.Set([]Service{serviceOf(every2s, d)})
			w.expect("0s server 1 weighs 7")
			w.until(second)
			d.mu.Lock()
			d.result = Result{Weighted: true}
			d.mu.Unlock()
			w.until(3 * second)
			w.expect("2s server 1 weighs 0", "2s quorum down: weight 0 is left, quorum is 1")
			d.mu.Lock()
			d.result = Result{}
			d.mu.Unlock()
			w.until(5 * second)
			w.expect("4s server 1 weighs 1", "4s quorum up")
		},
		"is_down_when_a_check_of_it_breaks": func(w *watch) {
			timing := every2s
			timing.Fall = 1
			w.Set([]Service{serviceOf(timing, broken{}, &dial{})})
			w.expect("0s server 1 down: broken: the check itself broke, a bug of fnatd's: oh")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(newWatch(t)) })
		})
	}
}

type broken struct{}

func (broken) String() string                                  { return "broken" }
func (broken) Probe(context.Context, Endpoint) (Result, error) { panic("oh") }

func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		timing := every2s
		timing.Interval, timing.Rise, timing.Fall = time.Second, 1, 1
		d := &dial{err: errRefused}
		w.Set([]Service{serviceOf(timing, d, &dial{})})
		w.expect("0s server 1 down: dial: refused")
		// Passes three checks and fails the fourth, again and again until second 480.
		go func() {
			time.Sleep(time.Second / 2)
			for range 120 {
				d.set(nil)
				time.Sleep(3 * time.Second)
				d.set(errRefused)
				time.Sleep(time.Second)
			}
			d.set(nil)
		}()
		w.until(302 * time.Second)
		// From the second time on it would have to pass for 10 s.
		w.expect("1s server 1 up", "4s server 1 down: dial: refused")
		st := w.Services()[0].Servers[0]
		if st.Up || st.Flaps != 1 || st.Held.IsZero() || !strings.Contains(st.Reason, "held back") {
			t.Errorf("got %+v, want it held back for one flap", st)
		}
		w.until(600 * time.Second)
		w.expect("8m10s server 1 up") // 10 s after it failed for the last time
	})
}

func TestFlappingIsHeldLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		timing := every2s
		timing.Interval, timing.Rise, timing.Fall = time.Second, 1, 1
		d := &dial{}
		w.Set([]Service{serviceOf(timing, d, &dial{})})
		up := func() bool { return w.Services()[0].Servers[0].Up }
		var held []time.Duration
		for range 10 {
			time.Sleep(time.Millisecond)
			d.set(errRefused)
			time.Sleep(time.Second)
			d.set(nil)
			went := time.Now()
			for !up() {
				time.Sleep(time.Second)
			}
			held = append(held, time.Since(went).Round(time.Second))
		}
		want := []time.Duration{1, 10, 20, 40, 80, 160, 320, 640, 640, 640}
		for i := range want {
			want[i] *= time.Second
		}
		if d := cmp.Diff(want, held); d != "" {
			t.Errorf("times out (-want +got):\n%s", d)
		}
		// After a good hour nothing is held against it.
		time.Sleep(time.Hour)
		d.set(errRefused)
		time.Sleep(time.Second)
		d.set(nil)
		time.Sleep(2 * time.Second)
		if !up() {
			t.Error("after an hour: got it down, want it up at once")
		}
	})
}

func TestQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		timing := every2s
		timing.Interval, timing.Rise, timing.Fall = time.Second, 1, 1
		var probes []Probe
		var dials []*dial
		for range 5 {
			d := &dial{}
			dials = append(dials, d)
			probes = append(probes, d)
		}
		s := serviceOf(timing, probes...)
		s.Quorum, s.Hysteresis, s.Damping = 3, 1, 0
		w.Set([]Service{s})
		set := func(err error, at time.Duration, which ...int) {
			w.until(at)
			for _, i := range which {
				dials[i].set(err)
			}
		}
		set(errRefused, 500*time.Millisecond, 0, 1, 2)
		w.until(1500 * time.Millisecond)
		synctest.Wait()
		w.mu.Lock()
		told := strings.Join(w.told, "\n")
		w.told = nil
		w.mu.Unlock()
		if strings.Contains(told, "quorum") {
			t.Errorf("2 of weight 1 are left, quorum 3 less 1: got\n%s\nwant it kept", told)
		}
		set(errRefused, 1500*time.Millisecond, 3)
		w.until(2500 * time.Millisecond)
		w.expect("2s server 4 down: dial: refused", "2s quorum down: weight 1 is left, quorum is 3")
		set(nil, 2500*time.Millisecond, 0)
		w.until(3500 * time.Millisecond)
		w.expect("3s server 1 up")
		set(nil, 3500*time.Millisecond, 1)
		w.until(4500 * time.Millisecond)
		w.expect("4s server 2 up") // 3 are up, quorum 3 and 1 more
		set(nil, 4500*time.Millisecond, 2)
		w.until(5500 * time.Millisecond)
		w.expect("5s server 3 up", "5s quorum up")
	})
}

func TestHasten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		timing := every2s
		timing.Interval = 20 * time.Second
		d := &dial{}
		w.Set([]Service{serviceOf(timing, d, &dial{})})
		w.until(10 * time.Second)
		d.set(errRefused)
		for range 30 { // signs come all the time
			w.Hasten(web, real(1))
			time.Sleep(time.Second)
		}
		w.expect("20s server 1 down: dial: refused") // at 10, 15 and 20 s instead of 20, 40 and 60 s
		w.Hasten(web, real(99))
		w.Hasten(ID{}, real(1))
		w.expect()
	})
}

func TestSet(t *testing.T) {
	for name, run := range map[string]func(w *watch, d *dial){
		"same_services_change_nothing": func(w *watch, d *dial) {
			for range 50 { // more often than checks are due
				w.Set([]Service{serviceOf(every2s, d, &dial{})})
				time.Sleep(100 * time.Millisecond)
			}
			synctest.Wait()
			if n := len(d.asked); n < 2 || n > 3 {
				w.Errorf("got %d attempts in 5 s, want one every 2 s", n)
			}
			w.expect()
		},
		"a_server_that_is_down_stays_down": func(w *watch, d *dial) {
			d.set(errRefused)
			w.until(5 * time.Second)
			w.expect("4s server 1 down: dial: refused")
			timing := every2s
			timing.Interval = 3 * time.Second // another check, of which nothing is known
			w.Set([]Service{serviceOf(timing, d, &dial{})})
			w.expect()
			d.set(nil)
			w.until(12 * time.Second)
			w.expect("11s server 1 up")
		},
		"a_check_more_does_not_take_a_server_down": func(w *watch, d *dial) {
			timing := every2s
			timing.Alpha = true
			s := serviceOf(every2s, d, &dial{})
			s.Servers[0].Checks = append(s.Servers[0].Checks, Check{Key: "more", Probe: &dial{err: errRefused}, Timing: timing})
			w.Set([]Service{s})
			w.until(3 * time.Second)
			w.expect()
			w.until(5 * time.Second)
			w.expect("4s server 1 down: dial: refused")
		},
		"a_server_whose_checks_are_gone_comes_up": func(w *watch, d *dial) {
			d.set(errRefused)
			w.until(5 * time.Second)
			w.expect("4s server 1 down: dial: refused")
			s := serviceOf(every2s, d, &dial{})
			s.Servers[0].Checks = nil
			w.Set([]Service{s})
			w.expect("5s server 1 up")
		},
		"what_is_gone_is_not_asked_any_more": func(w *watch, d *dial) {
			w.until(time.Second)
			w.Set(nil)
			asked := len(d.asked)
			w.until(time.Minute)
			if len(d.asked) != asked || len(w.Services()) != 0 {
				w.Errorf("got %d attempts more and %v, want none", len(d.asked)-asked, w.Services())
			}
		},
		"a_flapping_server_is_held_on": func(w *watch, d *dial) {
			timing := every2s
			timing.Interval, timing.Rise, timing.Fall = time.Second, 1, 1
			set := func() { w.Set([]Service{serviceOf(timing, d, &dial{})}) }
			set()
			time.Sleep(time.Second / 2)
			for _, err := range []error{errRefused, nil, errRefused, nil} {
				d.set(err)
				time.Sleep(time.Second)
			}
			for range 4 {
				set()
				time.Sleep(time.Second)
			}
			if st := w.Services()[0].Servers[0]; st.Up || st.Flaps != 1 {
				w.Errorf("got %+v, want it held", st)
			}
		},
		"quorum_follows_new_servers": func(w *watch, d *dial) {
			s := serviceOf(every2s, d, &dial{})
			s.Quorum = 3
			w.Set([]Service{s})
			w.expect("0s quorum down: weight 2 is left, quorum is 3")
			s = serviceOf(every2s, d, &dial{}, &dial{})
			s.Quorum = 3
			w.Set([]Service{s})
			w.expect("0s quorum up")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, d := newWatch(t), &dial{}
				w.Set([]Service{serviceOf(every2s, d, &dial{})})
				run(w, d)
			})
		})
	}
}

// TestThousandsOfChecks has as many checks as a large site, and sees that none
// is forgotten or made twice.
func TestThousandsOfChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		var services []Service
		var dials []*dial
		timing := every2s
		timing.Warmup = 2 * time.Second
		for i := range 1000 {
			s := Service{ID: ID{Proto: packet.ProtoTCP, Virtual: real(uint16(i))}, Quorum: 1}
			for j := range 10 {
				d := &dial{}
				dials = append(dials, d)
				s.Servers = append(s.Servers, Server{Real: real(uint16(j)), Weight: 1, Checks: []Check{{Probe: d, Timing: timing}}})
			}
			services = append(services, s)
		}
		w.Set(services)
		w.until(20*time.Second - 1)
		for i, d := range dials {
			if len(d.asked) != 10 {
				t.Fatalf("check %d: got %d attempts in 20 s, want 10", i, len(d.asked))
			}
		}
		w.expect()
	})
}
