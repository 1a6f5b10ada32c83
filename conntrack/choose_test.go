package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// openAimed is open, with an Aim.
func openAimed(t *testing.T, tb *Table, client packet.Endpoint, b BindingID, locals []LocalID, aim *Aim) (Conn, packet.Reason) {
	t.Helper()
	if _, _, ok := tb.Reserve(); !ok {
		t.Fatal("table is full")
	}
	f := flow(tb.Binding(b).Proto, client, tb.Binding(b).Virtual)
	k := tb.InboundKey(&f)
	s := tb.Lock(k)
	defer s.Unlock()
	c, why := s.Insert(k, &f, b, locals, aim, 0)
	if why != packet.Kept {
		tb.Release()
		return Conn{}, why
	}
	return c.Copy(), why
}

// aimAt returns an Aim at the ports that are class modulo of.
func aimAt(class, of int) *Aim {
	return &Aim{Class: class, Hits: func(_ packet.Addr, lport uint16) bool { return int(lport)%of == class }}
}

func TestAim(t *testing.T) {
	const ports = 256 // 1024 to 1279
	setup := func(t *testing.T) (tb *Table, b BindingID, l []LocalID) {
		tb = newTestTable(t, Config{MaxConnections: 10_000, Shards: 1})
		return tb, mustBind(t, tb, packet.ProtoTCP, virtual, real1), []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 1024+ports-1)}
	}
	t.Run("idle_ports_that_it_hits_come_first", func(t *testing.T) {
		tb, b, l := setup(t)
		for n := range ports / 2 {
			c, why := openAimed(t, tb, clientN(n), b, l, aimAt(n%4, 4))
			if why != packet.Kept || int(c.LocalPort)%4 != n%4 {
				t.Fatalf("connection %d: got port %d, %v", n, c.LocalPort, why)
			}
		}
	})
	t.Run("ports_in_use_toward_another_server_are_hit_too", func(t *testing.T) {
		tb, b, l := setup(t)
		fill(t, tb, mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real2), l, ports)
		for n := range ports / 2 {
			c, why := openAimed(t, tb, clientN(10_000+n), b, l, aimAt(n%4, 4))
			if why != packet.Kept || int(c.LocalPort)%4 != n%4 {
				t.Fatalf("connection %d: got port %d, %v", n, c.LocalPort, why)
			}
		}
	})
	t.Run("any_other_port_will_do", func(t *testing.T) {
		tb, b, l := setup(t)
		never := &Aim{Hits: func(packet.Addr, uint16) bool { return false }}
		seen := map[uint16]bool{}
		for n := range ports {
			c, why := openAimed(t, tb, clientN(n), b, l, never)
			if why != packet.Kept || seen[c.LocalPort] {
				t.Fatalf("connection %d: got port %d, %v", n, c.LocalPort, why)
			}
			seen[c.LocalPort] = true
		}
		if _, why := openAimed(t, tb, clientN(ports), b, l, never); why != packet.NoLocalPort {
			t.Errorf("one more: got %v, want %v", why, packet.NoLocalPort)
		}
	})
	t.Run("looks_at_so_many_ports_and_no_more", func(t *testing.T) {
		tb, b, l := setup(t)
		tries := 0
		openAimed(t, tb, clientN(0), b, l, &Aim{Hits: func(packet.Addr, uint16) bool { tries++; return false }})
		if tries != aimTries {
			t.Errorf("got %d, want %d", tries, aimTries)
		}
	})
	// Each class comes round all of its ports before it takes one again, whatever
	// the others do meanwhile.
	t.Run("longest_idle_first_in_each_class", func(t *testing.T) {
		tb, b, l := setup(t)
		last := map[uint16]int{}
		for n := range 8 * ports {
			c, why := openAimed(t, tb, clientN(n), b, l, aimAt(n%4, 4))
			if why != packet.Kept {
				t.Fatal(why)
			}
			if at, again := last[c.LocalPort]; again && n-at != ports {
				t.Fatalf("port %d came again after %d connections, want %d", c.LocalPort, n-at, ports)
			}
			last[c.LocalPort] = n
			with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
		}
	})
	t.Run("does_not_allocate", func(t *testing.T) {
		tb, b, l := setup(t)
		f := flow(packet.ProtoTCP, clientN(1), virtual)
		aim := aimAt(3, 4)
		if got := testing.AllocsPerRun(100, func() {
			k := tb.InboundKey(&f)
			tb.Reserve()
			s := tb.Lock(k)
			c, _ := s.Insert(k, &f, b, l, aim, 0)
			s.Remove(c)
			s.Unlock()
		}); got != 0 {
			t.Errorf("got %v allocations, want 0", got)
		}
	})
}

// A pool's addresses are in use alike from the first connections on, though each
// shard has made few of them.
func TestFewConnectionsUseEveryAddress(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 1000})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	var l []LocalID
	for _, a := range []string{"10.0.1.10", "10.0.1.11", "10.0.1.12", "10.0.1.13"} {
		l = append(l, mustAddLocal(t, tb, a, 1024, 65535))
	}
	count := map[LocalID]int{}
	for n := range 64 {
		c, _ := open(tb, clientN(n), b, l, 0)
		count[c.Local]++
	}
	for _, id := range l {
		if count[id] < 4 {
			t.Errorf("of 64 connections, by address: %v", count)
		}
	}
}
