package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestReserveAtTheBound(t *testing.T) {
	const bound = 200
	tb := newTestTable(t, Config{MaxConnections: bound})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}

	// Every other connection is established; each begins a tick after the last,
	// in whatever shard its hash says.
	var half, est []Conn
	for n := range bound {
		c, why := open(tb, clientN(n), b, l, uint32(n*tick))
		if why != packet.Kept {
			t.Fatalf("client %d: %v", n, why)
		}
		if n%2 == 0 {
			establish(t, tb, c, uint32(n*tick))
			est = append(est, c)
		} else {
			half = append(half, c)
		}
	}
	t.Run("oldest_half_open_makes_room", func(t *testing.T) {
		for n, want := range half {
			e, evicted, ok := tb.Reserve()
			if !ok || !evicted || e.Client != want.Client || e.ClientPort != want.ClientPort {
				t.Fatalf("eviction %d: got %v %v %v, want %v", n, e.Client, evicted, ok, want.Client)
			}
			c, why := openReserved(tb, clientN(bound+n), b, l, uint32((bound+n)*tick))
			if why != packet.Kept {
				t.Fatal(why)
			}
			establish(t, tb, c, uint32((bound+n)*tick))
			est = append(est, c)
			if err := tb.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("established_are_untouched", func(t *testing.T) {
		if _, _, ok := tb.Reserve(); ok {
			t.Error("a place in a table full of established connections")
		}
		for _, c := range est {
			if !has(t, tb, c) {
				t.Fatalf("connection of %v is gone", c.Client)
			}
		}
		if st := tb.Stats(); st.Connections != bound || st.HalfOpen != 0 {
			t.Errorf("got %+v", st)
		}
	})
	t.Run("released_reservation_is_free_again", func(t *testing.T) {
		with(t, tb, est[0], func(s *Shard, c *Conn) { s.Remove(c) })
		for range 3 {
			if _, evicted, ok := tb.Reserve(); !ok || evicted {
				t.Fatalf("evicted %v, ok %v", evicted, ok)
			}
			tb.Release()
		}
	})
}

func TestReserveComparesAgesAcrossTheirWrapAround(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 40})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	const wrap = 1 << 16 << tickShift
	for n := range 40 {
		open(tb, clientN(n), b, l, wrap+uint32((n-20)*tick))
	}
	for n := range 40 {
		e, evicted, _ := tb.Reserve()
		if want := clientN(n); !evicted || e.Client != want.Addr || e.ClientPort != want.Port {
			t.Fatalf("eviction %d: got %v, want %v", n, e.Client, want)
		}
	}
	for range 40 {
		tb.Release()
	}
}

func TestReserveAll(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 5, Shards: 1})
	for _, step := range []struct {
		n    int
		ok   bool
		used int64
	}{{3, true, 3}, {3, false, 3}, {2, true, 5}, {1, false, 5}} {
		if ok := tb.ReserveAll(step.n); ok != step.ok || tb.used.Load() != step.used {
			t.Errorf("%d places: got %v, and %d are taken; want %v and %d", step.n, ok, tb.used.Load(), step.ok, step.used)
		}
	}
	tb.ReleaseAll(5)
	if n := tb.used.Load(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

// A connection that is established lingers in the list, and is not evicted there.
func TestLingering(t *testing.T) {
	setup := func(t *testing.T, n int) (*Table, []Conn, func(int, uint32) Conn) {
		tb := newTestTable(t, Config{MaxConnections: n, Shards: 1})
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
		open := func(i int, now uint32) Conn {
			c, why := open(tb, clientN(i), b, l, now)
			if why != packet.Kept {
				t.Fatal(why)
			}
			return c
		}
		var all []Conn
		for i := range n - 1 {
			c := open(i, 0)
			establish(t, tb, c, 0)
			all = append(all, c)
		}
		if got := lingering(tb); got != n-1 {
			t.Fatalf("%d of %d linger", got, n-1)
		}
		return tb, all, open
	}
	t.Run("does_not_hide_the_oldest", func(t *testing.T) {
		tb, all, open := setup(t, 3*unlistLimit)
		half := open(len(all), 0) // of the same tick
		if e, evicted, _ := tb.Reserve(); !evicted || e.ClientPort != half.ClientPort || e.Client != half.Client {
			t.Errorf("evicted %v, %v, want %v", evicted, e.Client, half.Client)
		}
		if got := lingering(tb); got != 0 {
			t.Errorf("%d still linger", got)
		}
		if st := tb.Stats(); st.HalfOpen != 0 || st.Connections != len(all) {
			t.Errorf("got %+v", st)
		}
	})
	t.Run("ends_with_the_first_look", func(t *testing.T) {
		tb, all, _ := setup(t, 20)
		if n := tb.Expire(0, (firstLook+1)*tick, 100, func(*Shard, *Conn) uint32 { return 0 }); n != len(all) {
			t.Errorf("looked at %d of %d", n, len(all))
		}
		if got := lingering(tb); got != 0 || tb.Stats().Connections != len(all) {
			t.Errorf("%d still linger, %+v", got, tb.Stats())
		}
	})
	t.Run("ends_with_the_connection", func(t *testing.T) {
		tb, all, _ := setup(t, 20)
		with(t, tb, all[3], func(s *Shard, c *Conn) { s.Remove(c) })
		with(t, tb, all[4], func(s *Shard, c *Conn) { s.Restart(c, SynReceived, 30_000, 1000) })
		with(t, tb, all[5], func(s *Shard, c *Conn) { s.SetState(c, Closed, 10, 1000) })
		with(t, tb, all[6], func(s *Shard, c *Conn) { s.SetSpare(c, 1, 2) })
		if got := lingering(tb); got != len(all)-4 {
			t.Errorf("%d linger, want %d", got, len(all)-4)
		}
		with(t, tb, all[6], func(s *Shard, c *Conn) {
			if a, b := s.Spare(c); a != 1 || b != 2 {
				t.Errorf("spare bits %d, %d", a, b)
			}
		})
	})
	t.Run("what_lingers_is_adopted", func(t *testing.T) {
		tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
		for i := range 50 {
			c, _ := open(tb, clientN(i), b, l, 0)
			if i%2 == 0 {
				establish(t, tb, c, 0)
			}
		}
		for slot := range uint32(50) { // lists are not believed
			tb.shards[0].nodes[halfNode(slot)] = node{1 << 31, 1 << 31}
		}
		heir, found := adopted(t, mem)
		if st := heir.Stats(); found.Kept != 50 || st.HalfOpen != 25 || lingering(heir) != 0 {
			t.Errorf("adoption: %+v, %+v, %d linger", *found, st, lingering(heir))
		}
	})
}

// lingering sees that the table is sound, and returns how many connections linger in it.
func lingering(tb *Table) (n int) {
	if err := tb.Check(); err != nil {
		panic(err)
	}
	for i := range tb.shards {
		tb.shards[i].Each(func(c *Conn) {
			if c.born&lingers != 0 {
				n++
			}
		})
	}
	return n
}
