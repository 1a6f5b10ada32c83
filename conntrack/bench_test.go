package conntrack

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// benchTable returns a table with n connections and, in random order, the flows
// of both directions of some of them.
func benchTable(b *testing.B, n int) (*Table, []packet.Flow) {
	c := Config{MaxConnections: n + 1024, HashKey: testKey}
	tb, err := New(c, mapped(b, c))
	if err != nil {
		b.Fatal(err)
	}
	binding := make([]BindingID, 100)
	for i := range binding {
		real := packet.Endpoint{Addr: packet.AddrFrom4([]byte{10, 0, 2, byte(i)}), Port: 8080}
		binding[i] = mustBind(b, tb, packet.ProtoTCP, virtual, real)
	}
	var l []LocalID
	for i := range 4 {
		l = append(l, mustAddLocal(b, tb, fmt.Sprintf("10.0.1.%d", i), 1024, 65535))
	}
	flows := make([]packet.Flow, 0, min(2*n, 1<<20))
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range n {
		c, why := open(tb, clientN(i), binding[i%len(binding)], l, 0)
		if why != packet.Kept {
			b.Fatal(why)
		}
		if rng.IntN(2*n) < cap(flows) && len(flows)+2 <= cap(flows) {
			flows = append(flows, tb.InboundFlow(&c), tb.OutboundFlow(&c))
		}
	}
	rng.Shuffle(len(flows), func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
	return tb, flows
}

// outboundBench reports whether f comes from one of benchTable's real servers.
func outboundBench(f *packet.Flow) bool { return f.SrcPort == 8080 }

func (t *Table) benchKey(f *packet.Flow) Key {
	if outboundBench(f) {
		return t.OutboundKey(f)
	}
	return t.InboundKey(f)
}

// BenchmarkFind is hash, lock, find and touch of connections at random, in
// batches of 64: one by one, and with the batch hashed and prefetched first.
func BenchmarkFind(b *testing.B) {
	const batch = 64
	for _, n := range []int{10_000, 1_000_000} {
		tb, flows := benchTable(b, n)
		use := func(k Key, f *packet.Flow) {
			s := tb.Lock(k)
			c := s.Find(k, f)
			s.Touch(c, 90_000, 0)
			s.Unlock()
		}
		for _, prefetch := range []bool{false, true} {
			b.Run(fmt.Sprintf("conns=%d/prefetch=%v", n, prefetch), func(b *testing.B) {
				b.ReportAllocs()
				var keys [batch]Key
				var together Batch
				at := 0
				for i := 0; i < b.N; i += batch {
					if at += batch; at+batch > len(flows) {
						at = 0
					}
					f := flows[at : at+batch]
					for j := range f {
						keys[j] = tb.benchKey(&f[j])
						together.SetKey(j, keys[j])
					}
					if prefetch {
						lookAhead(tb, &together, batch)
					}
					for j := range f {
						use(keys[j], &f[j])
					}
				}
			})
		}
	}
}

// BenchmarkInsertRemove is a connection's whole stay, in a table with others.
func BenchmarkInsertRemove(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		tb, _ := benchTable(b, n)
		id, l := BindingID(1), []LocalID{1, 2, 3, 4}
		b.Run(fmt.Sprintf("conns=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f := flow(packet.ProtoTCP, clientN(n+i%1_000_000), virtual)
				k := tb.InboundKey(&f)
				tb.Reserve()
				s := tb.Lock(k)
				c, why := s.Insert(k, &f, id, l, nil, 0)
				if why != packet.Kept {
					b.Fatal(why)
				}
				s.SetState(c, Established, 90_000, 0)
				s.Remove(c)
				s.Unlock()
			}
		})
	}
}

// BenchmarkReserve is a flood's SYN at the bound: the oldest half-open
// connection goes, a new one comes.
func BenchmarkReserve(b *testing.B) {
	const n = 100_000
	c := Config{MaxConnections: n, HashKey: testKey}
	tb, err := New(c, mapped(b, c))
	if err != nil {
		b.Fatal(err)
	}
	id := mustBind(b, tb, packet.ProtoTCP, virtual, real1)
	l := []LocalID{mustAddLocal(b, tb, "10.0.1.1", 1024, 65535), mustAddLocal(b, tb, "10.0.1.2", 1024, 65535)}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		open(tb, clientN(i&(1<<24-1)), id, l, uint32(i/100))
	}
}

// BenchmarkMemory is what a connection takes in a table of a million, everything
// but the ports included.
func BenchmarkMemory(b *testing.B) {
	z := Measure(Config{MaxConnections: 1_000_000})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(z.PerConnection(), "bytes/conn")
}
