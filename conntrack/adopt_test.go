package conntrack

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/fnatd/fnatd/internal/packet"
)

// memory returns zeroed memory for a table, aligned to a cache line.
func memory(size int) []byte {
	mem := make([]byte, size+cacheLine)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (cacheLine - 1)
	return mem[skip : skip+size : skip+size]
}

// tableIn returns a new table and its memory.
func tableIn(t testing.TB, c Config) (*Table, []byte) {
	t.Helper()
	mem := memory(Measure(c).Memory())
	tb, err := NewIn(c, mem)
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
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535), mustAddLocal(t, tb, "fd00::1", 2000, 60000)}
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
		{"half a rebind", false, func(s *Shard, c *Conn) { s.disclaim(c, s.slot(c)); c.Binding = other }, 1},
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

func TestAdoptDropsWhatDoesNotFit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*Shard, *Conn)
		want  Fault
	}{
		{"client", func(s *Shard, c *Conn) { c.Client[15] ^= 1 }, Unlisted},
		{"client port", func(s *Shard, c *Conn) { c.ClientPort ^= 1 }, Unlisted},
		{"local port", func(s *Shard, c *Conn) { c.LocalPort ^= 1 }, Unlisted},
		{"binding", func(s *Shard, c *Conn) { c.Binding = 2 }, Unlisted},
		{"binding that there is not", func(s *Shard, c *Conn) { c.Binding = 9 }, NoBinding},
		{"binding out of range", func(s *Shard, c *Conn) { c.Binding = 1 << 31 }, Damaged},
		{"no binding", func(s *Shard, c *Conn) { c.Binding = 0 }, Damaged},
		{"local address", func(s *Shard, c *Conn) { c.Local = 3 }, NoLocal},
		{"state", func(s *Shard, c *Conn) { c.State = 200 }, Damaged},
		{"state of UDP", func(s *Shard, c *Conn) { c.State = UDP }, Damaged},
		{"port of a template", func(s *Shard, c *Conn) { c.State, c.ClientPort = Template, 7 }, Damaged},
		{"template", func(s *Shard, c *Conn) { c.State, c.ClientPort = Template, 0 }, Unlisted},
		{"family", func(s *Shard, c *Conn) { c.Client[0] = 0x20 }, Damaged},
		{"index", func(s *Shard, c *Conn) { f := s.t.InboundFlow(c); s.index.remove(s.t.hash(&f, inbound), s.slot(c)) }, Unlisted},
		{"registry", func(s *Shard, c *Conn) { s.t.bindings[1].Real.Port++ }, NoBinding},
		{"registry's local address", func(s *Shard, c *Conn) { s.t.locals[1].Addr[15]++ }, NoLocal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
			b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
			mustBind(t, tb, packet.ProtoTCP, virtual, real2)
			c, _ := open(tb, clientN(1), b, []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}, 0)
			with(t, tb, c, tc.spoil)
			if _, found := adopted(t, mem); found.Dropped[tc.want] != 1 || found.Lost() != 1 || found.Kept != 0 {
				t.Errorf("adoption: %+v, want one dropped as %v", *found, tc.want)
			}
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	_, mem := tableIn(t, Config{MaxConnections: 100, Shards: 4})
	for _, tc := range []struct {
		name, want string
		spoil      func(mem []byte) []byte
	}{
		{"nothing", "too few", func(mem []byte) []byte { return nil }},
		{"a few bytes", "too few", func(mem []byte) []byte { return mem[:63] }},
		{"cut off", "are there", func(mem []byte) []byte { return mem[:len(mem)-1] }},
		{"zeros", "no connection table", func(mem []byte) []byte { clear(mem); return mem }},
		{"another version", "of version 2, this fnatd knows 1", func(mem []byte) []byte { mem[8] = 2; return mem }},
		{"capacity", "header is damaged", func(mem []byte) []byte { mem[17] ^= 4; return mem }},
		{"key", "header is damaged", func(mem []byte) []byte { mem[24] ^= 4; return mem }},
		{"clock", "clock is damaged", func(mem []byte) []byte { mem[51] ^= 0x80; return mem }},
		{"checksum", "header is damaged", func(mem []byte) []byte { mem[40] ^= 4; return mem }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := tc.spoil(append(memory(len(mem))[:0], mem...))
			before := slices.Clone(mem)
			if _, _, err := Adopt(mem); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if !bytes.Equal(mem, before) {
				t.Error("the memory has changed")
			}
		})
	}
}

// Bits are flipped in 10,000 random places, one after the other and many at once: what
// is left must be a sound table, and what is far from a bit must be kept.
func TestAdoptSurvivesFlippedBits(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 400, Shards: 2})
	populate(t, tb, 350)
	live := tb.Stats().Connections + tb.Stats().Templates
	r := rand.New(rand.NewPCG(3, 4))
	trial := memory(len(mem))
	registry := headerBytes + 2*markBytes + maxBindings*bindingBytes + maxLocals*localBytes
	flip := func() {
		at := r.IntN(len(mem)) // a 1 MB registry is mostly empty
		switch r.IntN(4) {
		case 0:
			at = r.IntN(headerBytes + 2*markBytes + 8*bindingBytes)
		case 1, 2:
			at = registry + r.IntN(len(mem)-registry)
		}
		trial[at] ^= 1 << r.IntN(8)
	}
	refused := 0
	for i := range 1000 {
		copy(trial, mem)
		flips := 1
		if i%2 == 1 {
			flips = 19
		}
		for range flips {
			flip()
		}
		heir, found, err := Adopt(trial)
		if err != nil {
			refused++
			continue
		}
		if err := heir.Check(); err != nil {
			t.Fatalf("trial %d: %v", i, err)
		}
		if flips == 1 && found.Entries == 0 && found.Lost() > 1 {
			t.Fatalf("trial %d: one bit cost %d connections: %+v", i, found.Lost(), *found)
		}
		if found.Kept > live+flips {
			t.Fatalf("trial %d: %d connections kept of %d", i, found.Kept, live)
		}
		expireAll(heir, heir.Clock()+1<<19)
		if err := heir.Check(); err != nil {
			t.Fatalf("trial %d, after expiry: %v", i, err)
		}
	}
	if refused == 0 || refused > 500 {
		t.Errorf("%d of 1000 trials were refused for their header", refused)
	}
}

func TestAdoptSurvivesNoise(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 400, Shards: 2})
	populate(t, tb, 350)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 50 {
		trial := append(memory(len(mem))[:0], mem...)
		from := cacheLine + r.IntN(len(trial)-cacheLine)
		if i == 0 {
			from = cacheLine
		}
		to := from + r.IntN(len(trial)-from+1)
		for at := from; at < to; at++ {
			trial[at] = byte(r.Uint32())
		}
		heir, _ := adopted(t, trial)
		expireAll(heir, heir.Clock()+1<<19)
		if err := heir.Check(); err != nil {
			t.Fatal(err)
		}
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
