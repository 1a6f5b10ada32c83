package conntrack

import (
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// TestBatchOfBothFamilies has plain packets of both families and others prepared
// together: their keys are those that each has by itself.
func TestBatchOfBothFamilies(t *testing.T) {
	tb := newTestTable(t, Config{MaxConnections: 100, Shards: 8})
	rng := rand.New(rand.NewPCG(1, 2))
	ends := [][2]packet.Endpoint{
		{packettest.Endpoint("198.18.0.2:40000"), packettest.Endpoint("198.18.0.100:80")},
		{packettest.Endpoint("[2001:db8:18::2]:40000"), packettest.Endpoint("[2001:db8:18::100]:80")},
	}
	var batch Batch
	for round := range 100 {
		n := 1 + rng.IntN(MaxBatch)
		want := make([]Key, n)
		for i := range want {
			e := ends[rng.IntN(len(ends))]
			src, dst := e[0], e[1]
			src.Port = uint16(rng.Uint32())
			f := packet.Flow{Src: src.Addr, SrcPort: src.Port, Dst: dst.Addr, DstPort: dst.Port, Proto: packet.ProtoTCP}
			isOutbound := rng.IntN(2) == 0
			want[i] = tb.FlowKey(&f, isOutbound)
			p := plain(t, &f)
			switch {
			case rng.IntN(4) == 0:
				batch.SetKey(i, want[i])
			case p.Is6():
				batch.SetPlain6(i, &p, isOutbound)
			default:
				batch.SetPlain(i, &p, isOutbound)
			}
		}
		lookAhead(tb, &batch, n)
		for i := range want {
			if got := batch.Key(uint8(i)); got != want[i] {
				t.Fatalf("round %d, packet %d of %d: got %+v, want %+v", round, i, n, got, want[i])
			}
		}
	}
}
