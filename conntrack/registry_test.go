package conntrack

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestBind(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100})
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	binding := func(n int) Binding {
		return Binding{packet.ProtoTCP, virtual, endpoint(fmt.Sprintf("10.0.2.%d:80", n))}
	}
	bind := func(n int) BindingID {
		id, err := tb.Bind(binding(n))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	b1, b2 := bind(1), bind(2)
	if b1 == 0 || b1 == b2 || bind(1) != b1 {
		t.Fatalf("IDs %d and %d", b1, b2)
	}
	if got := *tb.Binding(b2); got != binding(2) {
		t.Errorf("got %v, want %v", got, binding(2))
	}
	t.Run("id_is_kept_while_held", func(t *testing.T) {
		tb.Unbind(b1) // one of two
		if b3 := bind(3); b3 == b1 || *tb.Binding(b1) != binding(1) {
			t.Errorf("ID %d was given away", b1)
		}
	})
	t.Run("id_is_kept_while_a_connection_refers_to_it", func(t *testing.T) {
		c, _ := open(tb, clientN(1), b1, l, 0)
		tb.Unbind(b1)
		if b4 := bind(4); b4 == b1 || *tb.Binding(b1) != binding(1) {
			t.Errorf("ID %d was given away", b1)
		}
		with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
	})
	t.Run("id_is_kept_for_who_comes_back", func(t *testing.T) {
		if got := bind(1); got != b1 {
			t.Errorf("got %d, want %d", got, b1)
		}
		if b6 := bind(6); b6 == b1 {
			t.Errorf("ID %d was given away", b1)
		}
		tb.Unbind(b1)
	})
	t.Run("id_is_free_after_both", func(t *testing.T) {
		if got := bind(5); got != b1 || *tb.Binding(b1) != binding(5) {
			t.Errorf("got %d, want %d", got, b1)
		}
	})
}

func TestBindWhenAllIDsAreTaken(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 1, Shards: 1})
	b := Binding{Proto: packet.ProtoTCP, Virtual: virtual, Real: real1}
	for n := 1; n < maxBindings; n++ {
		b.Real.Port = uint16(n)
		if _, err := tb.Bind(b); err != nil {
			t.Fatal(err)
		}
	}
	b.Real.Port = 0
	if _, err := tb.Bind(b); err == nil {
		t.Error("no error")
	}
	tb.Unbind(77)
	if id, err := tb.Bind(b); err != nil || id != 77 {
		t.Errorf("got %d, %v", id, err)
	}
}

func TestAddLocal(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l1 := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
	if again := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535); again != l1 || l1 == 0 {
		t.Errorf("IDs %d and %d", l1, again)
	}
	tb.RemoveLocal(l1)
	c, _ := open(tb, clientN(1), b, []LocalID{l1}, 0)
	tb.RemoveLocal(l1)
	l2 := mustAddLocal(t, tb, "10.0.1.11", 2000, 3000)
	if l2 == l1 || tb.Local(l1).Addr != addr("10.0.1.10") {
		t.Errorf("ID %d was given away", l1)
	}
	if st := tb.Stats(); len(st.Locals) != 2 {
		t.Errorf("got %+v", st.Locals)
	}
	with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
	if st := tb.Stats(); len(st.Locals) != 1 || st.Locals[0].Free != 1001 {
		t.Errorf("got %+v", st.Locals)
	}
	if l3 := mustAddLocal(t, tb, "10.0.1.12", 1, 65535); l3 != l1 {
		t.Errorf("got %d, want %d", l3, l1)
	}
	for _, bad := range []struct {
		lo, hi uint16
		want   string
	}{
		{0, 100, "not a range"},
		{200, 100, "not a range"},
		{1000, 1062, "at least 64 ports"},
	} {
		if _, err := tb.AddLocal(Local{addr("10.0.1.13"), bad.lo, bad.hi}); err == nil ||
			!strings.Contains(err.Error(), bad.want) {
			t.Errorf("ports %d-%d: got %v, want %q", bad.lo, bad.hi, err, bad.want)
		}
	}
}

func TestWalk(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 5000, Shards: 2})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	want := map[packet.Flow]bool{}
	for n := range 5000 {
		c, _ := open(tb, clientN(n), b, l, 0)
		if n%3 == 0 {
			with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
			continue
		}
		want[tb.InboundFlow(&c)] = true
	}
	out := make([]Conn, 100)
	for shard := range tb.Shards() {
		for from, more := 0, true; more; more = from != 0 {
			var n int
			n, from = tb.Walk(shard, from, out)
			for i := range out[:n] {
				f := tb.InboundFlow(&out[i])
				if !want[f] {
					t.Errorf("%v came twice, or never was", f)
				}
				delete(want, f)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("%d connections did not come", len(want))
	}
}
