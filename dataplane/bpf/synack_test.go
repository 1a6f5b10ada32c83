package bpf

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/synproxy"
)

const xdpTX = 3 // linux/bpf.h

// both returns an offer for epochs of either parity.
func both(o synproxy.Offer) [2]synproxy.Offer { return [2]synproxy.Offer{o, o} }

var full = synproxy.Offer{MSS: 1460, Window: 64240, Scale: 7, SACK: true, Timestamps: true}

// A guardedRig is a program that guards tcp4 and tcp6, and a socket that serves them.
type guardedRig struct {
	*Program
	keys   synproxy.Keys
	offset uint32
}

func newGuardedRig(t testing.TB, g Guard) *guardedRig {
	t.Helper()
	privateNetns(t)
	p := mustLoad(t, pinDir(t))
	sock := openSocket(t, p, loopback(t))
	t.Cleanup(func() { sock.Close() })
	r := &guardedRig{Program: p, offset: rand.Uint32()}
	r.setKeys(t, synproxy.NewSecret().Keys(time.Now()))
	r.guard(t, g)
	return r
}

func (r *guardedRig) setKeys(t testing.TB, keys synproxy.Keys) {
	t.Helper()
	r.keys = keys
	must(t, r.SetCookieKeys(&r.keys, r.offset))
}

func (r *guardedRig) guard(t testing.TB, g Guard) {
	t.Helper()
	must(t, r.SetServices(map[ServiceKey]*Guard{tcp4: &g, tcp6: &g, udp4: nil}))
}

// pass runs the program over a frame and returns its verdict and what it made of it.
func (r *guardedRig) pass(t *testing.T, frame []byte) (verdict uint32, out []byte) {
	t.Helper()
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64)}
	verdict, err := r.objs.FnatdXdp.Run(&o)
	must(t, err)
	return verdict, o.DataOut
}

// A clientSYN is a SYN and what its sender offers by it.
type clientSYN struct {
	packettest.TCP
	synproxy.Options
	stamp uint32 // TSval
}

// randomSYN returns a SYN to one of the guarded services, with all that clients put
// into one, in any order.
func randomSYN() clientSYN {
	s := clientSYN{
		TCP: packettest.TCP{
			Src: packet.Endpoint{Port: uint16(rand.Uint32())}, Dst: tcp4.Virtual,
			Flags: packet.SYN, Seq: rand.Uint32(), Window: uint16(rand.Uint32()),
		},
		Options: synproxy.Options{Scale: synproxy.NoScale},
	}
	if rand.IntN(8) == 0 {
		s.Flags |= packet.TCPFlags(rand.Uint32()) & (packet.PSH | packet.URG | packet.ECE | packet.CWR)
	}
	random := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, rand.Uint64()), rand.Uint64())
	if s.Src.Addr = packet.AddrFrom4(random); rand.IntN(2) == 0 {
		s.Src.Addr, s.Dst = packet.AddrFrom16(random), tcp6.Virtual
	}
	for range rand.IntN(3) {
		s.VLAN = append(s.VLAN, uint16(rand.Uint32()))
	}
	binary.BigEndian.PutUint32(s.SrcMAC[2:], rand.Uint32())
	binary.BigEndian.PutUint32(s.DstMAC[2:], rand.Uint32())
	s.TTL = uint8(rand.IntN(255) + 1)
	if rand.IntN(4) == 0 {
		s.Payload = make([]byte, rand.IntN(1200))
	}
	if s.Pad = rand.IntN(8); rand.IntN(2) == 0 {
		s.Pad = 0
	}
	if rand.IntN(4) == 0 {
		s.TCP.Options = s.linuxOptions()
	} else {
		s.TCP.Options = s.randomOptions()
	}
	return s
}

// linuxOptions returns options as Linux sends them, or nearly, and notes in s what they
// offer.
func (s *clientSYN) linuxOptions() []byte {
	shift := pick(0, 7, 14, 15, 255, rand.IntN(256))
	s.MSS, s.stamp = uint16(rand.Uint32()), rand.Uint32()
	s.Scale, s.SACK, s.Timestamps = uint8(min(shift, 14)), true, true
	all := append(binary.BigEndian.AppendUint32([]byte{2, 4, byte(s.MSS >> 8), byte(s.MSS), 4, 2, 8, 10}, s.stamp), 0, 0, 0, 0, 1, 3, 3, byte(shift))
	switch rand.IntN(8) {
	case 0: // an option that nobody knows in the place of one, or the end
		all[0], s.MSS = 34, 0
	case 1:
		all[4], s.SACK = 34, false
	case 2:
		all[6], s.Timestamps = 34, false
	case 3:
		all[17], s.Scale = 34, synproxy.NoScale
	case 4:
		all[16], s.Scale = 0, synproxy.NoScale
	case 5: // one of a wrong length
		all[18], all[19], s.Scale = 2, 1, synproxy.NoScale
	}
	return all
}

