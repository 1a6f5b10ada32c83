package bpf

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/synproxy"
)

var flowHash = FlowHash{Key: siphash.Key{K0: 7, K1: 8}, Shards: 16}

const flowPlaces = 1 << 16

// counting has the rig count flows, and returns what sets a count.
func (r *guardedRig) counting(t testing.TB) (set func(place int, n byte)) {
	t.Helper()
	counts, lines, err := r.CountFlows(flowHash, flowPlaces)
	must(t, err)
	if len(counts) != flowPlaces || len(lines) != flowPlaces/64 {
		t.Fatalf("%d places and %d lines, want %d and %d", len(counts), len(lines), flowPlaces, flowPlaces/64)
	}
	return func(place int, n byte) {
		counts[place] = n
		line := counts[place/64*64:][:64]
		lines[place/64] = byte(64 - bytes.Count(line, []byte{0}))
	}
}

// hashOf returns the hash of a client's flow, from what conntrack's documents say.
func hashOf(s *packettest.TCP) uint64 {
	rest := uint64(s.Src.Port)<<48 | uint64(s.Dst.Port)<<32 | packet.ProtoTCP<<8
	word := func(a packet.Addr, at int) uint64 { return binary.LittleEndian.Uint64(a[at:]) }
	if s.Dst.Addr.Is4() {
		return flowHash.Key.Sum2(word(s.Src.Addr, 8)>>32<<32|word(s.Dst.Addr, 8)>>32, rest)
	}
	return flowHash.Key.Sum5(word(s.Src.Addr, 0), word(s.Src.Addr, 8), word(s.Dst.Addr, 0), word(s.Dst.Addr, 8), rest)
}

// placeOf returns the place of its count.
func placeOf(s *packettest.TCP) int {
	hash, each := hashOf(s), flowPlaces/flowHash.Shards
	return int(hash)&(flowHash.Shards-1)*each + int(hash>>(64-bits.Len(uint(each-1))))
}

func flowOf(s *packettest.TCP) packet.Flow {
	return packet.Flow{Src: s.Src.Addr, SrcPort: s.Src.Port, Dst: s.Dst.Addr, DstPort: s.Dst.Port, Proto: packet.ProtoTCP}
}

// proves is what a worker does with an ACK that belongs to no connection.
func (r *guardedRig) proves(s *packettest.TCP) bool {
	flow := flowOf(s)
	_, ok := r.keys.Check(&flow, s.Seq-1, s.Ack-1)
	if !ok && len(s.Payload) == 0 && !s.Flags.Has(packet.FIN) {
		_, ok = r.keys.Check(&flow, s.Seq, s.Ack-1)
	}
	return ok
}

// randomACK returns a segment to one of the guarded services, which may bring a cookie
// of either epoch, or nearly one.
func (r *guardedRig) randomACK() packettest.TCP {
	syn := randomSYN()
	s := syn.TCP
	flow := flowOf(&s)
	s.Flags = packet.ACK | packet.TCPFlags(rand.Uint32())&(packet.PSH|packet.URG|packet.FIN|packet.ECE)
	made := r.keys
	made.Current = rand.Uint32() & 1
	s.Ack = made.Cookie(&flow, s.Seq, &syn.Options) + 1
	s.Seq += pick[uint32](0, 1, 1, 1, 2)
	if rand.IntN(3) == 0 {
		s.Ack ^= 1 << rand.IntN(32)
	}
	if len(s.Payload) > 100 {
		s.Payload = s.Payload[:100]
	}
	return s
}

// The program takes the cookies that package synproxy takes, and no others.
func TestBadACKsAreSynproxys(t *testing.T) {
	r := newGuardedRig(t, Guard{Known: true})
	r.counting(t)
	secret := synproxy.NewSecret()
	var good, bad uint64
	for epoch := range int64(4) {
		r.setKeys(t, secret.Keys(time.Unix(epoch*64, 0)))
		for range 15_000 {
			s := r.randomACK()
			want := uint32(xdpDrop)
			if r.proves(&s) {
				good++
				want = xdpRedirect
			} else {
				bad++
			}
			verdict, _ := r.pass(t, s.Frame().Bytes())
			if want == xdpDrop && verdict != want {
				r.forget(t, &s) // it may have another's place, or be a sample
				verdict = r.verdictInAFlood(t, s.Frame().Bytes())
			}
			if verdict != want {
				t.Fatalf("verdict %d, want %d: %+v", verdict, want, s)
			}
		}
	}
	if good < 10_000 || bad < 10_000 {
		t.Errorf("%d good and %d bad ones: too few of either", good, bad)
	}
	n4, err := r.GuardCounts(tcp4)
	must(t, err)
	n6, err := r.GuardCounts(tcp6)
	must(t, err)
	if n4.BadACKs+n6.BadACKs != bad {
		t.Errorf("%d and %d bad ACKs are counted, want %d", n4.BadACKs, n6.BadACKs, bad)
	}
	if n, _ := r.Counters(); n[BadCookie] != bad {
		t.Errorf("%d drops are counted, want %d", n[BadCookie], bad)
	}
}

