package conntrack

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
)

// memory returns zeroed memory for a table, aligned to a cache line.
func memory(size int) []byte {
	mem := make([]byte, size+cacheLine)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (cacheLine - 1)
	return mem[skip : skip+size : skip+size]
}

// tableIn returns a new table and its memory. Unless c has a key it is testKey: by a
// random one, damage that the index would show does not show now and then, see
// TestAdoptBelievesWhatFitsByChance.
func tableIn(t testing.TB, c Config) (*Table, []byte) {
	t.Helper()
	if c.HashKey == (siphash.Key{}) {
		c.HashKey = testKey
	}
	mem := memory(Measure(c).Memory())
	tb, err := New(c, mem)
	if err != nil {
		t.Fatal(err)
	}
	return tb, mem
}

// adopted returns what another process would make of mem, which is checked.
func adopted(t testing.TB, mem []byte) (*Table, *Adoption) {
	t.Helper()
	tb, found, err := Adopt(mem)
	if err != nil {
		t.Fatal(err)
	}
	if err := tb.Check(); err != nil {
		t.Fatalf("after adoption: %v", err)
	}
	return tb, found
}

// all returns the connections of a table, without what an adoption clears.
func all(tb *Table) (conns []Conn) {
	for i := range tb.Shards() {
		buf := make([]Conn, len(tb.shards[i].conns))
		for from := 0; ; {
			n, next := tb.Walk(i, from, buf)
			conns = append(conns, buf[:n]...)
			if from = next; from == 0 {
				break
			}
		}
	}
	for i := range conns {
		conns[i] = outside(&conns[i])
		conns[i].HopGen, conns[i].ToReal, conns[i].ToClient = 0, 0, 0
	}
	slices.SortFunc(conns, func(a, b Conn) int {
		return cmp.Or(a.Client.Netip().Compare(b.Client.Netip()), cmp.Compare(a.ClientPort, b.ClientPort), cmp.Compare(a.State, b.State))
	})
	return conns
}

// populate fills a table with connections of every kind, of which each differs.
func populate(t testing.TB, tb *Table, n int) {
	t.Helper()
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 9000), mustAddLocal(t, tb, "fd00::1", 2000, 9999)}
	six := endpoint("[2001:db8::10]:443")
	bindings := []BindingID{
		mustBind(t, tb, packet.ProtoTCP, virtual, real1),
		mustBind(t, tb, packet.ProtoTCP, virtual, endpoint("[fd00:2::11]:8080")),
		mustBind(t, tb, packet.ProtoUDP, virtual, real2),
		mustBind(t, tb, packet.ProtoTCP, six, real2),
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		b := bindings[i%len(bindings)]
		client := clientN(i)
		if tb.Binding(b).Virtual == six {
			client.Addr = addr(fmt.Sprintf("2001:db8:1::%x", i))
		}
		c, why := open(tb, client, b, locals, uint32(i))
		if why != packet.Kept {
			t.Fatal(why)
		}
		with(t, tb, c, func(s *Shard, c *Conn) {
			c.HopGen, c.ToReal, c.ToClient, c.Flags = 7, 8, 9, uint8(i)
			switch {
			case tb.Binding(b).Proto == packet.ProtoUDP:
				s.SetAlarm(c, uint32(15_000+i*37%30_000))
				if i%3 == 0 {
					s.SetState(c, UDP, 300_000, uint32(i))
				}
			case i%3 != 0:
				s.SetState(c, []State{Established, FinWait, TimeWait}[i%3], uint32(r.IntN(90_000)), uint32(i))
				c.SeqDelta, c.AckDelta, c.RealSeq = r.Uint32(), r.Uint32(), r.Uint32()
				s.SetSpare(c, uint32(i), r.Uint32())
			}
		})
		if i%64 == 0 { // as many ports as a client has
			k := tb.TemplateKey(packet.ProtoTCP, client.Addr, tb.Binding(bindings[0]).Virtual)
			if _, _, ok := tb.Reserve(); !ok {
				t.Fatal("no place for a template")
			}
			s := tb.Lock(k)
			if _, why := s.InsertTemplate(k, client.Addr, bindings[0], 360_000, uint32(i)); why != packet.Kept {
				t.Fatal(why)
			}
			s.Unlock()
		}
	}
	for i := range tb.Shards() { // removals leave holes
		tb.Expire(i, 20_000, 1<<30, func(_ *Shard, c *Conn) uint32 { return 0 })
	}
}

