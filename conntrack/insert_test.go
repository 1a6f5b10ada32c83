package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestInsert(t *testing.T) {
	t.Run("both_flows_lead_to_it", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 100})
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		l := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
		c, why := open(tb, clientN(7), b, []LocalID{l}, 1000)
		if why != packet.Kept {
			t.Fatal(why)
		}
		if !has(t, tb, c) {
			t.Error("not found")
		}
		in, out := tb.InboundFlow(&c), tb.OutboundFlow(&c)
		if want := flow(packet.ProtoTCP, clientN(7), virtual); in != want {
			t.Errorf("inbound flow: got %v, want %v", in, want)
		}
		local := packet.Endpoint{Addr: addr("10.0.1.10"), Port: c.LocalPort}
		if want := flow(packet.ProtoTCP, real1, local); out != want {
			t.Errorf("outbound flow: got %v, want %v", out, want)
		}
		if a, b := tb.InboundKey(&in).Shard(), tb.OutboundKey(&out).Shard(); a != b || int(c.LocalPort)%64 != a {
			t.Errorf("shards of inbound, outbound, port: %d, %d, %d", a, b, c.LocalPort%64)
		}
		if c.State != SynReceived || c.Deadline != 1000+initialTimeout {
			t.Errorf("state %v, deadline %d", c.State, c.Deadline)
		}
	})
	t.Run("removal_takes_both_flows", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 100})
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		l := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
		c, _ := open(tb, clientN(7), b, []LocalID{l}, 0)
		with(t, tb, c, func(s *Shard, live *Conn) {
			if e := s.Remove(live); e.Conn != c {
				t.Errorf("ended: got %+v, want %+v", e.Conn, c)
			}
		})
		if has(t, tb, c) {
			t.Error("found after removal")
		}
		if st := tb.Stats(); st.Connections != 0 || st.Locals[0].InUse != 0 || tb.used.Load() != 0 {
			t.Errorf("something is left: %+v, %d reserved", st, tb.used.Load())
		}
	})
	t.Run("neither_flow_without_a_port", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 100})
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		if _, why := open(tb, clientN(7), b, nil, 0); why != packet.NoLocalPort {
			t.Errorf("got %v, want %v", why, packet.NoLocalPort)
		}
		if st := tb.Stats(); st.Connections != 0 || tb.used.Load() != 0 {
			t.Errorf("something is left: %+v", st)
		}
	})
	t.Run("neither_flow_in_a_full_shard", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 3, Shards: 1})
		b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
		l := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
		for n := range 3 {
			open(tb, clientN(n), b, []LocalID{l}, 0)
		}
		tb.max++ // as if another shard were emptier than chance allows
		if _, why := open(tb, clientN(3), b, []LocalID{l}, 0); why != packet.TableFull {
			t.Errorf("got %v, want %v", why, packet.TableFull)
		}
		if st := tb.Stats(); st.Connections != 3 || st.Locals[0].InUse != 3 {
			t.Errorf("after a failed insert: %+v", st)
		}
	})
	t.Run("udp_begins_one_way", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 100})
		b := mustBind(t, tb, packet.ProtoUDP, virtual, real1)
		l := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
		if c, _ := open(tb, clientN(7), b, []LocalID{l}, 0); c.State != UDPOneWay {
			t.Errorf("got %v", c.State)
		}
	})
	t.Run("ipv6", func(t *testing.T) {
		tb := newTestTable(t, Config{MaxConnections: 100})
		b := mustBind(t, tb, packet.ProtoTCP, endpoint("[2001:db8::10]:80"), endpoint("[fd00:2::11]:80"))
		v4 := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
		v6 := mustAddLocal(t, tb, "fd00:1::10", 1024, 65535)
		for n := range uint16(20) { // whichever comes first in turn, only v6 will do
			c, why := open(tb, endpoint("[2001:db8:9::1]:5000"), b, []LocalID{v4, v6}, 0)
			if why != packet.Kept || c.Local != v6 || !has(t, tb, c) {
				t.Fatalf("%d: %v, local %d, want %d", n, why, c.Local, v6)
			}
			with(t, tb, c, func(s *Shard, c *Conn) { s.Remove(c) })
		}
	})
}

func TestFindComparesTheWholeKey(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	other, _ := open(tb, clientN(1), b, l, 0)

	// As if the flow of client 2 had the tag and the home of client 1's.
	f := flow(packet.ProtoTCP, clientN(2), virtual)
	k := tb.InboundKey(&f)
	var wrong uint32
	with(t, tb, other, func(s *Shard, c *Conn) {
		wrong = s.slot(c)
		s.index.insert(k.hash, wrong)
		if got := s.Find(k, &f); got != nil {
			t.Errorf("same tag, different key: found %+v", *got)
		}
	})
	c, _ := open(tb, clientN(2), b, l, 0)
	with(t, tb, c, func(s *Shard, c *Conn) {
		if c.Client != clientN(2).Addr {
			t.Errorf("same tag, different key: found %+v", *c)
		}
		s.index.remove(k.hash, wrong)
	})
}

