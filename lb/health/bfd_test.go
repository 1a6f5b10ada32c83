package health

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

const ms = time.Millisecond

// A wire carries packets between the host, which the Monitor's sessions are spoken from,
// and a neighbor, without taking time for it.
type wire struct {
	host, neighbor netip.Addr

	delivery sync.Mutex // held until a packet is dealt with: none overtakes another

	mu   sync.Mutex
	sent []bfd.Datagram
	ends map[netip.Addr]func(bfd.Datagram)
	last time.Time // that the host was reached
	cut  bool
}

type wireEnd struct {
	*wire
	addr netip.Addr
}

func (w *wire) listen(at netip.Addr) bfd.Listen {
	return func(_ bfd.Kind, receive func(bfd.Datagram)) (bfd.Link, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ends[at] = receive
		return &wireEnd{w, at}, nil
	}
}

func (e *wireEnd) Send(b []byte, to, _ netip.Addr, ttl uint8) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent = append(e.sent, bfd.Datagram{Payload: slices.Clone(b), From: e.addr, To: to, TTL: ttl})
	time.AfterFunc(0, func() {
		e.delivery.Lock()
		defer e.delivery.Unlock()
		e.mu.Lock()
		d := e.sent[0]
		e.sent = e.sent[1:]
		receive := e.ends[d.To]
		if e.cut {
			receive = nil
		}
		if receive != nil && d.To == e.host {
			e.last = time.Now()
		}
		e.mu.Unlock()
		if receive != nil {
			receive(d)
		}
	})
	return nil
}

func (e *wireEnd) Drain() {}

func (e *wireEnd) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ends, e.addr)
	return nil
}