// verdictInAFlood runs the program over a segment right behind others like it, none of
// which may be a sample then.
func (r *guardedRig) verdictInAFlood(t *testing.T, frame []byte) (verdict uint32) {
	t.Helper()
	for range 3 { // the clock may tick, but not each time
		if verdict, _ = r.pass(t, frame); verdict == xdpDrop {
			break
		}
	}
	return verdict
}

// isDropped sees that a segment is dropped in a flood, as a bad one.
func (r *guardedRig) isDropped(t *testing.T, s packettest.TCP) {
	t.Helper()
	before, err := r.Counters()
	must(t, err)
	if verdict := r.verdictInAFlood(t, s.Frame().Bytes()); verdict != xdpDrop {
		t.Errorf("verdict %d, want %d", verdict, xdpDrop)
	}
	if after, _ := r.Counters(); after[BadCookie] != before[BadCookie]+1 {
		t.Errorf("%d drops are counted, want 1", after[BadCookie]-before[BadCookie])
	}
}

// forget has the program forget that a flow has proven itself.
func (r *guardedRig) forget(t *testing.T, s *packettest.TCP) {
	t.Helper()
	times := r.objs.Proven.ValueSize() / 2
	line := uint32(hashOf(s)) & (r.objs.Proven.MaxEntries()*times - 1) / times
	must(t, r.objs.Proven.Put(line, make([]uint16, times)))
}

// badACKs are segments that no worker would take, by name.
func badACKs() map[string]packettest.TCP {
	ack := packettest.TCP{Src: client4, Dst: tcp4.Virtual, Flags: packet.ACK, Seq: 1001, Ack: 77}
	with := func(change func(*packettest.TCP)) packettest.TCP {
		s := ack
		change(&s)
		return s
	}
	return map[string]packettest.TCP{
		"bare": ack,
		"data": with(func(s *packettest.TCP) { s.Payload = []byte("GET /") }),
		"fin":  with(func(s *packettest.TCP) { s.Flags |= packet.FIN }),
		"ipv6": with(func(s *packettest.TCP) { s.Src, s.Dst = client6, tcp6.Virtual }),
		"extensions": with(func(s *packettest.TCP) {
			s.Src, s.Dst = client6, tcp6.Virtual
			s.FirstExtension, s.Extensions = 60, []byte{0, 0, 1, 4, 0, 0, 0, 0}
		}),
		"vlans":      with(func(s *packettest.TCP) { s.VLAN = []uint16{100, 200} }),
		"ip_options": with(func(s *packettest.TCP) { s.IPOptions = []byte{1, 1, 1, 1} }),
		"timestamps": with(func(s *packettest.TCP) { s.Options = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2} }),
		"padded":     with(func(s *packettest.TCP) { s.Pad = 6 }),
		"ttl_of_one": with(func(s *packettest.TCP) { s.TTL = 1 }),
	}
}

// What is of a known flow goes up, whatever it brings; when the last connection that
// hashes to its place has gone, it is dropped again.
func TestKnownFlows(t *testing.T) {
	r := newGuardedRig(t, Guard{Known: true})
	set := r.counting(t)
	for name, s := range badACKs() {
		t.Run(name, func(t *testing.T) {
			frame, place := s.Frame().Bytes(), placeOf(&s)
			r.isDropped(t, s)
			set(place, 1)
			r.run(t, frame, xdpRedirect, Service)
			set(place, 255)
			r.run(t, frame, xdpRedirect, Service)
			set(place, 0)
			r.isDropped(t, s)
			set(place^1, 1) // another in its line
			r.isDropped(t, s)
			set(place^1, 0)
		})
	}
}

