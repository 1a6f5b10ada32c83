package conntrack

import (
	"net/netip"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/internal/state"
)

// testKey makes runs repeatable.
var testKey = siphash.Key{K0: 1, K1: 2}

// newTestTable returns a table whose arena is on the Go heap, where the race
// detector sees it. The test ends with Check.
func newTestTable(t testing.TB, c Config) *Table {
	t.Helper()
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	if c.HashKey == (siphash.Key{}) {
		c.HashKey = testKey
	}
	// Large enough for the allocator to give it whole pages, so it is aligned.
	tb := newTable(c.withDefaults(), make([]byte, Measure(c).Memory()))
	t.Cleanup(func() {
		if err := tb.Check(); err != nil {
			t.Errorf("Check: %v", err)
		}
	})
	return tb
}

// mapped returns memory as fnatd has it, in huge pages where there are some.
func mapped(t testing.TB, c Config) []byte {
	t.Helper()
	f, err := state.Create("", Measure(c).Memory(), state.Secrets{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f.Table()
}

func endpoint(s string) packet.Endpoint { return packet.EndpointFrom(netip.MustParseAddrPort(s)) }

func addr(s string) packet.Addr { return packet.AddrFromNetip(netip.MustParseAddr(s)) }

// flow returns the flow from client to virtual.
func flow(proto uint8, client, virtual packet.Endpoint) packet.Flow {
	return packet.Flow{
		Src: client.Addr, SrcPort: client.Port, Dst: virtual.Addr, DstPort: virtual.Port, Proto: proto,
	}
}

// clientN returns the n-th of many clients.
func clientN(n int) packet.Endpoint {
	return packet.Endpoint{
		Addr: packet.AddrFrom4([]byte{10, byte(n >> 22), byte(n >> 14), byte(n >> 6)}),
		Port: uint16(1024 + n&63),
	}
}

var (
	virtual = endpoint("203.0.113.10:80")
	real1   = endpoint("10.0.2.11:8080")
	real2   = endpoint("10.0.2.12:8080")
)

func mustBind(t testing.TB, tb *Table, proto uint8, virtual, real packet.Endpoint) BindingID {
	t.Helper()
	id, err := tb.Bind(Binding{proto, virtual, real})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustAddLocal(t testing.TB, tb *Table, lip string, lo, hi uint16) LocalID {
	t.Helper()
	id, err := tb.AddLocal(Local{addr(lip), lo, hi})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// open reserves and inserts a connection from client. If the reason is not Kept
// the reservation is given back. The copy is for looking at.
func open(tb *Table, client packet.Endpoint, b BindingID, locals []LocalID, now uint32) (Conn, packet.Reason) {
	if _, _, ok := tb.Reserve(); !ok {
		return Conn{}, packet.TableFull
	}
	return openReserved(tb, client, b, locals, now)
}

func openReserved(tb *Table, client packet.Endpoint, b BindingID, locals []LocalID, now uint32) (Conn, packet.Reason) {
	f := flow(tb.Binding(b).Proto, client, tb.Binding(b).Virtual)
	k := tb.InboundKey(&f)
	s := tb.Lock(k)
	defer s.Unlock()
	c, why := s.Insert(k, &f, b, locals, nil, now)
	if why != packet.Kept {
		tb.Release()
		return Conn{}, why
	}
	return c.Copy(), why
}

// with calls do with the connection that c is a copy of, its shard locked.
func with(t testing.TB, tb *Table, c Conn, do func(*Shard, *Conn)) {
	t.Helper()
	f := tb.InboundFlow(&c)
	k := tb.InboundKey(&f)
	s := tb.Lock(k)
	defer s.Unlock()
	live := s.Find(k, &f)
	if live == nil {
		t.Fatalf("connection of %v is gone", f.Source())
	}
	do(s, live)
}

// has reports whether the connection that c is a copy of is found from both
// directions; it fails the test if it is from only one.
func has(t testing.TB, tb *Table, c Conn) bool {
	t.Helper()
	in, out := tb.InboundFlow(&c), tb.OutboundFlow(&c)
	found := func(k Key, f *packet.Flow) bool {
		s := tb.Lock(k)
		defer s.Unlock()
		return s.Find(k, f) != nil
	}
	inbound, outbound := found(tb.InboundKey(&in), &in), found(tb.OutboundKey(&out), &out)
	if inbound != outbound {
		t.Fatalf("connection of %v: found inbound %v, outbound %v", in.Source(), inbound, outbound)
	}
	return inbound
}

// establish sets c to Established.
func establish(t testing.TB, tb *Table, c Conn, now uint32) {
	t.Helper()
	with(t, tb, c, func(s *Shard, c *Conn) { s.SetState(c, Established, 90_000, now) })
}

// outside returns a copy of c without what is its shard's own business: when the wheel comes
// to it.
func outside(c *Conn) Conn {
	d := c.Copy()
	if !d.State.HalfOpen() {
		d.born = 0
	}
	return d
}

// expireAll runs every shard's timers up to now and returns what was removed.
func expireAll(tb *Table, now uint32) (ended []Conn) {
	for i := range tb.Shards() {
		tb.Expire(i, now, 1<<30, func(_ *Shard, c *Conn) uint32 {
			ended = append(ended, c.Copy())
			return 0
		})
	}
	return ended
}

// plain returns a plain packet of f.
func plain(t testing.TB, f *packet.Flow) (p packet.Plain) {
	frame := packettest.TCP{Src: f.Source(), Dst: f.Destination(), Flags: packet.ACK}.Frame()
	if !p.Read((*[packet.PlainRoom]byte)(frame.Buf[frame.Start:]), frame.End-frame.Start) {
		t.Fatalf("%v: not plain", f)
	}
	return p
}

// lookAhead prepares the lookups of the first n packets.
func lookAhead(tb *Table, b *Batch, n int) {
	tb.Hash(b, 0, n)
	tb.See(b, n)
	var packets [MaxBatch]uint8
	for i := range packets {
		packets[i] = uint8(i)
	}
	tb.Load(b, packets[:n])
}

// catch has a plain packet of key k caught at a hint.
func catch(tb *Table, at Hint, k Key, p *packet.Plain) (*Conn, *Binding) {
	if k.Outbound() {
		return tb.CatchOutbound(at, p)
	}
	return tb.CatchInbound(at, p)
}
