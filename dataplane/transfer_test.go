package dataplane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// Two ends that speak just enough of TCP to get their bytes across through a worker
// with SYNPROXY, whatever happens to the packets on the way.

// An end sends its bytes, then its FIN, and gathers the other end's.
type end struct {
	port       int // of the world, that it is behind
	self, peer packet.Endpoint
	send, got  []byte
	isn, una   uint32 // una: of its own numbers, the first that is not acknowledged
	next       uint32 // expected of the other end
	synced     bool   // it knows the other end's numbers
	open       bool
	closed     bool // the other end has sent its FIN
	rand       *rand.Rand
}

func (e *end) segment(flags packet.TCPFlags, seq uint32, payload []byte) packettest.Frame {
	s := packettest.TCP{
		Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC}, Src: e.self, Dst: e.peer,
		Flags: flags, Seq: seq, Payload: payload,
	}
	if e.port == lan {
		s.Link = packettest.Link{SrcMAC: realMAC, DstMAC: lanMAC}
	}
	if flags.Has(packet.ACK) {
		s.Ack = e.next
	}
	if flags.Has(packet.SYN) {
		s.Options = []byte("\x02\x04\x02\x00")
	}
	return s.Frame()
}

// resend returns what the end sends when its timer runs out: all that the other end
// has not acknowledged, of up to four segments, cut anywhere.
func (e *end) resend() (all []packettest.Frame) {
	switch {
	case e.port == wan && !e.synced:
		return []packettest.Frame{e.segment(packet.SYN, e.isn, nil)}
	case !e.synced:
		return nil
	case !e.open:
		return []packettest.Frame{e.segment(packet.SYN|packet.ACK, e.isn, nil)}
	}
	at := int(e.una - e.isn - 1)
	for n := 0; n < 4 && at < len(e.send); n++ {
		size := min(1+e.rand.IntN(500), len(e.send)-at)
		all = append(all, e.segment(packet.ACK, e.isn+1+uint32(at), e.send[at:at+size]))
		at += size
	}
	if len(all) == 0 && at == len(e.send) {
		all = append(all, e.segment(packet.ACK|packet.FIN, e.isn+1+uint32(at), nil))
	}
	return all
}

// receive takes a segment and returns the answers.
func (e *end) receive(p *packet.Packet) (answers []packettest.Frame, err error) {
	t := p.TCP()
	if p.Flags.Has(packet.RST) {
		return nil, fmt.Errorf("port %d: RST %d", e.port, t.Seq())
	}
	if p.Flags.Has(packet.SYN) {
		if !e.synced {
			e.synced, e.next = true, t.Seq()+1
			e.peer = p.Flow.Source()
		}
		if e.port == lan {
			return []packettest.Frame{e.segment(packet.SYN|packet.ACK, e.isn, nil)}, nil
		}
	}
	if p.Flags.Has(packet.ACK) && int32(t.Ack()-e.una) > 0 && t.Ack()-e.isn <= uint32(len(e.send))+2 {
		e.una, e.open = t.Ack(), true
	}
	payload := p.Buf[p.Payload:p.End]
	if at := e.next - t.Seq(); at < uint32(len(payload)) { // it brings something new, perhaps behind something old
		e.got = append(e.got, payload[at:]...)
		e.next += uint32(len(payload)) - at
	}
	if p.Flags.Has(packet.FIN) && t.Seq()+uint32(len(payload)) == e.next && !e.closed {
		e.closed = true
		e.next++
	}
	if len(payload) > 0 || p.Flags.Any(packet.FIN|packet.SYN) {
		answers = append(answers, e.segment(packet.ACK, e.una, nil))
	}
	return answers, nil
}

// done reports whether both streams have arrived and ended.
func (e *end) done(want []byte) bool { return e.closed && bytes.Equal(e.got, want) }

// A fate is what becomes of the n-th packet on the way.
type fate func(n int) (lost, twice, late bool)

// transfer moves bytes both ways through a worker, and fails if they do not arrive.
func transfer(t *testing.T, seed uint64, of fate) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	w := newWorld(t, guarded(", syn_retries = 5"))
	w.loose = true
	up, down := random(5000), random(5000)
	ends := [2]*end{
		wan: {port: wan, self: client, peer: vip, send: up, isn: r.Uint32(), rand: r},
		lan: {port: lan, self: real0, send: down, isn: r.Uint32(), rand: r},
	}
	for _, e := range ends {
		e.una = e.isn
	}
	var waiting [][2]any // a port and a frame that is late
	n := 0
	put := func(port int, frames []packettest.Frame) {
		for _, f := range frames {
			lost, twice, late := of(n)
			n++
			switch {
			case lost:
			case late:
				waiting = append(waiting, [2]any{port, f})
			default:
				w.put(port, f.Bytes())
				if twice {
					w.put(port, f.Bytes())
				}
			}
		}
	}
	for range 3000 {
		w.clock = w.clock.Add(50 * time.Millisecond)
		late := waiting
		waiting = nil
		for _, e := range ends {
			put(e.port, e.resend())
		}
		for _, l := range late {
			w.put(l[0].(int), l[1].(packettest.Frame).Bytes())
		}
		for quiet := false; !quiet; {
			quiet = true
			for port, frames := range w.run() {
				for _, f := range frames {
					quiet = false
					lost, _, _ := of(n)
					if n++; lost {
						continue
					}
					answers, err := ends[port].receive(packettest.NewFrame(f).Parse(t))
					if err != nil {
						t.Fatalf("%v (drops: %v)", err, w.drops())
					}
					put(port, answers)
				}
			}
		}
		if ends[wan].done(down) && ends[lan].done(up) {
			return
		}
	}
	t.Fatalf("after %d packets: %d of %d bytes up, %d of %d down (drops: %v)",
		n, len(ends[lan].got), len(up), len(ends[wan].got), len(down), w.drops())
}

// Each of the first packets is lost in turn: all of both handshakes, and the first data.
func TestEachPacketOfTheHandshakesIsLost(t *testing.T) {
	for lose := range 25 {
		t.Run(fmt.Sprint(lose), func(t *testing.T) {
			transfer(t, uint64(lose), func(n int) (bool, bool, bool) { return n == lose, false, false })
		})
	}
}

// Each comes twice in turn, and each comes late.
func TestEachPacketOfTheHandshakesIsRepeatedOrLate(t *testing.T) {
	for i := range 25 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			transfer(t, uint64(i), func(n int) (bool, bool, bool) { return false, n == i, false })
			transfer(t, uint64(i), func(n int) (bool, bool, bool) { return false, false, n == i })
		})
	}
}

// Whatever is lost, repeated and late, and however it is cut: the bytes are the same.
func TestStreamsThroughSYNPROXYAreEqual(t *testing.T) {
	for range 40 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			transfer(t, seed, func(int) (lost, twice, late bool) {
				return r.IntN(6) == 0, r.IntN(10) == 0, r.IntN(10) == 0
			})
		})
	}
}
