package synproxy

import (
	"math/rand/v2"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
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
			ends := endsOfSome(t, r)
			ends.SetFlow(&flows[i], packet.ProtoTCP)
			isns[i] = r.Uint32()
			if ends.Is6() {
				b.Add6(ends.Src6(), ends.Dst6(), ends.Ports, isns[i])
			} else {
				b.Add(ends.Addrs, ends.Ports, isns[i])
			}
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

// endsOfSome returns the ends of a random packet of either family.
func endsOfSome(t *testing.T, r *rand.Rand) packet.Ends {
	ends := [2]packet.Endpoint{packettest.Endpoint("198.51.100.1:1"), packettest.Endpoint("203.0.113.1:80")}
	if r.IntN(2) == 0 {
		ends = [2]packet.Endpoint{packettest.Endpoint("[2001:db8::1]:1"), packettest.Endpoint("[2001:db8:1::1]:80")}
	}
	for i := range ends {
		ends[i].Addr[14], ends[i].Addr[15], ends[i].Port = byte(r.Uint32()), byte(r.Uint32()), uint16(r.Uint32())
	}
	f := packettest.TCP{Src: ends[0], Dst: ends[1], Flags: packet.ACK}.Frame()
	var p packet.Plain
	if !p.Read((*[packet.PlainRoom]byte)(f.Buf[f.Start:]), f.End-f.Start) {
		t.Fatalf("not plain: % x", f.Bytes())
	}
	return p.Ends
}