// randomOptions returns options, and notes in s what they offer.
func (s *clientSYN) randomOptions() (all []byte) {
	for _, kind := range rand.Perm(10) {
		var o []byte
		switch kind {
		case 0:
			s.MSS = pick(0, 1, 63, 64, 535, 536, 1219, 1220, 1279, 1280, 1359, 1360, 1400, 1439, 1440, 1459, 1460, 1461, 8939, 8940, 8960, 65535, uint16(rand.Uint32()))
			o = []byte{2, 4, byte(s.MSS >> 8), byte(s.MSS)}
		case 1:
			shift := pick(0, 1, 7, 13, 14, 15, 255)
			s.Scale = uint8(min(shift, 14))
			o = []byte{3, 3, byte(shift)}
		case 2:
			s.SACK = true
			o = []byte{4, 2}
		case 3:
			s.Timestamps, s.stamp = true, rand.Uint32()
			o = append(binary.BigEndian.AppendUint32([]byte{8, 10}, s.stamp), 0, 0, 0, 0)
		case 4:
			o = []byte{34, 2}
		case 5:
			o = []byte{254, 8, 1, 2, 3, 4, 5, 6}
		case 6:
			o = []byte{pick[byte](2, 3, 4, 8), 6, 9, 9, 9, 9} // of a wrong length
		default:
			o = []byte{1}
		}
		if rand.IntN(2) == 0 && len(all)+len(o) <= 40 {
			all = append(all, o...)
			continue
		}
		switch kind { // not offered after all
		case 0:
			s.MSS = 0
		case 1:
			s.Scale = synproxy.NoScale
		case 2:
			s.SACK = false
		case 3:
			s.Timestamps = false
		}
	}
	if len(all) < 39 && rand.IntN(2) == 0 {
		all = append(all, 0, 77) // behind the end of options anything may stand
	}
	return all
}

func pick[T any](from ...T) T { return from[rand.IntN(len(from))] }

// synACK returns the frame that is to answer s, byte by byte.
func (r *guardedRig) synACK(s *clientSYN, offer *synproxy.Offer, now uint32) []byte {
	flow := packet.Flow{Src: s.Src.Addr, SrcPort: s.Src.Port, Dst: s.Dst.Addr, DstPort: s.Dst.Port, Proto: packet.ProtoTCP}
	a := offer.Answer(&s.Options)
	options := []byte{2, 4, byte(a.MSS >> 8), byte(a.MSS)}
	switch {
	case a.Timestamps:
		sack := []byte{1, 1}
		if a.SACK {
			sack = []byte{4, 2}
		}
		options = append(append(options, sack...), 8, 10)
		options = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(options, now), s.stamp)
	case a.SACK:
		options = append(options, 1, 1, 4, 2)
	}
	if a.Scale != synproxy.NoScale {
		options = append(options, 1, 3, 3, a.Scale)
	}
	f := packettest.TCP{
		Link: packettest.Link{DstMAC: s.SrcMAC, SrcMAC: s.DstMAC, VLAN: s.VLAN},
		Src:  s.Dst, Dst: s.Src, Flags: packet.SYN | packet.ACK, Window: a.Window,
		Seq: r.keys.Cookie(&flow, s.Seq, &s.Options), Ack: s.Seq + 1, Options: options,
	}.Frame().Bytes()
	if l3 := 14 + 4*len(s.VLAN); s.Src.Addr.Is4() { // the builder's identification is 1
		binary.BigEndian.PutUint16(f[l3+4:], 0)
		sum := binary.BigEndian.Uint16(f[l3+10:]) + 1
		if sum == 0xffff {
			sum = 0
		}
		binary.BigEndian.PutUint16(f[l3+10:], sum)
	}
	return f
}

// clock returns that of the timestamps in SYN-ACKs: CLOCK_MONOTONIC_COARSE or, after
// that, CLOCK_MONOTONIC.
func (r *guardedRig) clock(t *testing.T, id int32) uint32 {
	var now unix.Timespec
	must(t, unix.ClockGettime(id, &now))
	return uint32(now.Nano()>>synproxy.ClockShift) + r.offset
}

// checkAnswer runs the program over s and compares what it answers.
func (r *guardedRig) checkAnswer(t *testing.T, s *clientSYN, offer *synproxy.Offer) {
	t.Helper()
	frame := s.Frame().Bytes()
	now := r.clock(t, unix.CLOCK_MONOTONIC_COARSE) // the program's is of this tick
	verdict, got := r.pass(t, frame)
	if verdict != xdpTX {
		t.Fatalf("verdict %d, want %d: % x", verdict, xdpTX, frame)
	}
	packettest.CheckSums(t, got)
	want := r.synACK(s, offer, now)
	for slices.Compare(got, want) != 0 && now != r.clock(t, unix.CLOCK_MONOTONIC)+1 {
		now++
		want = r.synACK(s, offer, now)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("SYN % x\noffers %+v\ngot  % x\nwant % x", frame, s.Options, got, want)
	}
}

// The program and package synproxy make the same cookies, and every byte around them
// is as it should be.
func TestAnswerIsSynproxys(t *testing.T) {
	offers := []synproxy.Offer{full, {MSS: 536, Window: 1, Scale: 0, SACK: true}, {MSS: 8940, Window: 65535, Scale: 14, Timestamps: true}, {MSS: 1220, Window: 5840, Scale: synproxy.NoScale}}
	r := newGuardedRig(t, Guard{})
	secret := synproxy.NewSecret()
	const flows = 30_000
	for i, offer := range offers {
		r.setKeys(t, secret.Keys(time.Unix(int64(i)*64, 0)))
		said := both(synproxy.Offer{MSS: 99, Scale: 3}) // in another epoch
		said[i&1] = offer
		r.guard(t, Guard{Offers: said, Answer: true})
		for range flows {
			s := randomSYN()
			r.checkAnswer(t, &s, &offer)
			if t.Failed() {
				return
			}
		}
	}
	for _, key := range []ServiceKey{tcp4, tcp6} {
		n, err := r.GuardCounts(key)
		must(t, err)
		if n.SYNs == 0 || n.Answered != n.SYNs || n.Limited+n.Shed != 0 {
			t.Errorf("%s: %+v", key.Virtual, n)
		}
	}
	counts, err := r.Counters()
	must(t, err)
	if counts[Answered] != uint64(flows*len(offers)) {
		t.Errorf("%d answered, want %d", counts[Answered], flows*len(offers))
	}
}
