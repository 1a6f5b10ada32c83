package conntrack

import (
	"slices"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// newWheel returns a table of one shard and a function that opens a connection
// of client n.
func newWheel(t *testing.T, proto uint8) (*Table, func(n int, now uint32) Conn) {
	tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 1})
	b := mustBind(t, tb, proto, virtual, real1)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	return tb, func(n int, now uint32) Conn {
		c, why := open(tb, clientN(n), b, l, now)
		if why != packet.Kept {
			t.Fatal(why)
		}
		return c
	}
}

func TestExpire(t *testing.T) {
	t.Run("not_before_its_time_and_at_most_a_tick_late", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		for n, timeout := range []uint32{1, 127, 128, 129, 2000, 30_000, 90_000, horizon, horizon + 1, 1_000_000} {
			c := open(n, 0)
			with(t, tb, c, func(s *Shard, c *Conn) { s.SetState(c, Established, timeout, 0) })
		}
		for now := uint32(0); now < 1_100_000; now += 50 {
			for _, c := range expireAll(tb, now) {
				if c.Deadline > now || c.Deadline+tick+50 < now {
					t.Errorf("deadline %d came at %d", c.Deadline, now)
				}
			}
		}
		if st := tb.Stats(); st.Connections != 0 || tb.used.Load() != 0 {
			t.Errorf("left: %+v, %d reserved", st, tb.used.Load())
		}
	})
	t.Run("touched_lives_on", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		c := open(1, 0)
		establish(t, tb, c, 0)
		for now := uint32(0); now < 1_000_000; now += 60_000 {
			with(t, tb, c, func(s *Shard, c *Conn) { s.Touch(c, 90_000, now) })
			if ended := expireAll(tb, now); len(ended) > 0 {
				t.Fatalf("expired at %d", now)
			}
		}
	})
	t.Run("deadline_that_comes_nearer_is_kept", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		c := open(1, 0)
		establish(t, tb, c, 0)
		with(t, tb, c, func(s *Shard, c *Conn) { s.SetState(c, Closed, 3000, 1000) })
		if ended := expireAll(tb, 4000+tick); len(ended) != 1 || ended[0].State != Closed {
			t.Errorf("ended: %+v", ended)
		}
		c = open(2, 5000)
		with(t, tb, c, func(s *Shard, c *Conn) { s.Touch(c, 500, 5000) })
		if ended := expireAll(tb, 5500+tick); len(ended) != 1 {
			t.Errorf("ended: %+v", ended)
		}
	})
	// One that closes by its latch alone is not moved: it goes at its first look, neither
	// before its time nor long after.
	t.Run("short_connection_is_looked_at_once", func(t *testing.T) {
		for life := uint32(0); life < 9000; life += 37 {
			tb, open := newWheel(t, packet.ProtoTCP)
			c := open(1, 0)
			establish(t, tb, c, 0)
			with(t, tb, c, func(s *Shard, c *Conn) {
				if !c.MoveOn(FinWait, 7000, life) {
					t.Fatalf("after %d ms it is to be moved", life)
				}
			})
			looks, gone := 0, uint32(0)
			for now := life &^ (tick - 1); gone == 0; now += tick / 2 {
				looks += tb.Expire(0, now, 10, func(s *Shard, c *Conn) uint32 { gone = now; return 0 })
			}
			if due := life + 7000; gone < due || gone > due+patience+tick {
				t.Errorf("after %d ms closed, due at %d, it went at %d", life, due, gone)
			}
			if life < firstLook*tick-7000-tick && looks != 1 {
				t.Errorf("after %d ms closed, it was looked at %d times", life, looks)
			}
		}
	})
	t.Run("worker_whose_clock_is_behind", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		expireAll(tb, 50_000)
		c := open(1, 49_000)
		with(t, tb, c, func(s *Shard, c *Conn) { s.SetState(c, Closed, 10, 49_000) })
		if ended := expireAll(tb, 50_000+tick); len(ended) != 1 {
			t.Errorf("ended: %+v", ended)
		}
	})
	t.Run("time_wraps_around", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		// The clock comes near its end in steps shorter than what times may differ by.
		for i := range uint32(8) {
			expireAll(tb, i<<29)
		}
		start := ^uint32(0) - 5000
		expireAll(tb, start)
		a, b := open(1, start), open(2, start)
		with(t, tb, a, func(s *Shard, c *Conn) { s.SetState(c, Established, 4000, start) })
		with(t, tb, b, func(s *Shard, c *Conn) { s.SetState(c, Established, 9000, start) })
		if ended := expireAll(tb, start+4000+tick); len(ended) != 1 || ended[0].Client != a.Client {
			t.Errorf("before the wrap: %+v", ended)
		}
		if ended := expireAll(tb, start+8999); len(ended) != 0 {
			t.Errorf("early, after the wrap: %+v", ended)
		}
		if ended := expireAll(tb, start+9000+tick); len(ended) != 1 {
			t.Errorf("after the wrap: %+v", ended)
		}
	})
	t.Run("limit_bounds_one_call", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		for n := range 100 {
			open(n, 0)
		}
		remove := func(*Shard, *Conn) uint32 { return 0 }
		var looks []int
		for n := -1; n != 0; {
			n = tb.Expire(0, 40_000, 30, remove)
			looks = append(looks, n)
			if err := tb.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if want := []int{30, 30, 30, 10, 0}; !slices.Equal(looks, want) {
			t.Errorf("got %v, want %v", looks, want)
		}
	})
	t.Run("survivor_is_asked_again", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		open(1, 0)
		asked := 0
		for now := uint32(0); now < 100_000; now += tick {
			tb.Expire(0, now, 10, func(s *Shard, c *Conn) uint32 {
				if asked++; asked < 5 {
					return 10_000
				}
				return 0
			})
		}
		if asked != 5 || tb.Stats().Connections != 0 {
			t.Errorf("asked %d times, %+v", asked, tb.Stats())
		}
	})
	t.Run("survivor_keeps_what_it_was_given", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoTCP)
		c := open(1, 0)
		now := uint32(initialTimeout + tick)
		tb.Expire(0, now, 10, func(s *Shard, c *Conn) uint32 {
			s.SetState(c, Established, 50_000, now)
			return 1
		})
		with(t, tb, c, func(_ *Shard, c *Conn) {
			if c.Deadline != now+50_000 || c.State != Established {
				t.Errorf("got %+v", *c)
			}
		})
	})
}

