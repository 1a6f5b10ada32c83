package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestSpeaker(t *testing.T) {
	for name, run := range map[string]func(t *testing.T){
		"comes_up_within_three_slow_intervals": func(t *testing.T) {
			p := newPair(t, usual(), mirrored(usual(), addrA))
			p.sleep(3 * time.Second)
			p.expect(p.ha, "up")
			p.expect(p.hb, "up")
			if a, b := p.ha.Status(), p.hb.Status(); a.Remote != b.Local || b.Remote != a.Local || a.Local == 0 || b.Local == 0 {
				t.Errorf("discriminators: %x knows %x, %x knows %x", a.Local, a.Remote, b.Local, b.Remote)
			}
		},
		"slow_until_up": func(t *testing.T) {
			p := newPair(t, usual(), mirrored(usual(), addrA))
			p.disturb(p.cut, addrA, true)
			p.sleep(20 * time.Second)
			sent := p.sentBy(addrA, time.Second)
			for i, f := range sent {
				if f.MinTx < 1_000_000 {
					t.Errorf("says %d µs while down, want a second at least", f.MinTx)
				}
				if i > 0 && f.at-sent[i-1].at < 750*ms {
					t.Errorf("two packets within %v", f.at-sent[i-1].at)
				}
			}
			if len(sent) < 19 || len(sent) > 26 {
				t.Errorf("%d packets in 19 s", len(sent))
			}
			p.expect(p.ha, "down: no packet has come")
		},
		"lost_after_the_detection_time_to_the_nanosecond": func(t *testing.T) {
			p := upPair(t, usual())
			last := p.stop()
			time.Sleep(last + 30*ms - p.now() - 1)
			p.expect(p.ha, "up")
			time.Sleep(1)
			p.expect(p.ha, "down: no packet for 30ms")
			if st := p.ha.Status(); st.Diag != TimeExpired || st.Downs != 1 || st.Remote != 0 {
				t.Errorf("got %+v", st)
			}
		},
		"detection_time_is_made_of_the_neighbors_multiplier_and_the_slower_interval": func(t *testing.T) {
			slow := mirrored(usual(), addrA)
			slow.MinTx, slow.Mult = 200*ms, 7
			p := newPair(t, usual(), slow)
			p.sleep(5 * time.Second)
			if got := p.ha.Status().Detection; got != 1400*ms {
				t.Errorf("A's: got %v, want 1.4s", got)
			}
			if got := p.hb.Status().Detection; got != 30*ms {
				t.Errorf("B's: got %v, want 30ms", got)
			}
			last := p.stop()
			time.Sleep(last + 1400*ms - p.now() - 1)
			p.expect(p.ha, "up")
			time.Sleep(1)
			p.expect(p.ha, "down: no packet for 1.4s")
		},
		"no_more_packets_than_the_neighbor_can_take": func(t *testing.T) {
			slow := mirrored(usual(), addrA)
			slow.MinRx = 300 * ms
			p := newPair(t, usual(), slow)
			p.sleep(5 * time.Second)
			from := p.now()
			p.sleep(3 * time.Second)
			if n := len(p.sentBy(addrA, from)); n < 10 || n > 13 { // 3 s / 300 ms, and jitter of up to a quarter
				t.Errorf("%d packets in 3 s", n)
			}
		},
		"jitter":        func(t *testing.T) { jitter(t, 3, 100) },
		"jitter_of_one": func(t *testing.T) { jitter(t, 1, 90) },
		"neighbor_that_signals_down": func(t *testing.T) {
			p := upPair(t, usual())
			p.disturb(p.cut, addrB, true) // B no longer hears A, but A hears B
			p.sleep(100 * ms)
			p.expect(p.hb, "down: no packet for 30ms")
			p.expect(p.ha, "down: the neighbor says that it is down: control detection time expired")
			if st := p.ha.Status(); st.Diag != NeighborDown || st.RemoteDiag != TimeExpired {
				t.Errorf("got %+v", st)
			}
			p.disturb(p.cut, addrB, false)
			p.sleep(3 * time.Second)
			p.expect(p.ha, "up")
			p.expect(p.hb, "up")
		},
		"neighbor_that_takes_it_down": func(t *testing.T) {
			p := upPair(t, usual())
			p.hb.Close()
			p.b.Sweep()
			p.sleep(latency)
			p.expect(p.ha, "down: the neighbor has taken it down: administratively down")
			p.sleep(5 * time.Second)
			if n := len(p.sentBy(addrB, p.now()-time.Second)); n != 0 {
				t.Errorf("%d packets of a session that has ended", n)
			}
			p.hb = p.b.Open(mirrored(usual(), addrA), nil, func() {})
			p.sleep(3 * time.Second)
			p.expect(p.ha, "up")
		},
		"taken_up_again_before_the_neighbor_has_forgotten_it": func(t *testing.T) {
			p := upPair(t, usual())
			p.hb.Close()
			p.b.Sweep()
			p.sleep(latency)
			p.hb = p.b.Open(mirrored(usual(), addrA), nil, func() {})
			p.sleep(3 * time.Second)
			p.expect(p.ha, "up")
			p.expect(p.hb, "up")
		},
		"a_clean_stop_tells_the_neighbor": func(t *testing.T) {
			p := upPair(t, usual())
			p.b.Close()
			p.sleep(latency)
			p.expect(p.ha, "down: the neighbor has taken it down: administratively down")
		},
		"passive_waits_for_the_neighbor": func(t *testing.T) {
			passive := usual()
			passive.Passive = true
			p := newPair(t, passive, mirrored(usual(), addrA))
			p.disturb(p.cut, addrA, true)
			p.sleep(10 * time.Second)
			if n := len(p.sentBy(addrA, 0)); n != 0 {
				t.Errorf("%d packets before it has heard any", n)
			}
			p.disturb(p.cut, addrA, false)
			p.sleep(3 * time.Second)
			p.expect(p.ha, "up")
			p.expect(p.hb, "up")
			p.stop()
			p.sleep(time.Second)
			from := p.now()
			p.sleep(10 * time.Second)
			if n := len(p.sentBy(addrA, from)); n != 0 {
				t.Errorf("%d packets to a neighbor that is lost", n)
			}
		},
		"two_passive_ends_never_come_up": func(t *testing.T) {
			passive := usual()
			passive.Passive = true
			p := newPair(t, passive, mirrored(passive, addrA))
			p.sleep(10 * time.Second)
			p.expect(p.ha, "down: no packet has come")
		},
		"what_has_come_and_was_not_read_counts": func(t *testing.T) {
			p := upPair(t, usual())
			p.disturb(p.busy, addrA, true)
			p.sleep(time.Second)
			p.expect(p.ha, "up")
			p.stop()
			p.sleep(2 * 30 * ms) // the last ones count from when they were read
			p.expect(p.ha, "down: no packet for 30ms")
		},
		"another_process_goes_on_and_the_neighbor_notices_nothing": func(t *testing.T) {
			p := upPair(t, usual())
			m, up := p.ha.Memory()
			if !up {
				t.Fatal("nothing to remember")
			}
			p.a.Silence()
			p.sleep(10 * ms)
			told := 0
			h := p.speaker(addrA).Open(usual(), &m, func() { told++ })
			if st := h.Status(); st.State != Up || st.Ups != 0 {
				t.Errorf("before a packet has come: %+v", st)
			}
			p.sleep(5 * time.Second)
			a, b := h.Status(), p.hb.Status()
			if a.State != Up || a.Ups != 1 || a.Local != m.Local || told != 1 || b.Downs != 0 || b.Remote != m.Local {
				t.Errorf("told %d times, got %+v and %+v", told, a, b)
			}
		},
		"another_process_comes_too_late": func(t *testing.T) {
			p := upPair(t, usual())
			m, _ := p.ha.Memory()
			p.a.Silence()
			p.sleep(time.Minute)
			p.expect(p.hb, "down: no packet for 30ms")
			h := p.speaker(addrA).Open(usual(), &m, func() {})
			p.sleep(4 * time.Second)
			p.expect(h, "up")
			p.expect(p.hb, "up")
		},
		"another_process_and_the_neighbor_is_gone": func(t *testing.T) {
			p := upPair(t, usual())
			m, _ := p.ha.Memory()
			p.a.Silence()
			p.b.Silence()
			h := p.speaker(addrA).Open(usual(), &m, func() {})
			p.sleep(time.Second)
			p.expect(h, "down: no packet for 30ms")
		},
		"a_session_that_is_not_up_is_not_remembered": func(t *testing.T) {
			a := newAir(t)
			h := a.speaker(addrA).Open(usual(), nil, func() {})
			if m, up := h.Memory(); up {
				t.Errorf("got %+v", m)
			}
			h = a.speaker(addrB).Open(mirrored(usual(), addrA), &Memory{Local: 7}, func() {})
			if st := h.Status(); st.State != Down || st.Local == 7 {
				t.Errorf("of a memory without a neighbor: %+v", st)
			}
		},
		"one_session_for_all_who_want_it": func(t *testing.T) {
			p := upPair(t, usual())
			told := 0
			other := p.a.Open(usual(), nil, func() { told++ })
			p.expect(other, "up")
			p.ha.Close()
			p.a.Sweep()
			p.sleep(time.Second)
			p.expect(other, "up")
			p.stop()
			p.sleep(time.Second)
			if told != 1 || len(p.told) != 1 {
				t.Errorf("told %d times, and who has left %v", told, p.told)
			}
		},
		"sockets_are_closed_with_the_last_session": func(t *testing.T) {
			p := upPair(t, usual())
			p.ha.Close()
			p.a.Sweep()
			p.sleep(5 * time.Second) // until the neighbor has heard of it
			if p.closed != 1 {
				t.Errorf("%d sockets are closed, want 1", p.closed)
			}
		},
		"a_port_that_is_taken_is_tried_again": func(t *testing.T) {
			a := newAir(t)
			a.refuse = errors.New("taken")
			sp, other := a.speaker(addrA), a.speaker(addrB)
			if err := sp.Listen([]Key{usual().Key}); err == nil || err.Error() != "taken" {
				t.Errorf("got %v, want taken", err)
			}
			h := sp.Open(usual(), nil, func() {})
			a.sleep(5 * time.Second)
			a.expect(h, "down: taken")
			a.refuse = nil
			other.Open(mirrored(usual(), addrA), nil, func() {})
			a.sleep(4 * time.Second)
			a.expect(h, "up")
		},
		"what_cannot_be_sent_is_told": func(t *testing.T) {
			a := newAir(t)
			c := usual()
			c.Neighbor = netip.MustParseAddr("10.255.0.1")
			h := a.speaker(addrA).Open(c, nil, func() {})
			a.sleep(time.Second)
			a.expect(h, "down: cannot send: network is unreachable")
		},
		"thousands": func(t *testing.T) {
			a := newAir(t)
			hub := a.speaker(addrA)
			var all []*Session
			c := usual()
			c.MinTx, c.MinRx = time.Second, time.Second
			for i := range 2000 {
				addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
				a.speaker(addr).Open(mirrored(c, addrA), nil, func() {})
				one := c
				one.Neighbor = addr
				all = append(all, hub.Open(one, nil, func() {}))
			}
			a.sleep(5 * time.Second)
			for _, h := range all {
				if st := h.Status(); st.State != Up {
					t.Fatalf("%v is %v: %s", h.of.Neighbor, st.State, st.Why)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, run) })
	}
}