func TestAdoptKeepsEverything(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 5000, Shards: 16})
	populate(t, tb, 3000)
	want := all(tb)
	if len(want) < 2000 {
		t.Fatalf("only %d connections to begin with", len(want))
	}
	var spare []uint32
	for _, c := range want {
		if c.State == Established {
			with(t, tb, c, func(s *Shard, c *Conn) { a, b := s.Spare(c); spare = append(spare, a, b) })
		}
	}
	heir, found := adopted(t, slices.Clone(mem)[:len(mem):len(mem)])
	if found.Kept != len(want) || found.Lost() != 0 || found.Undone != 0 || found.Entries != 0 {
		t.Errorf("adoption: %+v, want %d kept and nothing else", *found, len(want))
	}
	if heir.Clock() != tb.Clock() || heir.Clock() != 20_000 {
		t.Errorf("clock %d, want %d", heir.Clock(), tb.Clock())
	}
	if got := all(heir); !slices.Equal(got, want) {
		t.Error("the connections are others than before")
	}
	var kept []uint32
	for _, c := range want {
		if c.State == Established {
			with(t, heir, c, func(s *Shard, c *Conn) { a, b := s.Spare(c); kept = append(kept, a, b) })
		}
	}
	if !slices.Equal(kept, spare) {
		t.Error("spare bits are others than before")
	}
	was, is := tb.Stats(), heir.Stats()
	is.Locals = nil // held by nobody yet, and the conflicts are a mere count
	if was.Locals = nil; fmt.Sprint(is) != fmt.Sprint(was) {
		t.Errorf("stats %+v, want %+v", is, was)
	}
	// The same IDs are given out again, and what is new gets others.
	if id := mustBind(t, heir, packet.ProtoTCP, virtual, real1); id != 1 {
		t.Errorf("binding got ID %d, want 1", id)
	}
	if id := mustBind(t, heir, packet.ProtoTCP, virtual, endpoint("10.0.2.99:1")); id != 5 {
		t.Errorf("new binding got ID %d, want 5", id)
	}
	if id := mustAddLocal(t, heir, "10.0.1.1", 1024, 2047); id != 1 {
		t.Errorf("local address got ID %d, want 1", id)
	}
	// Both go on alike: timers, and who makes room.
	a, b := 0, 0
	for now := uint32(30_000); now < 500_000; now += 10_000 {
		a, b = a+len(expireAll(tb, now)), b+len(expireAll(heir, now))
		if a < b-3 || a > b+3 { // a tick earlier or later
			t.Errorf("at %d ms: %d connections have expired, want %d", now, b, a)
		}
	}
	if a != b {
		t.Errorf("%d connections expire, want %d", b, a)
	}
	if err := heir.Check(); err != nil {
		t.Error(err)
	}
}

// The oldest half-open connection is still the first to make room.
func TestAdoptKeepsTheOrderOfTheHalfOpen(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 300, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)
	for _, i := range rand.Perm(300) { // slots are not in the order of time
		if _, why := open(tb, clientN(i), b, []LocalID{l}, uint32(1<<22+i*tick)); why != packet.Kept {
			t.Fatal(why)
		}
	}
	tb.setClock(1<<22 + 300*tick)
	heir, _ := adopted(t, mem)
	for i := range 300 {
		evicted, was, _ := heir.Reserve()
		if !was || evicted.Client != clientN(i).Addr {
			t.Fatalf("eviction %d: %v, want %v", i, evicted.Client.Netip(), clientN(i).Addr.Netip())
		}
	}
}

func TestAdoptUndoesChanges(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
	b, other := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, virtual, real2)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}
	for _, tc := range []struct {
		name string
		made bool
		do   func(*Shard, *Conn)
		want int
	}{
		{"rebind", false, func(s *Shard, c *Conn) { s.Rebind(c, other, l, nil) }, 1},
		{"half a rebind", false, func(s *Shard, c *Conn) { s.disclaim(c, s.slot(c), s.hashes(c).out); c.bound = uint32(other) }, 1},
		{"numbers", false, func(s *Shard, c *Conn) { c.AckDelta = 99; s.SetState(c, Established, 1000, 0) }, 1},
		{"made", true, func(s *Shard, c *Conn) { c.AckDelta = 99; s.SetState(c, SynSent, 1000, 0) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, why := open(tb, clientN(1), b, l, tb.Clock())
			if why != packet.Kept {
				t.Fatal(why)
			}
			with(t, tb, c, func(s *Shard, c *Conn) {
				s.Begin(c, tc.made)
				tc.do(s, c)
			})
			heir, found := adopted(t, mem)
			if got := all(heir); len(got) != tc.want || found.Undone != 1 || found.Lost() != 0 || tc.want == 1 && got[0] != c {
				t.Errorf("got %+v, %+v, want %d connection as it was", got, *found, tc.want)
			}
			expireAll(heir, heir.Clock()+1<<20)
			tb, _ = adopted(t, mem)
		})
	}
	c, _ := open(tb, clientN(1), b, l, tb.Clock())
	with(t, tb, c, func(s *Shard, c *Conn) {
		s.Begin(c, false)
		c.AckDelta = 99
		s.Commit()
	})
	if heir, found := adopted(t, mem); found.Undone != 0 || all(heir)[0].AckDelta != 99 {
		t.Error("what was committed was undone")
	}
}