func (w *wire) unplug(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

// lastHeard is when the host was last reached, since the beginning.
func (w *wire) lastHeard(began time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.Sub(began)
}

// A bfdRig is a monitor, and the other end of the session with its servers' host.
type bfdRig struct {
	*watch
	*wire
	peer *bfd.Speaker
	far  *bfd.Session
}

// lively is a session that is lost after 30 ms.
var lively = BFD{MinTx: 10 * ms, MinRx: 10 * ms, IdleTx: time.Second, Mult: 3, TTL: 255}

// bySession is the timing of most tests.
var bySession = Timing{Interval: 2 * time.Second, Timeout: 5 * time.Second, Rise: 1, Fall: 1}

func newBFDRig(t *testing.T) *bfdRig {
	w := &wire{
		host: netip.MustParseAddr("10.0.2.1"), neighbor: real(1).Netip().Addr(), ends: map[netip.Addr]func(bfd.Datagram){},
	}
	r := &bfdRig{wire: w, watch: newWatchBy(t, nil, w.listen(netip.MustParseAddr("10.0.2.1")))}
	r.peer = bfd.NewSpeaker(slog.New(slog.DiscardHandler), w.listen(w.neighbor))
	t.Cleanup(r.peer.Close)
	return r
}

// answer has the neighbor speak BFD, or cease to, which it tells.
func (r *bfdRig) answer(on bool) {
	if on {
		c := bfd.Config(lively)
		c.Neighbor = r.host
		r.far = r.peer.Open(c, nil, func() {})
		return
	}
	r.far.Close()
	r.peer.Sweep()
}

// told returns a service of so many servers with a BFD check each.
func told(b BFD, timing Timing, servers int) Service {
	s := Service{ID: web, Name: "web", Quorum: 1, Damping: 10 * time.Second}
	for i := range servers {
		key := strings.Join([]string{timing.Interval.String(), time.Duration(timing.Rise).String(), b.MinTx.String(), b.MinRx.String()}, " ")
		s.Servers = append(s.Servers, Server{Real: real(uint16(i + 1)), Weight: 1, Checks: []Check{{Key: key, BFD: &b, Timing: timing}}})
	}
	return s
}

func TestBFD(t *testing.T) {
	const second = time.Second
	for name, run := range map[string]func(r *bfdRig){
		"down_after_the_detection_time_to_the_nanosecond": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 2)})
			r.until(8 * second)
			r.expect()
			r.unplug(true)
			lost := r.lastHeard(r.began) + 30*ms
			r.until(lost - 1)
			r.expect()
			r.until(lost)
			r.expect(lost.String()+" server 1 down: bfd: no packet for 30ms", lost.String()+" server 2 down: bfd: no packet for 30ms", lost.String()+" quorum down: weight 0 is left, quorum is 1")
		},
		"up_again_with_the_session": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(70 * second) // it has been up for longer than damping minds
			r.answer(false)
			r.until(80 * second)
			r.answer(true)
			r.until(90 * second)
			st := r.Services()[0].Servers[0]
			if !st.Up || st.Since.Sub(r.began) > 84*second || st.Checks[0].BFD.State != bfd.Up {
				r.Errorf("got %+v", st)
			}
		},
		"a_server_that_never_speaks_is_down_when_patience_is_over": func(r *bfdRig) {
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(5*second - 1)
			r.expect()
			r.until(5 * second)
			r.expect("5s server 1 down: bfd: no packet has come", "5s quorum down: weight 0 is left, quorum is 1")
		},
		"with_alpha_it_is_down_until_the_session_is_up": func(r *bfdRig) {
			timing := bySession
			timing.Alpha = true
			r.Set([]Service{told(lively, timing, 1)})
			if st := r.Services()[0].Servers[0]; st.Up || st.Reason != "bfd: not passed yet" {
				r.Errorf("got %+v", st)
			}
			r.answer(true)
			r.until(4 * second)
			if st := r.Services()[0].Servers[0]; !st.Up {
				r.Errorf("got %+v", st)
			}
		},
		"rise_counts_looks_an_interval_apart": func(r *bfdRig) {
			timing := bySession
			timing.Rise = 3
			r.answer(true)
			r.Set([]Service{told(lively, timing, 1)})
			r.until(70 * second)
			r.answer(false)
			r.until(71 * second)
			r.watch.told = nil
			r.answer(true)
			r.until(90 * second)
			st := r.Services()[0].Servers[0]
			if up := st.Checks[0].BFD.Since; !st.Up || st.Since.Sub(up) != 4*second {
				r.Errorf("up since %v, the session since %v: want 4s between", st.Since.Sub(r.began), up.Sub(r.began))
			}
		},
		"flapping_is_damped": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(70 * second)
			for range 2 {
				r.answer(false)
				r.sleepAndWait(second)
				r.answer(true)
				r.sleepAndWait(4 * second)
			}
			st := r.Services()[0].Servers[0]
			if st.Up || st.Checks[0].BFD.State != bfd.Up || st.Flaps != 1 {
				r.Errorf("got %+v, want it held back", st)
			}
			r.sleepAndWait(10 * second)
			if st := r.Services()[0].Servers[0]; !st.Up {
				r.Errorf("got %+v, want it up after the damping", st)
			}
		},
		"a_session_that_was_down_for_a_moment_counts": func(r *bfdRig) {
			r.answer(true)
			late := bfd.Config(lively)
			late.Neighbor = r.neighbor
			r.speaker.Open(late, nil, func() { time.Sleep(10 * second) }) // has the check wait to be told
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(69 * second)
			r.expect()
			r.answer(false)
			r.answer(true)
			r.until(72 * second)
			r.watch.mu.Lock()
			defer r.watch.mu.Unlock()
			if len(r.told) != 4 || !strings.HasSuffix(r.told[0], "server 1 down: bfd: the session was down for a moment") || !strings.HasSuffix(r.told[2], "server 1 up") {
				r.Errorf("told %q", r.told)
			}
		},
		"a_neighbor_that_ends_its_session_is_down_at_once": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(8 * second)
			r.answer(false)
			synctest.Wait()
			r.expect("8s server 1 down: bfd: the neighbor has taken it down: administratively down", "8s quorum down: weight 0 is left, quorum is 1")
		},
		"other_timers_after_a_reload_take_nothing_down": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(8 * second)
			before := *r.Services()[0].Servers[0].Checks[0].BFD
			slower := lively
			slower.MinTx, slower.MinRx = 100*ms, 200*ms
			r.Set([]Service{told(slower, bySession, 1)})
			r.until(30 * second)
			after := *r.Services()[0].Servers[0].Checks[0].BFD
			if after.Local != before.Local || after.Downs != 0 || after.Interval != 100*ms || after.Detection != 600*ms {
				r.Errorf("got %+v, before it was %+v", after, before)
			}
			r.expect()
		},
		"another_session_after_a_reload_takes_nothing_down": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(8 * second)
			s := told(lively, bySession, 1)
			s.Servers[0].Checks[0].Key += " source 10.0.2.1"
			s.Servers[0].Checks[0].Via.Source = r.host
			r.Set([]Service{s})
			r.until(30 * second)
			if st := r.Services()[0].Servers[0]; !st.Up || st.Checks[0].BFD.State != bfd.Up {
				r.Errorf("got %+v", st)
			}
			r.expect()
		},
		"a_session_ends_with_its_last_check": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 2)})
			r.until(8 * second)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(9 * second)
			if st := r.far.Status(); st.State != bfd.Up {
				r.Errorf("with one check left: %+v", st)
			}
			r.Set(nil)
			synctest.Wait()
			if st := r.far.Status(); st.Why != "the neighbor has taken it down: administratively down" {
				r.Errorf("with none left: %+v", st)
			}
		},
		"what_is_remembered_as_up_holds_until_patience_is_over": func(r *bfdRig) {
			r.Recall(func(ID, packet.Endpoint) *Memory { return &Memory{Up: true, Since: r.began.Add(-time.Hour)} })
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(5*second - 1)
			r.expect()
			r.until(5 * second)
			r.expect("5s server 1 down: bfd: no packet has come", "5s quorum down: weight 0 is left, quorum is 1")
		},
		"a_session_goes_on_where_another_process_has_ended": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(8 * second)
			m, _ := r.Memory(web, real(1))
			if len(m.Sessions) != 1 {
				r.Fatalf("got %+v, want a session in it", m)
			}
			r.speaker.Silence()
			w := newWatchBy(r.watch.T, nil, r.listen(r.host))
			w.Recall(func(ID, packet.Endpoint) *Memory { return &m })
			w.Set([]Service{told(lively, bySession, 1)})
			r.until(20 * second)
			w.expect()
			here, there := w.Services()[0].Servers[0].Checks[0].BFD, r.far.Status()
			if here.Local != m.Sessions[0].Local || here.Downs != 0 || there.Downs != 0 || there.State != bfd.Up {
				r.Errorf("got %+v and %+v", here, there)
			}
		},
		"a_session_whose_neighbor_has_given_up_meanwhile_takes_nothing_down": func(r *bfdRig) {
			r.answer(true)
			r.Set([]Service{told(lively, bySession, 1)})
			r.until(8 * second)
			m, _ := r.Memory(web, real(1))
			r.speaker.Silence()
			r.until(9 * second)
			w := newWatchBy(r.watch.T, nil, r.listen(r.host))
			w.Recall(func(ID, packet.Endpoint) *Memory { return &m })
			w.Set([]Service{told(lively, bySession, 1)})
			r.until(20 * second)
			w.expect()
			if here, there := w.Services()[0].Servers[0].Checks[0].BFD, r.far.Status(); here.State != bfd.Up || here.Downs != 0 || there.Downs != 1 {
				r.Errorf("got %+v and %+v", here, there)
			}
		},
		"what_is_remembered_as_down_holds_until_the_session_is_up": func(r *bfdRig) {
			r.Recall(func(ID, packet.Endpoint) *Memory {
				return &Memory{Since: r.began.Add(-time.Hour), Reason: "bfd: no packet for 30ms"}
			})
			r.Set([]Service{told(lively, bySession, 1)})
			if st := r.Services()[0].Servers[0]; st.Up || st.Reason != "bfd: no packet for 30ms" {
				r.Errorf("got %+v", st)
			}
			r.until(8 * second)
			r.expect()
			r.answer(true)
			r.until(12 * second)
			if st := r.Services()[0].Servers[0]; !st.Up {
				r.Errorf("got %+v", st)
			}
		},
		"signs_of_the_traffic_ask_nothing": func(r *bfdRig) {
			timing := bySession
			timing.Rise = 3
			r.Set([]Service{told(lively, timing, 1)})
			r.until(6 * second)
			r.answer(true)
			r.until(10 * second)
			looks := r.Services()[0].Servers[0].Checks[0].Passed
			for range 10 {
				r.Hasten(web, real(1))
			}
			synctest.Wait()
			if got := r.Services()[0].Servers[0].Checks[0].Passed; got != looks {
				r.Errorf("%d looks, before it were %d", got, looks)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(newBFDRig(t)) })
		})
	}
}

func (r *bfdRig) sleepAndWait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestBFDFromALocalAddress: replies to a local address are the workers', if its pool has
// the port.
func TestBFDFromALocalAddress(t *testing.T) {
	for name, test := range map[string]struct {
		taken PortRange
		want  string
	}{
		"port_of_the_pool": {PortRange{1024, 65535}, "bfd: would be spoken from 10.0.1.10, a local address of fnatd's whose port 3784 is not the kernel's: give another address of the host as source, or take the port out of the pool's"},
		"port_of_the_host": {PortRange{4000, 65535}, "bfd: no packet has come"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := &wire{ends: map[netip.Addr]func(bfd.Datagram){}}
				w := newWatchBy(t, func(netip.Addr) (netip.Addr, PortRange) {
					return netip.MustParseAddr("10.0.1.10"), test.taken
				}, wire.listen(netip.MustParseAddr("10.0.1.10")))
				w.Set([]Service{told(lively, bySession, 1)})
				w.until(6 * time.Second)
				if got := w.Services()[0].Servers[0].Reason; got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}
