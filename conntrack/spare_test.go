package conntrack

import (
	"fmt"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// A plain packet is given what the shard has stored for its connection, and after one that
// wanted it the line in which that lies is loaded ahead.
func TestSpareOfACaughtConnection(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 1000, Shards: 4})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	locals := []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}
	var conns []Conn
	for i := range 100 {
		c, _ := open(tb, clientN(i), b, locals, 0)
		establish(t, tb, c, 0)
		with(t, tb, c, func(s *Shard, c *Conn) { s.SetSpare(c, uint32(i), 7) })
		conns = append(conns, c)
	}
	var batch Batch
	for i, c := range conns {
		in, out := tb.InboundFlow(&c), tb.OutboundFlow(&c)
		for at, f := range []packet.Flow{in, out, in} { // the last one of nobody
			f.SrcPort += uint16(at / 2 * 10_000)
			batch.SetKey(at, tb.FlowKey(&f, at == 1))
		}
		lookAhead(tb, &batch, 3)
		if batch.spareLoads != (i > 0) {
			t.Fatalf("batch %d: loads ahead: %t", i, batch.spareLoads)
		}
		for at, f := range []packet.Flow{in, out} {
			p := plain(t, &f)
			caught, _ := catch(tb, batch.Hint(uint8(at)), batch.Key(uint8(at)), &p)
			if caught == nil {
				t.Fatalf("connection %d is not found", i)
			}
			if x, y := tb.Spare(&batch, uint8(at), caught); x != uint32(i) || y != 7 {
				t.Errorf("got %d and %d, want %d and 7", x, y, i)
			}
			s := &tb.shards[batch.Key(uint8(at)).Shard()]
			perLine := uint32(cacheLine / nodeBytes)
			want := fmt.Sprintf("%p", &s.nodes[halfNode(s.slot(caught))/perLine*perLine])
			if got := fmt.Sprintf("%p", &tb.lines.conns[tb.lines.nodes(s.number, uint32(batch.Hint(uint8(at))))]); got != want {
				t.Errorf("connection %d: would load the line at %s, want %s", i, got, want)
			}
			caught.Release()
		}
	}
}
