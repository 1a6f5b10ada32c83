package bfd

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPoll changes the timers of sessions that are up (RFC 5880, section 6.8.3).
func TestPoll(t *testing.T) {
	for name, run := range map[string]func(t *testing.T){
		"a_longer_transmit_interval_waits_for_the_answer": func(t *testing.T) {
			c := usual()
			c.Mult = 10
			p := upPair(t, c)
			slower := c
			slower.MinTx = 400 * ms
			p.disturb(p.cut, addrB, true) // for less than the detection time of 100 ms
			from := p.now()
			p.a.Open(slower, nil, func() {})
			p.sleep(20 * ms)
			p.disturb(p.cut, addrB, false)
			sent := p.sentBy(addrA, from)
			if len(sent) < 3 {
				t.Errorf("%d packets in 20 ms without an answer, want the old interval of 10 ms", len(sent))
			}
			for _, f := range sent {
				if !f.Poll || f.MinTx != 400_000 {
					t.Errorf("got %+v, want a Poll that says 400 ms", f)
				}
			}
			p.sleep(20 * ms)
			if got := p.ha.Status().Interval; got != 400*ms {
				t.Errorf("interval after the answer: got %v, want 400ms", got)
			}
			if got := p.hb.Status().Detection; got != 4*time.Second {
				t.Errorf("B's detection time: got %v, want 4s", got)
			}
			from = p.now()
			p.sleep(5 * time.Second)
			for _, f := range p.sentBy(addrA, from) {
				if f.Poll {
					t.Error("a Poll after the answer")
				}
			}
			if a, b := p.ha.Status(), p.hb.Status(); a.Downs+b.Downs > 0 {
				t.Errorf("down %d and %d times", a.Downs, b.Downs)
			}
		},
		"a_shorter_transmit_interval_counts_at_once": func(t *testing.T) {
			slow := usual()
			slow.MinTx = 900 * ms
			p := upPair(t, slow)
			p.disturb(p.cut, addrB, true)
			from := p.now()
			p.a.Open(usual(), nil, func() {})
			p.sleep(100 * ms)
			if n := len(p.sentBy(addrA, from)); n < 10 {
				t.Errorf("%d packets in 100 ms", n)
			}
		},
		"a_shorter_detection_time_waits_for_the_answer": func(t *testing.T) {
			slow := usual()
			slow.MinRx = 300 * ms
			p := newPair(t, slow, mirrored(usual(), addrA))
			p.sleep(5 * time.Second)
			p.disturb(p.cut, addrB, true)
			p.a.Open(usual(), nil, func() {})
			if got := p.ha.Status().Detection; got != 900*ms {
				t.Errorf("before the answer: got %v, want 900ms", got)
			}
			p.disturb(p.cut, addrB, false)
			p.sleep(50 * ms)
			if got := p.ha.Status().Detection; got != 30*ms {
				t.Errorf("after it: got %v, want 30ms", got)
			}
			p.sleep(time.Second)
			if st := p.ha.Status(); st.Downs > 0 {
				t.Errorf("down: %s", st.Why)
			}
		},
		"a_second_change_has_a_poll_of_its_own": func(t *testing.T) {
			p := upPair(t, usual())
			c := usual()
			c.MinTx = 300 * ms
			p.a.Open(c, nil, func() {})
			p.sleep(latency / 2) // the first Poll is under way
			c.MinTx = 600 * ms
			p.a.Open(c, nil, func() {})
			p.sleep(2*latency - latency/2) // the first answer has come
			if got := p.ha.Status().Interval; got != 10*ms {
				t.Errorf("after the first answer: got %v, want 10ms still", got)
			}
			p.sleep(5 * time.Second)
			if a, b := p.ha.Status(), p.hb.Status(); a.Interval != 600*ms || b.Detection != 1800*ms || a.Downs+b.Downs > 0 {
				t.Errorf("got %+v and %+v", a, b)
			}
		},
		"other_parameters_change_without_a_poll": func(t *testing.T) {
			p := upPair(t, usual())
			c := usual()
			c.Mult, c.MaxHops = 9, 3
			from := p.now()
			p.a.Open(c, nil, func() {})
			p.sleep(time.Second)
			for _, f := range p.sentBy(addrA, from) {
				if f.Poll {
					t.Fatal("got a Poll")
				}
			}
			if got := p.hb.Status().Detection; got != 90*ms {
				t.Errorf("B's detection time: got %v, want 90ms", got)
			}
		},
		"polls_are_answered_at_once": func(t *testing.T) {
			p := upPair(t, usual())
			st := p.ha.Status()
			poll := Packet{State: Up, Poll: true, Mult: 3, My: st.Remote, Your: st.Local, MinTx: 10_000, MinRx: 0}
			from := p.now()
			p.inject(addrB, 255, poll.Append(nil))
			sent := p.sentBy(addrA, from)
			if last := sent[len(sent)-1]; !last.Final || last.Poll || last.at != from+latency {
				t.Errorf("at %v: got %+v", from, last)
			}
		},
		"a_neighbor_in_demand_mode_gets_answers_alone": func(t *testing.T) {
			a := newAir(t)
			h := a.speaker(addrA).Open(usual(), nil, func() {})
			a.sleep(time.Second)
			say := func(p Packet) {
				p.Mult, p.My, p.Your, p.MinTx, p.MinRx = 255, 9, h.Status().Local, 1_000_000, 10_000
				a.inject(addrB, 255, p.Append(nil))
			}
			say(Packet{State: Init})
			say(Packet{State: Up, Final: true}) // the interval of Up was news
			from := a.now()
			say(Packet{State: Up, Demand: true})
			a.expect(h, "up")
			a.sleep(10 * time.Second)
			if n := len(a.sentBy(addrA, from+latency)); n > 1 {
				t.Errorf("%d packets", n)
			}
			from = a.now()
			say(Packet{State: Up, Demand: true, Poll: true})
			if sent := a.sentBy(addrA, from); len(sent) != 1 || !sent[0].Final {
				t.Errorf("a Poll is answered by %+v", sent)
			}
			say(Packet{State: Up})
			a.sleep(time.Second)
			if n := len(a.sentBy(addrA, from)); n < 50 {
				t.Errorf("%d packets in a second after demand mode", n)
			}
		},
		"a_neighbor_that_wants_no_packets_gets_none": func(t *testing.T) {
			a := newAir(t)
			h := a.speaker(addrA).Open(usual(), nil, func() {})
			a.sleep(time.Second)
			p := Packet{State: Down, Mult: 3, My: 9, Your: h.Status().Local, MinTx: 1_000_000}
			a.inject(addrB, 255, p.Append(nil))
			from := a.now()
			a.sleep(2900 * ms) // less than its detection time
			if n := len(a.sentBy(addrA, from)); n != 0 {
				t.Errorf("%d packets", n)
			}
			a.sleep(3 * time.Second) // it is lost: what it said no longer counts
			if n := len(a.sentBy(addrA, from)); n == 0 {
				t.Error("no packet to a neighbor that is lost")
			}
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, run) })
	}
}

