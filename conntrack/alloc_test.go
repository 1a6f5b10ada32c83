package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestPacketPathDoesNotAllocate(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100})
	tcp := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	udp := mustBind(t, tb, packet.ProtoUDP, endpoint("[2001:db8::10]:53"), endpoint("[fd00:2::11]:53"))
	l := []LocalID{
		mustAddLocal(t, tb, "10.0.1.10", 1024, 65535),
		mustAddLocal(t, tb, "fd00:1::10", 1024, 65535),
	}
	remove := func(s *Shard, c *Conn) uint32 { return 0 }
	f4 := flow(packet.ProtoTCP, clientN(1), virtual)
	f6 := flow(packet.ProtoUDP, endpoint("[2001:db8:9::1]:5000"), tb.Binding(udp).Virtual)
	now := uint32(0)
	var batch Batch

	// life is a connection's: reserved, inserted, found both ways, moved from
	// state to state, restarted, removed or left to expire.
	life := func(f *packet.Flow, b BindingID, to State, expires bool) {
		k := tb.InboundKey(f)
		batch.SetKey(0, k)
		lookAhead(tb, &batch, 1)
		tb.Reserve()
		s := tb.Lock(k)
		c, _ := s.Insert(k, f, b, l, nil, now)
		out := tb.OutboundFlow(c)
		if s.Find(k, f) != c || s.Find(tb.OutboundKey(&out), &out) != c {
			t.Error("not found")
		}
		s.SetState(c, to, 90_000, now)
		if to == UDP {
			s.SetAlarm(c, now+500)
			s.ClearAlarm(c)
		}
		s.Touch(c, 100_000, now)
		s.Touch(c, 1000, now)
		s.Restart(c, to, 3000, now)
		if !expires {
			s.Remove(c)
		}
		s.Unlock()
		now += 5000
		if n := tb.Expire(k.Shard(), now, 10, remove); expires && n == 0 {
			t.Error("did not expire")
		}
	}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"tcp_removed", func() { life(&f4, tcp, Established, false) }},
		{"tcp_expired", func() { life(&f4, tcp, SynSent, true) }},
		{"udp_over_ipv6_removed", func() { life(&f6, udp, UDP, false) }},
		{"udp_over_ipv6_expired", func() { life(&f6, udp, UDPOneWay, true) }},
		{"reserved_and_released", func() { tb.Reserve(); tb.Release() }},
		{"template", func() {
			k := tb.TemplateKey(packet.ProtoTCP, f4.Src, virtual)
			tb.Reserve()
			s := tb.Lock(k)
			s.InsertTemplate(k, f4.Src, tcp, 1000, now)
			s.Remove(s.FindTemplate(k, packet.ProtoTCP, f4.Src, virtual))
			s.Unlock()
		}},
	} {
		if n := testing.AllocsPerRun(200, c.run); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}

	t.Run("at_the_bound", func(t *testing.T) {
		for n := range 100 {
			open(tb, clientN(n), tcp, l, now)
		}
		n := 100
		if got := testing.AllocsPerRun(200, func() {
			open(tb, clientN(n), tcp, l, now)
			n++
		}); got != 0 {
			t.Errorf("%v allocations", got)
		}
	})
}
