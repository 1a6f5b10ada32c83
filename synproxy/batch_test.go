package synproxy

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// TestBatchIsOneByOne has cookies of random flows made and checked together and alone.
func TestBatchIsOneByOne(t *testing.T) {
	keys := NewSecret().Keys(noon)
	r := rand.New(rand.NewPCG(1, 2))
	var b Batch
	for n := range MaxBatch + 1 {
		b.Clear()
		var flows [MaxBatch]packet.Flow
		var isns [MaxBatch]uint32
		for i := range n {
			addrs, ports := r.Uint64(), r.Uint32()
			flows[i], isns[i] = flowOf(addrs, ports), r.Uint32()
			b.Add(addrs, ports, isns[i])
		}
		if b.Len() != n {
			t.Fatalf("length: got %d, want %d", b.Len(), n)
		}
		keys.Cover(&b, keys.Current)
		for i := range n {
			o := Options{MSS: uint16(r.Uint32()), Scale: uint8(r.IntN(16)), SACK: r.IntN(2) == 0, Timestamps: r.IntN(2) == 0}
			cookie := keys.CookieOf(&b, i, &o)
			if want := keys.Cookie(&flows[i], isns[i], &o); cookie != want {
				t.Fatalf("%d of %d: got %#x, want %#x", i, n, cookie, want)
			}
			if !b.Good(i, cookie) || b.Good(i, cookie^1<<r.IntN(checkBits)) {
				t.Fatalf("%d of %d: good cookie refused or bad one taken", i, n)
			}
		}
	}
}

func flowOf(addrs uint64, ports uint32) packet.Flow {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], addrs)
	return packet.Flow{
		Src: packet.AddrFrom4(b[:4]), Dst: packet.AddrFrom4(b[4:]), SrcPort: uint16(ports >> 16), DstPort: uint16(ports), Proto: packet.ProtoTCP,
	}
}