// What an adoption was in the middle of, the next one finishes: the index may be
// half made then, and says nothing.
func TestAdoptAgain(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 1000, Shards: 4})
	populate(t, tb, 500)
	want := all(tb)
	for i := range tb.shards {
		tb.shards[i].mark.rebuilding.Store(1)
		clear(tb.shards[i].index[:len(tb.shards[i].index)/2])
	}
	heir, found := adopted(t, mem)
	if found.Lost() != 0 || !slices.Equal(all(heir), want) {
		t.Errorf("adoption: %+v, want all %d kept", *found, len(want))
	}
	heir, found = adopted(t, mem) // and once more, from an index that says all again
	if found.Lost() != 0 || !slices.Equal(all(heir), want) {
		t.Errorf("second adoption: %+v, want all %d kept", *found, len(want))
	}
}

func TestResized(t *testing.T) {
	for _, capacity := range []int{400, 5000} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			tb, mem := tableIn(t, Config{MaxConnections: 1000, Shards: 4})
			populate(t, tb, 800)
			want := all(tb)
			tb, _ = adopted(t, mem)
			heir, left, err := tb.Resized(capacity, memory(Measure(Config{MaxConnections: capacity, Shards: 4}).Memory()))
			if err != nil {
				t.Fatal(err)
			}
			if err := heir.Check(); err != nil {
				t.Fatal(err)
			}
			got := all(heir)
			if capacity > len(want) {
				if left != 0 || !slices.Equal(got, want) {
					t.Errorf("%d left behind, want all %d kept", left, len(want))
				}
				return
			}
			if len(got)+left != len(want) || len(got) < capacity*9/10 || len(got) > capacity {
				t.Errorf("%d kept and %d left behind of %d, want about %d kept", len(got), left, len(want), capacity)
			}
			full := func(conns []Conn) (n int) {
				for _, c := range conns {
					if !c.State.HalfOpen() {
						n++
					}
				}
				return n
			}
			if lost := full(want) - full(got); lost > left || lost > 0 && len(got) > full(got) && lost > len(want)/20 {
				t.Errorf("%d that were not half-open were left behind", lost)
			}
		})
	}
}

func BenchmarkAdopt(b *testing.B) {
	const conns = 1_000_000
	tb, mem := tableIn(b, Config{MaxConnections: conns})
	l := []LocalID{mustAddLocal(b, tb, "10.0.1.1", 1, 65535), mustAddLocal(b, tb, "10.0.1.2", 1, 65535)}
	var bindings []BindingID
	for i := range 16 {
		bindings = append(bindings, mustBind(b, tb, packet.ProtoTCP, virtual, packet.Endpoint{Addr: packet.AddrFrom4([]byte{10, 0, 2, byte(i)}), Port: 80}))
	}
	for i := range conns {
		c, why := open(tb, clientN(i), bindings[i%16], l, 0)
		if why != packet.Kept {
			b.Fatal(why)
		}
		establish(b, tb, c, 0)
	}
	for b.Loop() {
		if _, found, err := Adopt(mem); err != nil || found.Kept != conns {
			b.Fatal(found, err)
		}
	}
}

// BenchmarkAdoptFew adopts a large table that holds little.
func BenchmarkAdoptFew(b *testing.B) {
	tb, mem := tableIn(b, Config{MaxConnections: 1_000_000})
	l := []LocalID{mustAddLocal(b, tb, "10.0.1.1", 1, 65535)}
	bind := mustBind(b, tb, packet.ProtoTCP, virtual, real1)
	for i := range 500 {
		if _, why := open(tb, clientN(i), bind, l, 0); why != packet.Kept {
			b.Fatal(why)
		}
	}
	for b.Loop() {
		if _, found, err := Adopt(mem); err != nil || found.Kept != 500 {
			b.Fatal(found, err)
		}
	}
}
