package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// newCounts returns memory for Know.
func newCounts(tb *Table) (counts, lines []uint8) {
	return make([]uint8, tb.KnownPlaces()), make([]uint8, tb.KnownPlaces()/KnownLine)
}

// knowing has the table count the connections of these bindings.
func knowing(t testing.TB, tb *Table, counts, lines []uint8, bindings ...BindingID) {
	t.Helper()
	var set BindingSet
	for _, b := range bindings {
		set.Add(b)
	}
	tb.Know(counts, lines, &set)
	if err := tb.Check(); err != nil {
		t.Fatal(err)
	}
}

// countOf returns the count that a client's flow to the virtual endpoint of b has.
func countOf(tb *Table, counts []uint8, client packet.Endpoint, b BindingID) uint8 {
	f := flow(tb.Binding(b).Proto, client, tb.Binding(b).Virtual)
	k := tb.InboundKey(&f)
	return *tb.shards[k.shard].place(k.hash)
}

func sum(counts []uint8) (n int) {
	for _, c := range counts {
		n += int(c)
	}
	return n
}

// What is there before Know is called, and what comes and goes after, is counted; what is
// of other bindings is not.
func TestKnow(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 4})
	guarded, other := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, endpoint("203.0.113.11:80"), real1)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 9000)}
	counts, lines := newCounts(tb)
	insert := func(n int, b BindingID) Conn {
		t.Helper()
		c, why := open(tb, clientN(n), b, locals, 0)
		if why != packet.Kept {
			t.Fatal(why)
		}
		return c
	}
	var conns []Conn
	for n := range 100 {
		conns = append(conns, insert(n, guarded))
		insert(n+1000, other)
	}
	knowing(t, tb, counts, lines, guarded)
	for n := 100; n < 200; n++ {
		conns = append(conns, insert(n, guarded))
		insert(n+1000, other)
	}
	for n := range conns {
		if countOf(tb, counts, clientN(n), guarded) == 0 {
			t.Fatalf("the flow of connection %d is unknown", n)
		}
	}
	if n := sum(counts); n != len(conns) {
		t.Errorf("%d connections are counted, want %d", n, len(conns))
	}
	knowing(t, tb, counts, lines, guarded) // again: nothing is counted twice
	knowing(t, tb, counts, lines, other)   // guarded stays
	if n := sum(counts); n != 2*len(conns) {
		t.Errorf("%d connections are counted, want %d", n, 2*len(conns))
	}
	for _, c := range conns {
		with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
	}
	if n := sum(counts); n != len(conns) {
		t.Errorf("%d connections are counted, want the %d that are left", n, len(conns))
	}
}

// A count follows its connection to a real server whose connections are counted, or not.
func TestKnowAfterRebind(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 4})
	first, second := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, virtual, real2)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 9000)}
	counts, lines := newCounts(tb)
	knowing(t, tb, counts, lines, first)
	c, _ := open(tb, clientN(1), first, locals, 0)
	for _, to := range []BindingID{second, first} {
		with(t, tb, c, func(s *Shard, c *Conn) {
			if why := s.Rebind(c, to, locals, nil); why != packet.Kept {
				t.Fatal(why)
			}
		})
		if err := tb.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

// A count that was ever full is not certain any more, and never says that there is none.
func TestKnowStuck(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 9000)}
	counts, lines := make([]uint8, 2), make([]uint8, 1) // so that places are shared
	knowing(t, tb, counts, lines, b)
	var conns []Conn
	for n := range 600 {
		c, why := open(tb, clientN(n), b, locals, 0)
		if why != packet.Kept {
			t.Fatal(why)
		}
		conns = append(conns, c)
	}
	if counts[0] != stuck || counts[1] != stuck {
		t.Fatalf("600 connections are counted as %v", counts)
	}
	for _, c := range conns {
		with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
	}
	if counts[0] != stuck || counts[1] != stuck {
		t.Errorf("after full, counted %v", counts)
	}
}

func TestKnownPlaces(t *testing.T) {
	for _, test := range []struct{ connections, shards, want int }{
		{1, 1, 64}, {16, 1, 64}, {17, 1, 128}, {1000, 64, 4096}, {1_000_000, 64, 1 << 22}, {1 << 20, 64, 1 << 22}, {1<<20 + 1, 64, 1 << 23},
	} {
		tb := newTestTable(t, Config{MaxConnections: test.connections, Shards: test.shards})
		if got := tb.KnownPlaces(); got != test.want {
			t.Errorf("%d connections in %d shards: %d places, want %d", test.connections, test.shards, got, test.want)
		}
		if got := Measure(Config{MaxConnections: test.connections, Shards: test.shards}).Known; got != int64(test.want/KnownLine*(KnownLine+1)) {
			t.Errorf("%d connections in %d shards: measured as %d bytes for %d", test.connections, test.shards, got, test.want)
		}
	}
}