func TestAlarm(t *testing.T) {
	type event struct {
		now   uint32
		alarm bool
	}
	// run steps the clock and answers each alarm by again.
	run := func(tb *Table, until uint32, again func(s *Shard, c *Conn, now uint32)) (events []event) {
		for now := uint32(0); now < until; now += tick {
			tb.Expire(0, now, 10, func(s *Shard, c *Conn) uint32 {
				if before(now, c.Deadline) {
					events = append(events, event{now, true})
					again(s, c, now)
					return 1000
				}
				events = append(events, event{now, false})
				return 0
			})
		}
		return events
	}
	t.Run("fires_before_the_deadline", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoUDP)
		with(t, tb, open(1, 0), func(s *Shard, c *Conn) { s.SetAlarm(c, 1000) })
		got := run(tb, 40_000, func(s *Shard, c *Conn, now uint32) {
			c.SetNoticeTries(c.NoticeTries() + 1)
			if c.NoticeTries() == 2 {
				s.ClearAlarm(c)
				return
			}
			s.SetAlarm(c, now+2000)
		})
		// Each comes with the end of the tick that it is due in.
		want := []event{{1024, true}, {3072, true}, {30_080, false}}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("left_in_the_past_it_moves", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoUDP)
		with(t, tb, open(1, 0), func(s *Shard, c *Conn) { s.SetAlarm(c, 1000) })
		got := run(tb, 5000, func(*Shard, *Conn, uint32) {})
		if len(got) != 4 {
			t.Errorf("got %v, want one a second", got)
		}
	})
	t.Run("at_time_zero_is_still_one", func(t *testing.T) {
		tb, open := newWheel(t, packet.ProtoUDP)
		with(t, tb, open(1, 0), func(s *Shard, c *Conn) {
			s.SetAlarm(c, 0)
			if at, ok := c.Alarm(); !ok || at > 1 {
				t.Errorf("got %d, %v", at, ok)
			}
			s.ClearAlarm(c)
			if _, ok := c.Alarm(); ok {
				t.Error("still set")
			}
		})
	})
}