// jitter looks at the times between the packets of a session with a multiplier.
func jitter(t *testing.T, mult uint8, most int) {
	c := usual()
	c.Mult, c.MinTx, c.MinRx = mult, 100*ms, 100*ms
	lone := mirrored(usual(), addrA)
	lone.Mult, lone.MinTx, lone.MinRx = 50, 100*ms, 100*ms // A loses nothing
	p := newPair(t, c, lone)
	p.sleep(5 * time.Second)
	from := p.now()
	p.sleep(60 * time.Second)
	sent := p.sentBy(addrA, from)
	var least, greatest time.Duration
	for i := 1; i < len(sent); i++ {
		gap := sent[i].at - sent[i-1].at
		if greatest = max(greatest, gap); least == 0 || gap < least {
			least = gap
		}
	}
	lowest, highest := 75*ms, time.Duration(most)*ms
	if least < lowest || greatest > highest || least > lowest+2*ms || greatest < highest-2*ms {
		t.Errorf("gaps of %v to %v, want them spread over %v to %v", least, greatest, lowest, highest)
	}
}

// TestReception goes through what a session does not take (RFC 5880, section 6.8.6), of
// packets that Parse does.
func TestReception(t *testing.T) {
	other := netip.MustParseAddr("10.0.2.12")
	for name, test := range map[string]struct {
		from   netip.Addr
		ttl    uint8
		change func(p *Packet, b []byte) []byte
		want   string // the session is then
	}{
		"the_neighbors":                        {addrB, 255, nil, "init: the neighbor is down"},
		"from_one_hop_away":                    {addrB, 254, nil, "down: a packet of the neighbor's is dropped: it has come with a TTL of 254, want at least 255"},
		"from_somebody_else":                   {other, 255, nil, "down: no packet has come"},
		"not_valid":                            {addrB, 255, func(_ *Packet, b []byte) []byte { b[2] = 0; return b }, "down: a packet of the neighbor's is dropped: its detection multiplier is 0"},
		"not_valid_from_somebody_else":         {other, 255, func(_ *Packet, b []byte) []byte { b[2] = 0; return b }, "down: no packet has come"},
		"authenticated":                        {addrB, 255, func(_ *Packet, b []byte) []byte { b[1] |= bitAuth; b[3] = 26; return append(b, 0, 0) }, "down: a packet of the neighbor's is dropped: it is authenticated, which fnatd is not able to check"},
		"of_another_session":                   {addrB, 255, func(p *Packet, _ []byte) []byte { p.Your++; return p.Append(nil) }, "down: no packet has come"},
		"by_discriminator_from_anywhere":       {other, 255, func(p *Packet, _ []byte) []byte { return p.Append(nil) }, "init: the neighbor is down"},
		"by_discriminator_init":                {addrB, 255, func(p *Packet, _ []byte) []byte { p.State = Init; return p.Append(nil) }, "up"},
		"up_while_we_are_down_changes_nothing": {addrB, 255, func(p *Packet, _ []byte) []byte { p.State = Up; return p.Append(nil) }, "down: the neighbor is up"},
		"admin_down_while_we_are_down":         {addrB, 255, func(p *Packet, _ []byte) []byte { p.State = AdminDown; return p.Append(nil) }, "down: the neighbor is admin-down"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAir(t)
				h := a.speaker(addrA).Open(usual(), nil, func() {})
				a.sleep(time.Second)
				p := Packet{State: Down, Mult: 3, My: 9, MinTx: 1_000_000, MinRx: 1_000_000}
				b := p.Append(nil)
				if test.change != nil {
					p.Your = h.Status().Local
					b = test.change(&p, b)
				}
				a.inject(test.from, test.ttl, b)
				a.expect(h, test.want)
			})
		})
	}
}

