package conntrack

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
)

// A packet has its own shard read and no other, from either direction; whoever looks at
// the whole table has all of it.
func TestOpenReadsWhatIsNeeded(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 1000, Shards: 8})
	populate(t, tb, 500)
	want := all(tb)
	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	unread := func() (n int) {
		for i := range heir.shards {
			if heir.shards[i].unread.Load() {
				n++
			}
		}
		return n
	}
	if n := unread(); n != 8 {
		t.Errorf("%d shards are not read at first, want all 8", n)
	}
	for i := range heir.Shards() {
		heir.Expire(i, heir.Clock(), 1<<30, func(*Shard, *Conn) uint32 { t.Error("a timer runs in what is not read"); return 1 })
	}
	i := slices.IndexFunc(want, func(c Conn) bool { return c.State != Template })
	if !has(t, heir, want[i]) {
		t.Error("a connection is not found")
	}
	if n := unread(); n != 7 {
		t.Errorf("%d shards are not read after a packet, want 7", n)
	}
	if found := heir.Finish(2); found.Kept != len(want) || found.Lost() != 0 || unread() != 0 {
		t.Errorf("found %+v and left %d shards, want %d connections", *found, unread(), len(want))
	}
	if err := heir.Check(); err != nil {
		t.Error(err)
	}
}

// Timers do not wait for whoever reads a shard, which takes some milliseconds.
func TestExpireWhileRead(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 1000, Shards: 8})
	populate(t, tb, 500)
	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	heir.shards[3].mu.Lock() // as in read
	looked := make(chan int, 1)
	go func() {
		looked <- heir.Expire(3, heir.Clock()+far, 1<<30, func(*Shard, *Conn) uint32 { return 0 })
	}()
	select {
	case n := <-looked:
		if n != 0 {
			t.Errorf("looked at %d connections of what is not read", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits")
	}
	heir.shards[3].mu.Unlock()
}

// A process may end when it has read some shards, and not others.
func TestOpenAgain(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 1000, Shards: 8})
	populate(t, tb, 500)
	want := len(all(tb))
	for read := range 8 {
		heir, err := Open(mem)
		if err != nil {
			t.Fatal(err)
		}
		for i := range read {
			heir.shards[i].lock()
			heir.shards[i].Unlock()
		}
	}
	if heir, found := adopted(t, mem); found.Kept != want || found.Lost() != 0 {
		t.Errorf("found %+v, want %d connections", *found, want)
	} else if err := heir.Check(); err != nil {
		t.Error(err)
	}
}

// What is not read counts as full, but takes no place from a new connection: it is read
// first.
func TestReserveReadsTheRest(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 2})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}
	var conns []Conn
	for i := range 100 {
		c, why := open(tb, clientN(i), b, locals, 0)
		if why != packet.Kept {
			t.Fatal(why)
		}
		conns = append(conns, c)
	}
	with(t, tb, conns[0], func(s *Shard, c *Conn) { s.Remove(c) }) // its place was used, and is free
	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	if _, evicted, ok := heir.Reserve(); !ok || evicted {
		t.Errorf("evicted %v, ok %v, want the free place", evicted, ok)
	}
	heir.Release()
	if got := heir.used.Load(); got != 99 {
		t.Errorf("%d places in use, want 99", got)
	}
	if err := heir.Check(); err != nil {
		t.Error(err)
	}
}

// WhenRead hears of every shard once, however it comes to be read, and what it removes
// nobody sees.
func TestWhenRead(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 1000, Shards: 8})
	populate(t, tb, 500)
	unwanted := BindingSet{}
	unwanted.Add(1)
	want := 0
	for _, c := range all(tb) {
		if c.Binding() != 1 {
			want++
		}
	}
	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	heir.shards[3].lock()
	heir.shards[3].Unlock()
	var mu sync.Mutex
	heard := map[uint32]int{}
	heir.WhenRead(func(s *Shard) {
		s.RemoveOf(&unwanted)
		mu.Lock()
		defer mu.Unlock()
		heard[s.number]++
	})
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() { heir.Finish(2) })
		done.Go(func() { heir.Stats() })
	}
	done.Wait()
	if st := heir.Stats(); st.Connections+st.Templates != want || int(heir.used.Load()) != want {
		t.Errorf("%+v and %d in use, want %d", st, heir.used.Load(), want)
	}
	for i := range uint32(8) {
		if heard[i] != 1 {
			t.Errorf("heard %d times of shard %d, want once", heard[i], i)
		}
	}
	if err := heir.Check(); err != nil {
		t.Error(err)
	}
}

// What a dead process has left in an index may lead anywhere: a packet's hint must not.
func TestHintsOfWhatIsNotRead(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	c, _ := open(tb, clientN(1), b, []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}, 0)
	f := tb.InboundFlow(&c)
	k := tb.InboundKey(&f)
	s := &tb.shards[0]
	for place := range bucketEntries {
		s.index[s.index.home(k.hash)][firstSlots+place/2] = ^uint64(0)
	}
	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	var batch Batch
	batch.SetKey(0, k)
	lookAhead(heir, &batch, 1)
	if at := batch.Hint(0); at != 0 {
		t.Errorf("a hint at %d of %d", at, len(s.conns))
	}
	locked := heir.Lock(k)
	defer locked.Unlock()
	if locked.Find(k, &f) != nil {
		t.Error("a connection is found that the index does not lead to")
	}
}

// A local address gets another range, and new ones come, before its shards are read.
func TestAddLocalBeforeRead(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 1000, Shards: 8})
	populate(t, tb, 500)
	was := tb.Stats().Locals
	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	last := was[len(was)-1]
	id := mustAddLocal(t, heir, last.Addr.Netip().String(), 2000, 2999)
	fresh := mustAddLocal(t, heir, "10.0.9.9", 3000, 3499)
	b := mustBind(t, heir, packet.ProtoTCP, endpoint("203.0.113.99:99"), endpoint("10.0.2.99:99"))
	if id != last.ID || fresh == id {
		t.Errorf("IDs %d and %d, want %d and a new one", id, fresh, last.ID)
	}
	for i := range 8 {
		if !heir.shards[i].unread.Load() {
			t.Errorf("shard %d is read", i)
		}
	}
	if c, why := open(heir, clientN(9999), b, []LocalID{fresh}, heir.Clock()); why != packet.Kept || c.LocalPort < 3000 || c.LocalPort > 3499 {
		t.Errorf("port %d, %v", c.LocalPort, why)
	}
	for _, l := range heir.Stats().Locals {
		switch {
		case l.ID == id && (l.PortMin != 2000 || l.Free > 1000 || l.Connections != last.Connections):
			t.Errorf("got %+v, was %+v", l, last)
		case l.ID == fresh && (l.Free != 499 || l.Connections != 1):
			t.Errorf("the new one: %+v", l)
		}
	}
	if err := heir.Check(); err != nil {
		t.Error(err)
	}
}