// Whatever part of a flow differs, it is another flow.
func TestEveryPartOfTheKeyCounts(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	copied, _ := open(tb, clientN(1), b, l, 0)
	parts := map[string]func(*packet.Flow){
		"source_address":      func(f *packet.Flow) { f.Src[15]++ },
		"source_port":         func(f *packet.Flow) { f.SrcPort++ },
		"destination_address": func(f *packet.Flow) { f.Dst[15]++ },
		"destination_port":    func(f *packet.Flow) { f.DstPort++ },
		"protocol":            func(f *packet.Flow) { f.Proto = packet.ProtoUDP },
	}
	with(t, tb, copied, func(s *Shard, c *Conn) {
		in, out := tb.InboundFlow(c), tb.OutboundFlow(c)
		if !s.has(c, inbound, &in) || !s.has(c, outbound, &out) || s.has(c, template, &in) {
			t.Error("its own flows")
		}
		for name, change := range parts {
			otherIn, otherOut := in, out
			change(&otherIn)
			change(&otherOut)
			if s.has(c, inbound, &otherIn) || s.has(c, outbound, &otherOut) {
				t.Errorf("%s does not count", name)
			}
		}
		local := c.Local
		c.State, c.Local = Template, 0
		if s.has(c, inbound, &in) || !s.has(c, template, &in) {
			t.Error("template and connection are the same")
		}
		c.State, c.Local = SynReceived, local
	})
}

func TestTemplate(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 2})
	b1 := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
	masked := addr("198.51.100.0")
	k := tb.TemplateKey(packet.ProtoTCP, masked, virtual)

	tb.Reserve()
	s := tb.Lock(k)
	if got := s.FindTemplate(k, packet.ProtoTCP, masked, virtual); got != nil {
		t.Errorf("found before insertion: %+v", *got)
	}
	if _, why := s.InsertTemplate(k, masked, b1, 60_000, 0); why != packet.Kept {
		t.Fatal(why)
	}
	if got := s.FindTemplate(k, packet.ProtoTCP, masked, virtual); got == nil || got.Binding() != b1 {
		t.Errorf("got %+v", got)
	}
	if got := s.FindTemplate(k, packet.ProtoUDP, masked, virtual); got != nil {
		t.Errorf("found for another protocol: %+v", *got)
	}
	s.Unlock()

	t.Run("is_not_a_connection", func(t *testing.T) {
		f := flow(packet.ProtoTCP, packet.Endpoint{Addr: masked}, virtual)
		k := tb.InboundKey(&f)
		s := tb.Lock(k)
		defer s.Unlock()
		if got := s.Find(k, &f); got != nil {
			t.Errorf("found as a connection: %+v", *got)
		}
	})
	t.Run("counts_against_the_bound", func(t *testing.T) {
		c, _ := open(tb, clientN(1), b1, []LocalID{l}, 0)
		establish(t, tb, c, 0)
		if _, why := open(tb, clientN(2), b1, []LocalID{l}, 0); why != packet.TableFull {
			t.Errorf("got %v, want %v", why, packet.TableFull)
		}
	})
	t.Run("expires", func(t *testing.T) {
		if st := tb.Stats(); st.Templates != 1 || st.Connections != 1 {
			t.Errorf("got %+v", st)
		}
		ended := expireAll(tb, 60_000+tick)
		if len(ended) != 1 || ended[0].State != Template {
			t.Errorf("ended: %+v", ended)
		}
	})
}

func TestRestartKeepsServerAndPort(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 10})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
	c, _ := open(tb, clientN(1), b, []LocalID{l}, 0)
	establish(t, tb, c, 0)
	with(t, tb, c, func(s *Shard, c *Conn) {
		s.SetState(c, TimeWait, 7000, 5000)
		c.SeqDelta, c.AckDelta, c.FirstData, c.RealSeq, c.RealAck, c.Flags = 1, 2, 3, 4, 5, 6
		c.ToReal, c.HopGen = 8, 9
		s.Restart(c, SynReceived, 30_000, 6000)
	})
	want := c
	want.Deadline, want.ToReal, want.HopGen, want.born = 36_000, 8, 9, 6000>>tickShift
	with(t, tb, c, func(_ *Shard, c *Conn) {
		if got := c.Copy(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	if st := tb.Stats(); st.HalfOpen != 1 || st.Connections != 1 {
		t.Errorf("got %+v", st)
	}
	t.Run("while_half_open_it_becomes_the_youngest", func(t *testing.T) {
		other, _ := open(tb, clientN(2), b, []LocalID{l}, 7000)
		with(t, tb, c, func(s *Shard, c *Conn) { s.Restart(c, SynReceived, 30_000, 8000) })
		for range 8 {
			tb.Reserve()
		}
		if e, evicted, _ := tb.Reserve(); !evicted || e.Client != other.Client {
			t.Errorf("evicted %v, want %v", e.Client, other.Client)
		}
		for range 9 {
			tb.Release()
		}
	})
}
