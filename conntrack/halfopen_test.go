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