// TestStates goes through RFC 5880, section 6.8.6's table, from each state with each that
// the neighbor may say.
func TestStates(t *testing.T) {
	table := map[State][4]State{ // by what the neighbor says: admin-down, down, init, up
		Down: {Down, Init, Up, Down},
		Init: {Down, Init, Up, Up},
		Up:   {Down, Down, Up, Up},
	}
	for from, row := range table {
		for said, want := range row {
			t.Run(fmt.Sprintf("%v_hears_%v", from, State(said)), func(t *testing.T) {
				s := newSession(usual(), 1, time.Now())
				s.state = from
				s.receive(&Packet{State: State(said), Mult: 3, My: 9, Your: 1, MinTx: 10_000, MinRx: 10_000}, time.Now())
				if s.state != want {
					t.Errorf("got %v, want %v", s.state, want)
				}
				if want == Down && from != Down && s.diag != NeighborDown {
					t.Errorf("diagnostic %v, want %v", s.diag, NeighborDown)
				}
			})
		}
	}
}

func TestMultihop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := usual()
		c.Multihop, c.MaxHops = true, 2
		p := upPair(t, c)
		other := usual()
		other.Neighbor = netip.MustParseAddr("10.0.2.99")
		p.a.Open(other, nil, func() {}) // for its port
		id := p.ha.Status().Local
		intruder := Packet{State: AdminDown, Mult: 3, My: 7, Your: id, MinTx: 1_000_000, MinRx: 1_000_000}
		for _, test := range []struct {
			multihop bool
			ttl      uint8
			want     string
		}{
			{false, 255, "up"}, // a session of one port is none of the other's
			{true, 252, "up"},
			{true, 253, "down: the neighbor has taken it down: none"},
		} {
			p.deliver(end{Kind{Multihop: test.multihop}, addrA}, Datagram{intruder.Append(nil), addrB, addrA, test.ttl})
			p.sleep(latency)
			p.expect(p.ha, test.want)
		}
	})
}

// TestSources: two sessions with one neighbor are told apart by our addresses.
func TestSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAir(t)
		sp := a.speaker(addrA)
		any, bound := usual(), usual()
		bound.Source = addrA
		hAny, hBound := sp.Open(any, nil, func() {}), sp.Open(bound, nil, func() {})
		a.sleep(time.Second)
		p := Packet{State: Down, Mult: 3, My: 9, MinTx: 1_000_000, MinRx: 1_000_000}
		a.inject(addrB, 255, p.Append(nil))
		a.expect(hAny, "down: no packet has come")
		a.expect(hBound, "init: the neighbor is down")
		a.deliver(end{Kind{}, addrA}, Datagram{p.Append(nil), addrB, netip.MustParseAddr("10.0.9.9"), 255})
		a.sleep(latency)
		a.expect(hAny, "init: the neighbor is down")
	})
}
