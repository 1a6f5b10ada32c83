package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// A worker that is killed while it carries a packet leaves its connection latched, and
// one that is killed while it holds the shard leaves a free place or a half-made
// connection so.
func TestLatchesOfTheDead(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}
	want, _ := open(tb, clientN(1), b, locals, 0)
	open(tb, clientN(2), b, locals, 0)
	conns := tb.shards[0].conns
	conns[0].latch()
	conns[1].latch()
	conns[1].State = None // half removed

	heir, found, err := Adopt(mem)
	if err != nil {
		t.Fatal(err)
	}
	if found.Kept != 1 || found.Lost() != 0 {
		t.Fatalf("found %+v, want one connection", *found)
	}
	with(t, heir, want, func(_ *Shard, c *Conn) {
		if got := c.Copy(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	if conns[1] != (Conn{}) {
		t.Errorf("half removed, and left as %+v", conns[1])
	}
}

// What nobody has judged yet may have any binding, or none.
func TestCatchLeavesUnreadShardsAlone(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	c, _ := open(tb, clientN(1), b, []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}, 0)
	establish(t, tb, c, 0)
	f := tb.InboundFlow(&c)
	p := plain(t, &f)

	heir, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	var batch Batch
	see := func() *Conn {
		batch.SetPlain(0, &p, false)
		lookAhead(heir, &batch, 1)
		k, hint := batch.Key(0), batch.Hint(0)
		got, _ := catch(heir, hint, k, &p)
		return got
	}
	if got := see(); got != nil {
		t.Fatalf("caught %+v in a shard that is not read", *got)
	}
	heir.Finish(1)
	got := see()
	if got == nil {
		t.Fatal("not caught")
	}
	got.Release()
}

// What the shard's lock has held is free after it, whatever became of it.
func TestUnlockLetsGo(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}
	s := &tb.shards[0]
	free := func(when string) {
		t.Helper()
		for i := range s.conns {
			if s.conns[i].bound&latchBit != 0 {
				t.Errorf("%s: place %d is latched", when, i)
			}
		}
		if s.held != nil {
			t.Errorf("%s: %p is held", when, s.held)
		}
	}
	var conns []Conn
	for i := range 4 {
		c, _ := open(tb, clientN(i), b, locals, 0)
		conns = append(conns, c)
	}
	free("opened")
	with(t, tb, conns[0], func(s *Shard, c *Conn) { s.Remove(c) })
	free("removed")
	tb.Walk(0, 0, make([]Conn, 2))
	free("walked")
	var set BindingSet
	set.Add(b)
	tb.Cull(0, 0, 1, &set, func(*Shard, *Conn) bool { return true })
	free("culled")
	tb.Expire(0, 1<<20, 1, func(*Shard, *Conn) uint32 { return 0 })
	free("expired")
	if tb.Stats().Connections != 1 {
		t.Errorf("%d connections, want 1", tb.Stats().Connections)
	}
}

// Who has only the latch moves a connection where no list is concerned, and changes nothing
// elsewhere.
func TestMoveOn(t *testing.T) {
	tests := []struct {
		name     string
		from, to State
		timeout  uint32
		moved    bool
	}{
		{"later", FinWait, TimeWait, 90_000, true},
		{"the same state", FinWait, FinWait, 91_000, true},
		{"still half-open", SynReceived, SynSent, 90_000, true},
		{"sooner", Established, FinWait, 8000, true},
		{"a little before the wheel comes", Established, FinWait, 8000 - patience, true},
		{"well before the wheel comes", Established, FinWait, 7999 - patience, false},
		{"sooner and half-open", SynReceived, SynSent, 8000, false},
		{"answered", SynReceived, Established, 90_000, false},
		{"half-open again", TimeWait, SynReceived, 90_000, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const now = 192 // 8000 ms later a tick begins
			c := Conn{State: tt.from, Deadline: now + 90_000, born: (now + 8000) >> tickShift}
			want := c
			if tt.moved {
				want.State, want.Deadline = tt.to, now+tt.timeout
			}
			if moved := c.MoveOn(tt.to, tt.timeout, now); moved != tt.moved || c != want {
				t.Errorf("moved is %v, and left %+v, want %v, %+v", moved, c, tt.moved, want)
			}
		})
	}
}
