package conntrack

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// Connections of every kind end together, in groups that are full and that are not, and
// leave nothing behind: the index panics over an entry that is missing, Check says what is
// too much.
func TestEndsOfEveryKind(t *testing.T) {
	for _, n := range []int{1, 3, 4, foreseen - 1, foreseen, foreseen + 1, 5*foreseen - 2} {
		tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 1})
		four, six := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, endpoint("[2001:db8::80]:80"), endpoint("[2001:db8:2::11]:8080"))
		mixed := mustBind(t, tb, packet.ProtoUDP, virtual, endpoint("[2001:db8:2::11]:53"))
		locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 9000), mustAddLocal(t, tb, "2001:db8:1::10", 1024, 9000)}
		counts, lines := newCounts(tb)
		knowing(t, tb, counts, lines, four, six)
		for i := range n {
			client := clientN(i)
			if i%5 == 2 {
				client = packet.Endpoint{Addr: addr("2001:db8:3::1"), Port: uint16(1 + i)}
			}
			if i%5 == 4 {
				tb.Reserve()
				k := tb.TemplateKey(packet.ProtoTCP, client.Addr, virtual)
				s := tb.Lock(k)
				s.InsertTemplate(k, client.Addr, four, initialTimeout, 0)
				s.Unlock()
				continue
			}
			if _, why := open(tb, client, []BindingID{four, mixed, six, four}[i%5], locals, 0); why != packet.Kept {
				t.Fatal(why)
			}
		}
		if ended := expireAll(tb, initialTimeout+2*tick); len(ended) != n || tb.Stats().Connections != 0 || sum(counts) != 0 {
			t.Errorf("%d of %d have ended, %+v, %d are known", len(ended), n, tb.Stats(), sum(counts))
		}
		if err := tb.Check(); err != nil {
			t.Error(err)
		}
	}
}

// A connection that was given another real server while its timer was looked at, and is to
// be removed all the same, is not found by what it was found by before.
func TestEndOfARebound(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
	first, second := mustBind(t, tb, packet.ProtoTCP, virtual, real1), mustBind(t, tb, packet.ProtoTCP, virtual, real2)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	for n := range 5 {
		if _, why := open(tb, clientN(n), first, locals, 0); why != packet.Kept {
			t.Fatal(why)
		}
	}
	tb.Expire(0, initialTimeout+tick, 10, func(s *Shard, c *Conn) uint32 {
		if c.ClientPort%2 == 0 {
			s.Rebind(c, second, locals, nil)
		}
		return 0
	})
	if n := tb.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
