package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestRebind(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	first, second := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, virtual, real2)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 1025)}
	c, why := open(tb, clientN(1), first, locals, 0)
	if why != packet.Kept {
		t.Fatal(why)
	}
	old := tb.OutboundFlow(&c)
	with(t, tb, c, func(s *Shard, c *Conn) {
		if why := s.Rebind(c, second, locals, nil); why != packet.Kept {
			t.Fatal(why)
		}
		now := tb.OutboundFlow(c)
		if now.Source() != real2 {
			t.Errorf("the connection leads to %v, want %v", now.Source(), real2)
		}
		if got := s.Find(tb.OutboundKey(&now), &now); got != c {
			t.Error("not found by what the new real server sends")
		}
		if s.Find(tb.OutboundKey(&old), &old) != nil {
			t.Error("still found by what the old real server sends")
		}
		in := tb.InboundFlow(c)
		if got := s.Find(tb.InboundKey(&in), &in); got != c {
			t.Error("not found by what the client sends")
		}
	})
	if err := tb.Check(); err != nil {
		t.Error(err)
	}
}

func TestRebindWithoutAPortChangesNothing(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	first, second := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, virtual, real2)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 1024)}
	if _, why := open(tb, clientN(2), second, locals, 0); why != packet.Kept {
		t.Fatal(why)
	}
	c, why := open(tb, clientN(1), first, locals, 0)
	if why != packet.Kept {
		t.Fatal(why)
	}
	with(t, tb, c, func(s *Shard, now *Conn) {
		if why := s.Rebind(now, second, locals, nil); why != packet.NoLocalPort {
			t.Errorf("got %v, want %v", why, packet.NoLocalPort)
		}
		if now := now.Copy(); now != c {
			t.Errorf("became %+v, was %+v", now, c)
		}
	})
}

// A connection may be given another real server while its timer is being looked at.
func TestRebindFromExpire(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	first, second := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, virtual, real2)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	if _, why := open(tb, clientN(1), first, locals, 0); why != packet.Kept {
		t.Fatal(why)
	}
	calls := 0
	due := func(s *Shard, c *Conn) uint32 {
		if calls++; calls == 2 {
			return 0
		}
		s.Rebind(c, second, locals, nil)
		return 500
	}
	tb.Expire(0, initialTimeout+tick, 10, due)
	if err := tb.Check(); err != nil {
		t.Error(err)
	}
	tb.Expire(0, initialTimeout+500+3*tick, 10, due)
	if calls != 2 || tb.Stats().Connections != 0 {
		t.Errorf("looked at %d times, %d connections left, want 2 and none", calls, tb.Stats().Connections)
	}
}

func TestSpareIsKeptUntilHalfOpenAgain(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	for i := range 3 { // neighbours, whose lists must not be disturbed
		c, _ := open(tb, clientN(i), b, locals, 0)
		if i == 2 {
			continue
		}
		with(t, tb, c, func(s *Shard, c *Conn) {
			s.SetState(c, Established, 1000, 0)
			s.SetSpare(c, 7, uint32(i))
			s.SetState(c, FinWait, 1000, 0)
			if a, b := s.Spare(c); a != 7 || b != uint32(i) {
				t.Errorf("got %d and %d, want 7 and %d", a, b, i)
			}
			if i == 1 {
				s.Restart(c, SynReceived, 1000, 0)
			}
		})
	}
}
