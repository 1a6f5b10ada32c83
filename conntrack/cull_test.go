package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// cullAll goes through the whole table and returns how often it looked and how
// many connections it removed.
func cullAll(tb *Table, limit int, set *BindingSet, cull func(*Shard, *Conn) bool) (looks, removed int) {
	for shard := range tb.Shards() {
		for from := 0; ; {
			n, next := tb.Cull(shard, from, limit, set, cull)
			looks++
			removed += n
			if from = next; from == 0 {
				break
			}
		}
	}
	return looks, removed
}

func TestCull(t *testing.T) {
	const each = 3000 // more than one look takes in
	fill := func(t *testing.T) (tb *Table, b [2]BindingID) {
		tb = newTestTable(t, Config{MaxConnections: 2*each + 1, Shards: 1})
		local := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
		b = [2]BindingID{
			mustBind(t, tb, packet.ProtoTCP, virtual, real1),
			mustBind(t, tb, packet.ProtoTCP, virtual, real2),
		}
		for i := range 2 * each {
			if _, why := open(tb, clientN(i), b[i%2], local, 0); why != packet.Kept {
				t.Fatal(why)
			}
		}
		return tb, b
	}
	all := func(*Shard, *Conn) bool { return true }

	t.Run("takes_those_of_the_set_and_no_others", func(t *testing.T) {
		tb, b := fill(t)
		var set BindingSet
		set.Add(b[0])
		set.Add(b[0])
		if _, got := cullAll(tb, 1<<30, &set, all); got != each {
			t.Errorf("removed: got %d, want %d", got, each)
		}
		if got := tb.Stats().Connections; got != each {
			t.Errorf("left: got %d, want %d", got, each)
		}
		for range each + 1 { // the places are free again
			if _, evicted, ok := tb.Reserve(); !ok || evicted {
				t.Fatalf("reserve: got evicted %t, ok %t", evicted, ok)
			}
		}
		for range each + 1 {
			tb.Release()
		}
	})
	t.Run("keeps_what_is_not_wanted", func(t *testing.T) {
		tb, b := fill(t)
		var set BindingSet
		set.Add(b[0])
		seen := 0
		_, removed := cullAll(tb, 1<<30, &set, func(_ *Shard, c *Conn) bool { seen++; return c.ClientPort%4 == 0 })
		if seen != each || removed != each/2 {
			t.Errorf("got %d seen and %d removed, want %d and %d", seen, removed, each, each/2)
		}
	})
	t.Run("stops_at_the_limit_and_goes_on_from_there", func(t *testing.T) {
		tb, b := fill(t)
		var set BindingSet
		set.Add(b[1])
		n, next := tb.Cull(0, 0, 10, &set, all)
		if n != 10 || next != 20 {
			t.Errorf("got %d removed and %d next, want 10 and 20", n, next)
		}
		if _, removed := cullAll(tb, 100, &set, all); removed != each-10 {
			t.Errorf("the rest: got %d removed, want %d", removed, each-10)
		}
	})
	t.Run("looks_at_a_bounded_number_of_places", func(t *testing.T) {
		tb, b := fill(t)
		var set BindingSet
		set.Add(b[0])
		if looks, _ := cullAll(tb, 1<<30, &set, all); looks < 2*each/walkSlots {
			t.Errorf("got %d looks, want at least %d", looks, 2*each/walkSlots)
		}
	})
	t.Run("passes_over_a_shard_without_them", func(t *testing.T) {
		tb, _ := fill(t)
		var set BindingSet
		set.Add(mustBind(t, tb, packet.ProtoTCP, virtual, endpoint("10.0.2.13:8080")))
		set.Add(maxBindings - 1)
		if looks, removed := cullAll(tb, 1<<30, &set, all); looks != 1 || removed != 0 {
			t.Errorf("got %d looks and %d removed, want one look for nothing", looks, removed)
		}
	})
	t.Run("takes_templates", func(t *testing.T) {
		tb, b := fill(t)
		if _, _, ok := tb.Reserve(); !ok {
			t.Fatal("no place")
		}
		k := tb.TemplateKey(packet.ProtoTCP, addr("10.9.9.9"), virtual)
		s := tb.Lock(k)
		s.InsertTemplate(k, addr("10.9.9.9"), b[0], 1000, 0)
		s.Unlock()
		var set BindingSet
		set.Add(b[0])
		cullAll(tb, 1<<30, &set, func(_ *Shard, c *Conn) bool { return c.State == Template })
		if got := tb.Stats(); got.Templates != 0 || got.Connections != 2*each {
			t.Errorf("got %d templates and %d connections, want 0 and %d", got.Templates, got.Connections, 2*each)
		}
	})
}
