package dataplane

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// verification is what Microsoft publishes to check RSS hashes by ("Verifying the
// RSS Hash Calculation"): a key, and for each flow its hash over addresses and
// ports.
const verificationKey = "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"

var verification = []struct {
	dst, src string
	hash     uint32
}{
	{"161.142.100.80:1766", "66.9.149.187:2794", 0x51ccc178},
	{"65.69.140.83:4739", "199.92.111.2:14230", 0xc626b0ea},
	{"12.22.207.184:38024", "24.19.198.95:12898", 0x5c2b394a},
	{"209.142.163.6:2217", "38.27.205.30:48228", 0xafc7327f},
	{"202.188.127.2:1303", "153.39.163.191:44251", 0x10e828a2},
	{"[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x40207d3d},
	{"[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0xdde51bbf},
	{"[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x02d1feef},
}

func TestToeplitz(t *testing.T) {
	key, err := hex.DecodeString(verificationKey)
	if err != nil {
		t.Fatal(err)
	}
	h := newToeplitz(key)
	for _, v := range verification {
		src := packettest.Endpoint(v.src)
		dst := packettest.Endpoint(v.dst)
		if got := h.flow(src, dst.Addr) ^ h.port(dst.Addr.Is4(), dst.Port); got != v.hash {
			t.Errorf("%s > %s: got %#08x, want %#08x", v.src, v.dst, got, v.hash)
		}
		if got := slowHash(key, src, dst); got != v.hash {
			t.Errorf("%s > %s, bit by bit: got %#08x, want %#08x", v.src, v.dst, got, v.hash)
		}
	}
}

// slowHash is the Toeplitz hash as its definition has it.
func slowHash(key []byte, src, dst packet.Endpoint) (hash uint32) {
	var input []byte
	for _, a := range []netip.Addr{src.Netip().Addr(), dst.Netip().Addr()} {
		input = append(input, a.AsSlice()...)
	}
	input = append(input, byte(src.Port>>8), byte(src.Port), byte(dst.Port>>8), byte(dst.Port))
	keyBit := func(i int) uint32 { return uint32(key[i/8]>>(7-i%8)) & 1 }
	for i := range 8 * len(input) {
		if input[i/8]>>(7-i%8)&1 == 0 {
			continue
		}
		for bit := range 32 {
			hash ^= keyBit(i+bit) << (31 - bit)
		}
	}
	return hash
}

// fakeRSS spreads over so many queues by a random key.
func fakeRSS(queues int) *xsk.RSS {
	r := rand.New(rand.NewPCG(uint64(queues), 7))
	n := &xsk.RSS{Key: make([]byte, 52), Ports: [xsk.NumFlowTypes]bool{xsk.TCP4: true, xsk.TCP6: true}}
	for i := range n.Key {
		n.Key[i] = byte(r.Uint32())
	}
	for range 128 {
		n.Queues = append(n.Queues, uint32(r.IntN(queues)))
	}
	return n
}

// TestSteering opens connections by every worker in turn and looks where the NIC
// would bring the answers. There are more queues than workers.
func TestSteering(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8} {
		rss := fakeRSS(2 * n)
		w := newWorld(t, tcpService+udpService, workers(n))
		w.engine.Steer([]*xsk.RSS{wan: nil, lan: rss})
		for i := range uint16(600) {
			worker := int(i) % n
			k := &talk{world: w, client: at(1 + i), virtual: vip, seq: 1}
			w.putAt(&w.sides[worker], wan, k.fromClient(packet.SYN, synOptions, "").Bytes())
			syn := packettest.NewFrame(w.run()[lan][0]).Parse(t)
			k.local, k.real, k.seq = syn.Flow.Source(), syn.Flow.Destination(), syn.TCP().Seq()+1

			queue := rss.Queues[slowHash(rss.Key, k.real, k.local)%128]
			if got := int(queue) % n; got != worker {
				t.Fatalf("%d workers, connection %d of worker %d: answers come to worker %d", n, i, worker, got)
			}
			w.putAt(&w.sides[int(queue)%n], lan, k.fromReal(packet.SYN|packet.ACK, synOptions, "").Bytes())
			if sent := w.run(); len(sent[wan]) != 1 {
				t.Fatalf("answer not sent (drops: %v)", w.drops())
			}
		}
		if got := w.counts().Events[ReplyElsewhere]; got != 0 {
			t.Errorf("%d workers: %d answers came elsewhere, want none", n, got)
		}
		w.putAt(&w.sides[n-1], wan, query(client, "?").Bytes()) // not spread by ports: not aimed
		if sent := w.run(); len(sent[lan]) != 2 {
			t.Errorf("udp: got %d frames, want notice and datagram", len(sent[lan]))
		}
	}
}

func TestNotSteered(t *testing.T) {
	short := fakeRSS(4)
	short.Key = short.Key[:16]
	addresses := fakeRSS(4)
	addresses.Ports = [xsk.NumFlowTypes]bool{}
	for name, nics := range map[string][]*xsk.RSS{
		"before_anything_is_known": nil,
		"unknown_nic":              {wan: nil, lan: nil},
		"key_too_short":            {wan: nil, lan: short},
		"ports_are_not_hashed":     {wan: nil, lan: addresses},
		"empty_table":              {wan: nil, lan: {Key: make([]byte, 40)}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tcpService, workers(2))
			w.engine.Steer(nics)
			var ports []uint16
			for i := range uint16(3) {
				k := &talk{world: w, client: client, virtual: vip, seq: 1}
				k.client.Port += i
				p := w.pass(wan, k.fromClient(packet.SYN, "", ""))
				ports = append(ports, p.Flow.SrcPort)
			}
			if w.worker.aim(packet.ProtoTCP, &real0) != nil {
				t.Errorf("ports %v were aimed at", ports)
			}
		})
	}
}

// A reply that comes to another worker than the client's packets is forwarded
// like any other, and counted.
func TestReplyElsewhere(t *testing.T) {
	w := newWorld(t, tcpService, workers(2))
	k := w.connect(client) // the SYN-ACK is one
	elsewhere := func(want uint64) {
		t.Helper()
		if got := w.counts().Events[ReplyElsewhere]; got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	elsewhere(1)
	k.pass(lan, k.fromReal(packet.ACK, "", "x"))
	elsewhere(2)
	w.putAt(&w.sides[0], lan, k.fromReal(packet.ACK, "", "x").Bytes())
	w.run()
	elsewhere(2)
	w.putAt(&w.sides[1], wan, k.fromClient(packet.ACK, "", "").Bytes()) // the client has moved
	w.run()
	k.pass(lan, k.fromReal(packet.ACK, "", "x"))
	elsewhere(2)
}