// FuzzSession has a session receive what may come, in any order and at any time, and
// looks whether it is still one of RFC 5880's.
func FuzzSession(f *testing.F) {
	f.Add([]byte{1, 10, 0x40, 3, 2, 20, 0xc0, 1, 0, 255})
	f.Add([]byte{0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, moves []byte) {
		now := time.Unix(0, 0)
		s := newSession(usual(), 1, now)
		for ; len(moves) >= 4; moves = moves[4:] {
			now = now.Add(time.Duration(moves[1]) * 20 * ms)
			was := s.state
			switch m := moves[0]; {
			case m&3 == 0 && !s.deadline.IsZero() && !now.Before(s.deadline):
				s.expire(now)
			case m&3 == 1:
				c := usual()
				c.MinTx, c.MinRx = time.Duration(moves[2]+1)*ms, time.Duration(moves[3]+1)*ms
				c.Passive = m&4 != 0
				s.configure(c, now)
			default:
				s.receive(&Packet{
					State: State(moves[2] >> 6), Poll: moves[2]&1 != 0, Final: moves[2]&2 != 0, Demand: moves[2]&4 != 0,
					Mult: moves[3] | 1, My: 9, Your: 1, MinTx: uint32(moves[3]) * 10_000, MinRx: uint32(m) * 1000,
				}, now)
			}
			switch p := s.packet(false); {
			case p.State == AdminDown:
				t.Fatal("admin-down by itself")
			case s.state != Up && (p.MinTx < 1_000_000 || s.heldTx < slowTx):
				t.Fatalf("%v with an interval of %d µs", s.state, p.MinTx)
			case was == Down && s.state == Up && s.remoteState != Init:
				t.Fatalf("up because the neighbor is %v", s.remoteState)
			case s.state == Up && (s.remote == 0 || s.deadline.IsZero()):
				t.Fatal("up, and nothing will end that")
			case s.interval() < 0 || s.detection() < 0:
				t.Fatal("a time before now")
			case !s.polling && (s.heldTx != s.minTx || s.heldRx != s.minRx):
				t.Fatal("no answer is waited for, and what was said does not count")
			case p.Poll && s.packet(true).Poll:
				t.Fatal("a packet that asks and answers")
			}
		}
	})
}
