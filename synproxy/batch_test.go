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
		var flows [MaxBatch]packet.Flow
		var isns [MaxBatch]uint32
		for i := range n {
			ends := endsOfSome(t, r)
			ends.SetFlow(&flows[i], packet.ProtoTCP)
			isns[i] = r.Uint32()
			if ends.Is6() {
				b.Set6(i, ends.Src6(), ends.Dst6(), ends.Ports, isns[i])
			} else {
				b.Set(i, ends.Addrs, ends.Ports, isns[i])
			}
		}
		keys.Cover(&b, n, keys.Current)
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

// TestPairIsTwo has pairs of flows set over and over again, as those are of which the second is
// not wanted.
func TestPairIsTwo(t *testing.T) {
	keys := NewSecret().Keys(noon)
	r := rand.New(rand.NewPCG(3, 4))
	var b Batch
	for range 100 {
		var want [MaxBatch]uint32
		n := 0
		for n < MaxBatch-1 {
			ends, isn := endsOfSome(t, r), r.Uint32()
			b.SetPair(n, &ends, isn)
			var f packet.Flow
			ends.SetFlow(&f, packet.ProtoTCP)
			for range 1 + r.IntN(2) {
				want[n] = keys.Cookie(&f, isn, &Options{})
				n, isn = n+1, isn+1
			}
		}
		keys.Cover(&b, n, keys.Current)
		for i := range n {
			if got := keys.CookieOf(&b, i, &Options{}); got != want[i] {
				t.Fatalf("%d of %d: got %#x, want %#x", i, n, got, want[i])
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
