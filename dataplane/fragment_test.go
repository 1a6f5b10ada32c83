package dataplane

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// reassemble puts the fragments of one datagram together and returns what stands
// behind their headers, or nil if a piece is missing.
func reassemble(t testing.TB, frames [][]byte) []byte {
	t.Helper()
	var whole []byte
	size, got := -1, 0
	for _, f := range frames {
		b := packettest.NewFrame(f)
		var p packet.Packet
		if why := p.Parse(b.Buf, b.Start, b.End); why != packet.Fragment {
			t.Fatalf("got %v, want a fragment", why)
		}
		_, offset, more, _ := p.Fragment()
		piece := p.Buf[p.L4:p.End]
		if need := offset + len(piece); need > len(whole) {
			whole = append(whole, make([]byte, need-len(whole))...)
		}
		copy(whole[offset:], piece)
		if got += len(piece); !more {
			size = offset + len(piece)
		}
	}
	if got != size {
		return nil
	}
	return whole
}

func TestFragments(t *testing.T) {
	payload := make([]byte, 8000)
	for i := range payload {
		payload[i] = byte(i * 31)
	}
	orders := map[string]func([]packettest.Frame){
		"in_order":   func([]packettest.Frame) {},
		"first_last": func(f []packettest.Frame) { f[0], f[len(f)-1] = f[len(f)-1], f[0] },
		"shuffled": func(f []packettest.Frame) {
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
		},
	}
	for _, f := range allFamilies {
		for name, order := range orders {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				w := newWorld(t, f.service("udp", "none", ""))
				w.loose = true
				through := func(port int, d packettest.UDP) [][]byte {
					t.Helper()
					pieces := packettest.Fragments(d.Frame(), 1500)
					order(pieces)
					for _, piece := range pieces {
						w.put(port, piece.Bytes())
					}
					return w.run()[1-port]
				}
				in := reassemble(t, through(wan, packettest.UDP{Src: f.client, Dst: f.vip, Payload: payload}))
				if in == nil || !bytes.Equal(in[8:], payload) {
					t.Fatalf("to the server: got %d bytes, want the payload whole (drops: %v)", len(in), w.drops())
				}
				local := packet.Endpoint{Addr: f.lip, Port: uint16(in[0])<<8 | uint16(in[1])}
				out := reassemble(t, through(lan, packettest.UDP{Src: f.real, Dst: local, Payload: payload}))
				if out == nil || !bytes.Equal(out[8:], payload) {
					t.Fatalf("to the client: got %d bytes, want the payload whole (drops: %v)", len(out), w.drops())
				}
				for _, got := range [][]byte{in, out} {
					src, dst := packet.Endpoint{Addr: f.lip, Port: local.Port}, f.real
					if &got[0] == &out[0] {
						src, dst = f.vip, f.client
					}
					whole := packettest.UDP{Src: src, Dst: dst, Payload: payload}.Frame().Parse(t)
					if want := whole.UDP(); !bytes.Equal(got[:8], want) {
						t.Errorf("UDP header: got % x, want % x", got[:8], []byte(want))
					}
				}
			})
		}
	}
}

func TestFragmentWaits(t *testing.T) {
	pieces := packettest.Fragments(packettest.UDP{Src: client, Dst: vipUDP, Payload: make([]byte, 4000)}.Frame(), 1500)
	t.Run("for_its_first_which_comes_later", func(t *testing.T) {
		w := newWorld(t, udpService)
		w.loose = true
		w.put(wan, pieces[1].Bytes())
		if sent := w.run(); len(sent[lan]) != 0 {
			t.Errorf("got %d frames, want none yet", len(sent[lan]))
		}
		w.clock = w.clock.Add(100 * time.Millisecond)
		w.put(wan, pieces[0].Bytes())
		if sent := w.run(); len(sent[lan]) != 3 { // a notice is ahead
			t.Errorf("got %d frames, want a notice and two fragments", len(sent[lan]))
		}
	})
	t.Run("not_for_ever", func(t *testing.T) {
		w := newWorld(t, udpService)
		w.loose = true
		w.put(wan, pieces[1].Bytes())
		w.wait(600 * time.Millisecond)
		w.loose = false
		w.run()
		if got := w.worker.Counts().Drops[packet.Fragment]; got != 1 {
			t.Errorf("drops: got %d, want 1", got)
		}
	})
	t.Run("with_few_others", func(t *testing.T) {
		w := newWorld(t, udpService)
		w.loose = true
		for i := range 2 * maxWaiting {
			b := append([]byte{}, pieces[1].Bytes()...)
			b[18], b[19] = byte(i>>8), byte(i) // identification
			ip := b[14:34]
			ip[10], ip[11] = 0, 0
			s := packet.Checksum(ip)
			ip[10], ip[11] = byte(s>>8), byte(s)
			w.put(wan, b)
			w.run()
		}
		if got := w.worker.Counts().Drops[packet.Fragment]; got != maxWaiting {
			t.Errorf("drops: got %d, want %d", got, maxWaiting)
		}
		k := w.umem.Census()
		if k.Held != maxWaiting {
			t.Errorf("held: got %d, want %d", k.Held, maxWaiting)
		}
	})
}

