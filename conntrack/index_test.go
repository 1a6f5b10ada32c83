package conntrack

import (
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// A small index filled to 9/10 and emptied again, many times over, against a map.
// Hashes come from few values, so that homes overflow and tags repeat.
func TestIndexLeavesNothingBehind(t *testing.T) {
	x := make(index, 4)
	rng := rand.New(rand.NewPCG(3, 4))
	have := map[uint32]uint64{} // hash by slot
	reach := func(h uint64, slot uint32) bool {
		for b := x.home(h); ; b = x.next(b) {
			if _, ok := x[b].find(h, slot); ok {
				return true
			}
			if x[b].passed() == 0 {
				return false
			}
		}
	}
	for round := range 20_000 {
		slot := uint32(rng.IntN(36))
		if h, ok := have[slot]; ok {
			x.remove(h, slot)
			delete(have, slot)
			if reach(h, slot) {
				t.Fatalf("round %d: slot %d is still there", round, slot)
			}
		} else {
			h := uint64(rng.IntN(4))<<62 | uint64(rng.IntN(3))<<18
			x.insert(h, slot)
			have[slot] = h
		}
		for slot, h := range have {
			if !reach(h, slot) {
				t.Fatalf("round %d: slot %d is lost", round, slot)
			}
		}
	}
	for slot, h := range have {
		x.remove(h, slot)
	}
	for b := range x {
		if x[b] != (bucket{}) {
			t.Errorf("bucket %d: %x is left", b, x[b])
		}
	}
}

func TestIndexRemoveOfWhatIsMissingPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	make(index, 3).remove(1, 2)
}

// At its intended fill few flows lie outside their home.
func TestIndexFill(t *testing.T) {
	l := layoutOf(Config{MaxConnections: 64 * 15_625, Shards: 64})
	x := make(index, l.buckets)
	rng := rand.New(rand.NewPCG(5, 6))
	for slot := range uint32(2 * l.capacity) {
		x.insert(rng.Uint64(), slot)
	}
	outside := uint64(0)
	for b := range x {
		outside += x[b].passed()
	}
	if share := float64(outside) / float64(2*l.capacity); share > 0.15 {
		t.Errorf("%.3f buckets passed per entry", share)
	}
}

// Lacks knows of every connection, also outside its home bucket, and of most flows that
// there are none of.
func TestLacks(t *testing.T) {
	const n = 400
	tb, mem := tableIn(t, Config{MaxConnections: n, Shards: 1})
	id, locals := mustBind(t, tb, packet.ProtoTCP, virtual, real1), []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}
	key := func(i int) Key {
		f := flow(packet.ProtoTCP, clientN(i), virtual)
		return tb.InboundKey(&f)
	}
	var batch Batch
	absent := func(tb *Table, k Key) bool {
		batch.SetKey(1, k)
		lookAhead(tb, &batch, 2)
		return batch.Absent(1)
	}
	outside := 0
	for i := range n {
		open(tb, clientN(i), id, locals, 0)
	}
	for i := range n {
		k := key(i)
		if tb.Lacks(k) {
			t.Fatalf("connection %d is denied", i)
		}
		if absent(tb, k) {
			t.Fatalf("connection %d is absent", i)
		}
		if batch.Hint(1) == 0 {
			outside++
		}
	}
	lacking := 0
	for i := range n {
		k := key(n + i)
		if tb.Lacks(k) {
			lacking++
		}
		if absent(tb, k) && !tb.Lacks(k) {
			t.Fatalf("flow %d is absent, but may have a connection", n+i)
		}
	}
	if outside == 0 || lacking < n-5 {
		t.Errorf("%d connections outside their home, %d of %d absent ones known to be: too few", outside, lacking, n)
	}
	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	if k := key(n); heir.Lacks(k) || absent(heir, k) {
		t.Error("an index that is not read yet is believed")
	}
	if heir.Finish(1); !heir.Lacks(key(n)) {
		t.Error("one that is read is not")
	}
}

// A hint may be stale in every way by the time that it is used.
func TestCatchTrustsNoHint(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	id, locals := mustBind(t, tb, packet.ProtoTCP, virtual, real1), []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}
	var keys []Key
	var flows []packet.Flow
	var plains []packet.Plain
	var batch Batch
	for i := range 20 {
		c, why := open(tb, clientN(i), id, locals, 0)
		if why != packet.Kept {
			t.Fatal(why)
		}
		for isOutbound, f := range map[bool]packet.Flow{false: tb.InboundFlow(&c), true: tb.OutboundFlow(&c)} {
			p := plain(t, &f)
			batch.SetPlain(len(keys), &p, isOutbound)
			lookAhead(tb, &batch, len(keys)+1)
			k := batch.Key(uint8(len(keys)))
			if want := tb.FlowKey(&f, isOutbound); k != want {
				t.Errorf("%v: key of the plain packet: got %+v, want %+v", f, k, want)
			}
			flows, keys, plains = append(flows, f), append(keys, k), append(plains, p)
		}
	}
	s := &tb.shards[0]
	for i, k := range keys {
		want := s.find(k, &flows[i])
		if want == nil {
			t.Fatalf("%v: not found", flows[i])
		}
		right := batch.Hint(uint8(i))
		if &tb.lines.conns[right] != want {
			t.Errorf("%v: hint %d leads elsewhere", flows[i], right)
		}
		for slot := range s.conns {
			at := Hint(int(tb.lines.index) + slot)
			got, b := catch(tb, at, k, &plains[i])
			switch {
			case at == right && (got != want || *b != *tb.Binding(id)):
				t.Fatalf("%v at hint %d: got %p of %v, want %p", flows[i], at, got, b, want)
			case at != right && got != nil:
				t.Fatalf("%v at hint %d: got %p, want nothing", flows[i], at, got)
			}
			if got == nil {
				continue
			}
			if again, _ := catch(tb, at, k, &plains[i]); again != nil {
				t.Fatalf("%v: caught while it was latched", flows[i])
			}
			got.Release()
		}
	}
	at := batch.Hint(0)
	tb.Lock(keys[0])
	c := s.Find(keys[0], &flows[0])
	if got, _ := catch(tb, at, keys[0], &plains[0]); got != nil {
		t.Error("caught while the shard has it")
	}
	s.Unlock()
	if got, _ := catch(tb, at, keys[0], &plains[0]); got != c {
		t.Errorf("got %p after the shard was unlocked, want %p", got, c)
	} else {
		got.Release()
	}
	tb.Lock(keys[0])
	s.Remove(s.Find(keys[0], &flows[0]))
	s.Unlock()
	if got, _ := catch(tb, at, keys[0], &plains[0]); got != nil {
		t.Errorf("found %v at its place after it was removed", got)
	}
}
