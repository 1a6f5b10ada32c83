package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// fill opens connections from ever new clients until n are open, and fails if
// that takes unreasonably many.
func fill(t *testing.T, tb *Table, b BindingID, locals []LocalID, n int) (conns []Conn) {
	t.Helper()
	for i := 0; len(conns) < n; i++ {
		if i > 100*n+10_000 {
			t.Fatalf("only %d of %d connections after %d clients", len(conns), n, i)
		}
		c, why := open(tb, clientN(i), b, locals, 0)
		if why == packet.Kept {
			conns = append(conns, c)
		} else if why != packet.NoLocalPort {
			t.Fatalf("client %d: %v", i, why)
		}
	}
	return conns
}

func TestEveryPortOfTheRangeIsUsed(t *testing.T) {
	const lo, hi, ports = 1024, 65535, 65535 - 1024 + 1
	tb := newTestTable(t, Config{MaxConnections: 3 * ports})
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", lo, hi)}
	// Toward the second server no port is idle any more, each is in use by the first.
	for _, b := range []BindingID{
		mustBind(t, tb, packet.ProtoTCP, virtual, real1),
		mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real2),
	} {
		seen := map[uint16]bool{}
		for _, c := range fill(t, tb, b, l, ports) {
			if c.LocalPort < lo || seen[c.LocalPort] {
				t.Fatalf("port %d: out of range or given out twice", c.LocalPort)
			}
			seen[c.LocalPort] = true
		}
		if _, why := open(tb, endpoint("192.0.2.1:1"), b, l, 0); why != packet.NoLocalPort {
			t.Errorf("one more: got %v, want %v", why, packet.NoLocalPort)
		}
	}
	if st := tb.Stats().Locals[0]; st.InUse != ports || st.Free != 0 || st.Connections != 2*ports {
		t.Errorf("stats: %+v", st)
	}
}

func TestPorts(t *testing.T) {
	const ports = 8 // 1000 to 1007
	setup := func(t *testing.T) (*Table, []LocalID) {
		tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 1})
		return tb, []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1000, 1000+ports-1)}
	}
	t.Run("bindings_that_share_a_server_share_its_ports", func(t *testing.T) {
		tb, l := setup(t)
		b1 := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		b2 := mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real1)
		fill(t, tb, b1, l, ports/2)
		fill(t, tb, b2, l, ports/2)
		for _, b := range []BindingID{b1, b2} {
			if _, why := open(tb, clientN(9999), b, l, 0); why != packet.NoLocalPort {
				t.Errorf("binding %d: got %v, want %v", b, why, packet.NoLocalPort)
			}
		}
	})
	t.Run("tcp_and_udp_do_not_share_them", func(t *testing.T) {
		tb, l := setup(t)
		fill(t, tb, mustBind(t, tb, packet.ProtoTCP, virtual, real1), l, ports)
		fill(t, tb, mustBind(t, tb, packet.ProtoUDP, virtual, real1), l, ports)
	})
	t.Run("full_address_gives_way_to_the_next", func(t *testing.T) {
		tb, l := setup(t)
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		fill(t, tb, b, l, ports)
		second := mustAddLocal(t, tb, "10.0.1.11", 1000, 1000+ports-1)
		for _, c := range fill(t, tb, mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.12:80"), real1),
			append(l, second), ports) {
			if c.Local != second {
				t.Errorf("local %d, want %d", c.Local, second)
			}
		}
	})
	t.Run("addresses_take_turns", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
		l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1000, 1999), mustAddLocal(t, tb, "10.0.1.11", 1000, 1999)}
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		count := map[LocalID]int{}
		for i := range 4 * turnLength {
			c, why := open(tb, clientN(i), b, l, 0)
			if why != packet.Kept {
				t.Fatal(why)
			}
			count[c.Local]++
		}
		if count[l[0]] != 2*turnLength || count[l[1]] != 2*turnLength {
			t.Errorf("got %v", count)
		}
	})
	t.Run("the_first_of_each_shard_do_not_share_one", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 2})
		l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1000, 1999), mustAddLocal(t, tb, "10.0.1.11", 1000, 1999)}
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		used := map[LocalID]bool{}
		for i := range turnLength / 2 { // in either shard the first turn is not over
			c, why := open(tb, clientN(i), b, l, 0)
			if why != packet.Kept {
				t.Fatal(why)
			}
			used[c.Local] = true
		}
		if len(used) != 2 {
			t.Errorf("only %v", used)
		}
	})
	t.Run("longest_idle_first", func(t *testing.T) {
		tb, l := setup(t)
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		last := map[uint16]int{}
		for n := range 5 * ports {
			c, why := open(tb, clientN(n), b, l, 0)
			if why != packet.Kept {
				t.Fatal(why)
			}
			if at, again := last[c.LocalPort]; again && n-at != ports {
				t.Errorf("port %d came again after %d others", c.LocalPort, n-at)
			}
			last[c.LocalPort] = n
			with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
		}
	})
	t.Run("refusal_costs_no_search", func(t *testing.T) {
		tb, l := setup(t)
		b1 := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		b2 := mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real2)
		fill(t, tb, b1, l, ports)
		fill(t, tb, b2, l, ports)
		open(tb, clientN(1000), b1, l, 0)
		open(tb, clientN(1000), b2, l, 0)
		before := tb.Stats().Locals[0].Conflicts
		for n := range 100 {
			open(tb, clientN(2000+n), b1, l, 0)
			open(tb, clientN(2000+n), b2, l, 0)
		}
		if after := tb.Stats().Locals[0].Conflicts; after != before {
			t.Errorf("%d ports were tried", after-before)
		}
	})
	t.Run("released_port_is_found_again", func(t *testing.T) {
		tb, l := setup(t)
		b1 := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		b2 := mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real2)
		conns := fill(t, tb, b1, l, ports)
		others := fill(t, tb, b2, l, ports)
		open(tb, clientN(1000), b1, l, 0) // now remembered as full
		for _, c := range conns {
			with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) }) // the other server keeps it busy
			again, why := open(tb, clientN(1000), b1, l, 0)
			if why != packet.Kept || again.LocalPort != c.LocalPort {
				t.Fatalf("got port %d, %v, want %d", again.LocalPort, why, c.LocalPort)
			}
			with(t, tb, again, func(s *Shard, c *Conn) { s.Remove(c) })
			c, why = open(tb, clientN(1001+int(c.LocalPort)), b1, l, 0)
			if why != packet.Kept {
				t.Fatal(why)
			}
		}
		// A port idle for a moment and then taken by another is usable as well.
		open(tb, clientN(1000), b1, l, 0)
		c := others[3]
		with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
		if _, why := open(tb, clientN(1000), b1, l, 0); why != packet.NoLocalPort {
			t.Errorf("got %v", why)
		}
	})
	t.Run("range_may_change_while_in_use", func(t *testing.T) {
		tb, l := setup(t)
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		old := fill(t, tb, b, l, ports)
		if id := mustAddLocal(t, tb, "10.0.1.10", 1004, 1011); id != l[0] {
			t.Fatalf("ID changed from %d to %d", l[0], id)
		}
		if err := tb.Check(); err != nil {
			t.Fatal(err)
		}
		b2 := mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real1)
		for _, c := range fill(t, tb, b2, l, 4) {
			if c.LocalPort < 1008 {
				t.Errorf("port %d is in use", c.LocalPort)
			}
		}
		for _, c := range old {
			with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
		}
		if st := tb.Stats().Locals[0]; st.Free != 4 || st.InUse != 4 {
			t.Errorf("got %+v", st)
		}
	})
}