func TestFragmentOverlap(t *testing.T) {
	d := packettest.UDP{Src: client, Dst: vipUDP, Payload: make([]byte, 4000)}.Frame()
	pieces := packettest.Fragments(d, 1500)
	t.Run("a_copy_is_dropped_alone", func(t *testing.T) {
		w := newWorld(t, udpService)
		for _, p := range pieces {
			w.put(wan, p.Bytes())
			w.run()
		}
		w.refuse(wan, pieces[1].Bytes(), packet.FragmentOverlap)
	})
	t.Run("a_lie_condemns_the_datagram", func(t *testing.T) {
		w := newWorld(t, udpService)
		w.put(wan, pieces[0].Bytes())
		w.run()
		var lie []byte // a fragment that begins within the first
		for _, p := range packettest.Fragments(d, 1400) {
			if q := (&packet.Packet{}); q.Parse(p.Buf, p.Start, p.End) == packet.Fragment && q.L4-q.L3 == 20 {
				if _, offset, _, _ := q.Fragment(); offset > 0 {
					lie = p.Bytes()
					break
				}
			}
		}
		w.refuse(wan, lie, packet.FragmentOverlap)
		w.refuse(wan, pieces[1].Bytes(), packet.FragmentOverlap)
	})
}

func TestFragCache(t *testing.T) {
	var f fragCache
	id := func(n uint32) *datagramID { return &datagramID{id: n, proto: packet.ProtoUDP} }
	w := way{dst: vip}
	f.note(id(1), 0, 8, 0)
	f.learn(id(1), &w, 0)
	if got, ok := f.lookUp(id(1), fragmentLife-1); !ok || got.dst != vip {
		t.Errorf("got %v %t, want what was learnt", got.dst, ok)
	}
	if _, ok := f.lookUp(id(1), fragmentLife); ok {
		t.Error("still there after its time")
	}
	for i := range uint32(100_000) {
		f.note(id(2+i), 8, 16, i/100)
	}
	if got := f.note(id(7_000_000), 0, 65528, 2000); got != packet.Kept {
		t.Errorf("after a flood: got %v, want room for one more", got)
	}
}

func TestFragmentFlood(t *testing.T) {
	w := newWorld(t, tcpService+udpService)
	w.loose = true
	k := w.connect(client)
	later := append([]byte{}, secondPiece()...)
	for i := range 20_000 {
		later[18], later[19] = byte(i>>8), byte(i) // identification
		ip := later[14:34]
		ip[10], ip[11] = 0, 0
		s := packet.Checksum(ip)
		ip[10], ip[11] = byte(s>>8), byte(s)
		w.put(wan, later)
		if i%1000 == 0 {
			w.put(wan, k.fromClient(packet.ACK, "", "x").Bytes())
			if sent := w.run(); len(sent[lan]) != 1 {
				t.Fatalf("after %d fragments: got %d frames at the server, want the connection's", i, len(sent[lan]))
			}
		}
		w.run()
	}
	if c := w.umem.Census(); c.Held > maxWaiting {
		t.Errorf("held: got %d frames, want at most %d", c.Held, maxWaiting)
	}
}