// What a client sends right behind its proof goes up, also before there is a connection,
// and not for long.
func TestBehindAProof(t *testing.T) {
	r := newGuardedRig(t, Guard{Known: true})
	r.counting(t)
	for name, more := range badACKs() {
		t.Run(name, func(t *testing.T) {
			flow, proof := flowOf(&more), more
			proof.Ack, proof.Payload, proof.Flags = r.keys.Cookie(&flow, more.Seq-1, &synproxy.Options{MSS: 1460})+1, nil, packet.ACK
			more.Seq, more.Ack = more.Seq+1448, proof.Ack
			r.forget(t, &more) // another case's flow is the same
			r.isDropped(t, more)
			r.run(t, proof.Frame().Bytes(), xdpRedirect, Service)
			proven := time.Now()
			verdict, _ := r.pass(t, more.Frame().Bytes())
			if verdict != xdpRedirect && time.Since(proven) < 400*time.Millisecond {
				t.Errorf("verdict %d, want %d", verdict, xdpRedirect)
			}
			time.Sleep(time.Until(proven.Add(520 * time.Millisecond))) // and a tick
			r.isDropped(t, more)
		})
	}
}

// What the program does not judge, or may not, goes up.
func TestBadACKsThatGoUp(t *testing.T) {
	r := newGuardedRig(t, Guard{Known: true})
	bad := badACKs()["bare"]
	r.run(t, bad.Frame().Bytes(), xdpRedirect, Service) // nobody counts yet
	r.counting(t)
	r.isDropped(t, bad)
	for name, change := range map[string]func(s *packettest.TCP){
		"reset":           func(s *packettest.TCP) { s.Flags = packet.RST },
		"reset_with_ack":  func(s *packettest.TCP) { s.Flags |= packet.RST },
		"syn_ack":         func(s *packettest.TCP) { s.Flags |= packet.SYN },
		"fin_without_ack": func(s *packettest.TCP) { s.Flags = packet.FIN },
		"no_flags":        func(s *packettest.TCP) { s.Flags = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			s := bad
			change(&s)
			r.run(t, s.Frame().Bytes(), xdpRedirect, Service)
		})
	}
	spoiled := func(at int, b byte) []byte {
		frame := bad.Frame().Bytes()
		frame[at] = b
		return frame
	}
	t.Run("length_before_the_header_ends", func(t *testing.T) { r.run(t, spoiled(14+3, 39), xdpRedirect, Service) })
	t.Run("short_offset", func(t *testing.T) { r.run(t, spoiled(14+20+12, 4<<4), xdpRedirect, Service) })
	t.Run("offset_behind_the_end", func(t *testing.T) { r.run(t, spoiled(14+20+12, 6<<4), xdpRedirect, Service) })
	t.Run("fragment", func(t *testing.T) { r.run(t, spoiled(14+6, 0x20), xdpRedirect, Fragment) })
	t.Run("not_trusted", func(t *testing.T) {
		must(t, r.TrustCounts(false))
		must(t, r.TrustCounts(false))
		r.run(t, bad.Frame().Bytes(), xdpRedirect, Service)
		must(t, r.TrustCounts(true))
		r.isDropped(t, bad)
	})
	t.Run("not_all_counted", func(t *testing.T) {
		r.guard(t, Guard{})
		r.run(t, bad.Frame().Bytes(), xdpRedirect, Service)
		r.guard(t, Guard{Known: true})
	})
	t.Run("without_keys", func(t *testing.T) {
		r.setKeys(t, synproxy.Keys{})
		r.run(t, bad.Frame().Bytes(), xdpRedirect, Service)
	})
}

// Of few bad ACKs the worker hears, also in a flood.
func TestSampleOfBadACKs(t *testing.T) {
	r := newGuardedRig(t, Guard{Known: true})
	r.counting(t)
	s := badACKs()["bare"]
	up := 0
	for range 5 {
		r.isDropped(t, s)
		time.Sleep(20 * time.Millisecond) // more than a tick
		up += r.runs(t, 1, s.Frame().Bytes(), xdpRedirect)
	}
	if up != 5 {
		t.Errorf("%d of 5 came to the worker", up)
	}
}

func TestCountFlowsOnce(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	must(t, r.TrustCounts(true)) // there are none
	r.counting(t)
	if _, _, err := r.CountFlows(flowHash, flowPlaces); err == nil {
		t.Error("flows are counted twice: no error")
	}
}
