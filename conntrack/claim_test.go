package conntrack

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestClaims(t *testing.T) {
	setup := func(t *testing.T, ports uint16) (*Table, BindingID, []LocalID) {
		tb := newTestTable(t, Config{MaxConnections: 100, Shards: 1})
		return tb, mustBind(t, tb, packet.ProtoTCP, virtual, real1), []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1000, 1000+ports-1)}
	}
	claim := func(tb *Table, cs *Claims, n int, b BindingID, l []LocalID) (Key, packet.Flow, *Claim) {
		f := flow(packet.ProtoTCP, clientN(n), virtual)
		k := tb.InboundKey(&f)
		if !tb.Claim(cs, k, b, l, nil) {
			t.Fatal("no port is left")
		}
		tb.HashClaims(cs)
		return k, f, cs.At(cs.Len() - 1)
	}
	insert := func(tb *Table, k Key, f *packet.Flow, b BindingID, c *Claim) *Conn {
		tb.Reserve()
		s := tb.Lock(k)
		defer s.Unlock()
		return s.InsertClaimed(k, f, b, c, 0)
	}
	t.Run("of_several_pools_by_turns", func(t *testing.T) {
		tb, b, _ := setup(t, 1)
		var pools [2][]LocalID
		for i := range 4 {
			pools[i%2] = append(pools[i%2], mustAddLocal(t, tb, fmt.Sprintf("10.0.2.%d", i+1), 1024, 65535))
		}
		took := map[LocalID]int{}
		for n := range 16 * turnLength {
			var claims Claims
			pool := pools[n/3%2]
			k, _, c := claim(tb, &claims, n, b, pool)
			if !slices.Contains(pool, c.Local()) {
				t.Fatalf("claim %d is of another pool's local address", n)
			}
			took[c.Local()]++
			tb.Disclaim(k, b, c)
		}
		for id, n := range took {
			if n < 3*turnLength || n > 5*turnLength {
				t.Errorf("local address %d has served %d of %d", id, n, 16*turnLength)
			}
		}
	})
	t.Run("are_different_and_become_connections", func(t *testing.T) {
		tb, b, l := setup(t, 4)
		var keys [4]Key
		var flows [4]packet.Flow
		var claims Claims
		for i := range keys {
			keys[i], flows[i], _ = claim(tb, &claims, i, b, l)
		}
		for i := range keys {
			tb.Foresee(claims.At(i))
		}
		used := map[uint16]bool{}
		for i := range keys {
			conn := insert(tb, keys[i], &flows[i], b, claims.At(i))
			if conn == nil || conn.State != SynReceived || used[conn.LocalPort] {
				t.Fatalf("claim %d: got %+v", i, conn)
			}
			used[conn.LocalPort] = true
			out := tb.OutboundFlow(conn)
			s := tb.Lock(tb.OutboundKey(&out))
			if s.Find(tb.OutboundKey(&out), &out) != conn {
				t.Errorf("claim %d: its connection is not found from the real server's side", i)
			}
			s.Unlock()
		}
	})
	t.Run("given_up_leave_the_port_idle", func(t *testing.T) {
		tb, b, l := setup(t, 1)
		var claims Claims
		k, _, c := claim(tb, &claims, 1, b, l)
		ports := tb.shards[0].ports[l[0]]
		if ports.free != 0 {
			t.Errorf("while it is claimed: %d ports are idle", ports.free)
		}
		tb.Disclaim(k, b, c)
		if ports.free != 1 {
			t.Errorf("after that: %d ports are idle, want 1", ports.free)
		}
	})
	t.Run("yield_to_who_got_a_shared_port_first", func(t *testing.T) {
		tb, b1, l := setup(t, 1)
		b2 := mustBind(t, tb, packet.ProtoTCP, virtual, real2)
		open(tb, clientN(1), b1, l, 0)
		var claims Claims
		k, f, c := claim(tb, &claims, 2, b2, l)
		if _, why := open(tb, clientN(3), b2, l, 0); why != packet.Kept {
			t.Fatalf("got %v", why)
		}
		if conn := insert(tb, k, &f, b2, c); conn != nil {
			t.Errorf("two connections have port %d toward %v", conn.LocalPort, real2)
		}
		tb.Release()
		tb.Disclaim(k, b2, c)
	})
}
