package dataplane

import (
	"fmt"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/synproxy"
)

// ends are options of a SYN, as a host would send them, and what they say.
type ends struct {
	mss              int // 0: none
	scale            int // -1: none
	sack, timestamps bool
	clock            uint32
}

func (e ends) options() string {
	var o []byte
	if e.mss > 0 {
		o = append(o, 2, 4, byte(e.mss>>8), byte(e.mss))
	}
	if e.sack {
		o = append(o, 1, 1, 4, 2)
	}
	if e.timestamps {
		o = append(o, 1, 1)
		o = append(o, clock(e.clock, 0)...)
	}
	if e.scale >= 0 {
		o = append(o, 1, 3, 3, byte(e.scale))
	}
	return string(o)
}

// clock returns a timestamps option.
func clock(val, ecr uint32) string {
	return string([]byte{8, 10, byte(val >> 24), byte(val >> 16), byte(val >> 8), byte(val),
		byte(ecr >> 24), byte(ecr >> 16), byte(ecr >> 8), byte(ecr)})
}

// Every combination of what a client and a real server can offer: each is told only
// what the other can keep, and what was told wrongly is made good on every segment.
func TestJoinedOptions(t *testing.T) {
	for _, mss := range []int{0, 64, 1300, 1460, 8960} {
		for scale := -1; scale <= 14; scale++ {
			for i := range 4 {
				c := ends{mss, scale, i&1 != 0, i&2 != 0, 1 << 31}
				for _, real := range []ends{
					{1460, 7, true, true, 5}, {1460, -1, true, true, ^uint32(0)}, {1460, 0, false, false, 0}, {536, 14, false, true, 1 << 30},
				} {
					t.Run(fmt.Sprintf("%+v_%+v", c, real), func(t *testing.T) { joinedOptions(t, c, real) })
				}
			}
		}
	}
}

func joinedOptions(t *testing.T, c, real ends) {
	w := newWorld(t, guarded(""))
	w.wait(10 * time.Second)
	k, p := w.knock(client, clientISN, c.options())
	told := p.SYNOptions()
	if told.SACK != c.sack || told.Timestamps != c.timestamps || (told.Scale == packet.NoScale) != (c.scale < 0) {
		t.Errorf("the client is told %+v", told)
	}
	stamp := func(val, ecr uint32) string {
		if !c.timestamps {
			return ""
		}
		return "\x01\x01" + clock(val, ecr)
	}
	send := func(window uint16, options, payload string) packettest.Frame {
		s := packettest.TCP{
			Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC}, Src: k.client, Dst: k.virtual, Flags: packet.ACK,
			Seq: k.seq, Ack: k.ack, Window: window, Options: []byte(options), Payload: []byte(payload),
		}
		return s.Frame()
	}
	w.clock = w.clock.Add(20 * time.Millisecond)
	syn := k.proveBy(send(1000, stamp(c.clock+20, told.Val), "")).SYNOptions()
	if syn.SACK != c.sack || syn.Timestamps != c.timestamps || int(syn.Scale) != c.scale && (c.scale >= 0 || syn.Scale != packet.NoScale) {
		t.Errorf("the real server is told %+v", syn)
	}
	if want := max(c.mss, 0); want != 0 && int(syn.MSS) > want || want == 0 && syn.MSS != 536 {
		t.Errorf("the real server is told an MSS of %d, the client's is %d", syn.MSS, want)
	}

	// The real server answers with what was offered to it.
	answer := ends{real.mss, -1, real.sack && syn.SACK, real.timestamps && syn.Timestamps, real.clock}
	if syn.Scale != packet.NoScale {
		answer.scale = real.scale
	}
	third := k.only(lan, k.welcome(answer.options()))
	scaled := syn.Scale != packet.NoScale && answer.scale >= 0 // on the real server's side
	realShift, clientShift := 0, 0
	if scaled {
		realShift, clientShift = answer.scale, int(syn.Scale)
	}

	// Windows mean the same at both ends, as far as the field allows.
	toldShift := 0
	if told.Scale != packet.NoScale {
		toldShift = int(told.Scale)
	}
	offeredShift := max(c.scale, 0) // by which the client scales its own, as it was told a scale
	sameWindow(t, "third segment", 1000<<offeredShift, third.TCP().Window(), clientShift)
	p = k.pass(wan, send(2000, stamp(c.clock+30, told.Val), "x"))
	sameWindow(t, "client's data", 2000<<offeredShift, p.TCP().Window(), clientShift)
	val, ecr, has := p.Timestamps()
	if has != c.timestamps {
		t.Errorf("client's timestamps: %t", has)
	}
	if answer.timestamps {
		// The clock goes on from the SYN's, and the echo is of the real server's, at
		// most as long ago as the client's handshake.
		if val-syn.Val != 10 {
			t.Errorf("the client's clock went on by %d, want 10", val-syn.Val)
		}
		if age := real.clock - ecr; age > 40 {
			t.Errorf("the echo is %d older than the SYN-ACK, want the client's round trip", age)
		}
		if v, e, _ := third.Timestamps(); v != syn.Val || e != real.clock {
			t.Errorf("third segment: clock %d and echo %d, want %d and %d", v, e, syn.Val, real.clock)
		}
	}
	k.seq++

	o := ""
	if answer.timestamps {
		o = "\x01\x01" + clock(real.clock+5, val)
	}
	p = k.pass(lan, packettest.TCP{
		Link: packettest.Link{SrcMAC: realMAC, DstMAC: lanMAC}, Src: k.real, Dst: k.local, Flags: packet.ACK,
		Seq: k.realSeq, Ack: k.seq + k.delta, Window: 3000, Options: []byte(o), Payload: []byte("y"),
	}.Frame())
	sameWindow(t, "real server's data", 3000<<realShift, p.TCP().Window(), toldShift)
	if v, e, ok := p.Timestamps(); answer.timestamps {
		if !ok || int32(v-told.Val) < 0 {
			t.Errorf("the client sees the clock run back from %d to %d", told.Val, v)
		}
		if e != c.clock+30 {
			t.Errorf("the client's echo is %d, want %d", e, c.clock+30)
		}
	}
	mismatched := told.Timestamps && !answer.timestamps
	if got := w.guardCounts()[GuardMismatch]; (got == 1) != mismatched {
		t.Errorf("mismatches counted: %d, want it if %t", got, mismatched)
	}
}

// sameWindow checks that a window field with this scale means so many bytes, less what
// the scale cuts off or the field does not hold.
func sameWindow(t *testing.T, of string, bytes int, field uint16, shift int) {
	t.Helper()
	want := min(bytes>>shift, 65535)
	if want == 0 {
		want = 1
	}
	if int(field) != want {
		t.Errorf("%s: window %d with scale %d, want %d for %d bytes", of, field, shift, want, bytes)
	}
}

// What real servers answer becomes what clients are offered, an epoch later: the least
// of all.
func TestOfferIsLearned(t *testing.T) {
	w := newWorld(t, guarded("")+secondServer)
	w.engine.Tend(w.clock, nobody)
	next := func() {
		w.wait(64 * time.Second) // in which connections end, too
		w.engine.Tend(w.clock, nobody)
	}
	offered := func(port uint16) packet.SYNOptions {
		_, p := w.knock(at(port), clientISN, ends{1460, 7, true, true, 0}.options())
		o := p.SYNOptions()
		o.Val, o.Ecr = 0, 0
		return o
	}
	join := func(port uint16, real ends) {
		k, _ := w.knock(at(port), clientISN, ends{1460, 7, true, true, 0}.options())
		k.proveBy(k.fromClient(packet.ACK, "\x01\x01"+clock(1, 1), ""))
		k.only(lan, k.welcome(real.options()))
	}
	if got, want := offered(1), (packet.SYNOptions{MSS: 1452, Scale: 7, SACK: true, Timestamps: true}); got != want {
		t.Errorf("at first: %+v, want what is configured, %+v", got, want)
	}
	join(2, ends{1400, 9, true, true, 1})
	if got := offered(3); got.MSS != 1452 {
		t.Errorf("in the same epoch: %+v, want no change", got)
	}
	next()
	if got, want := offered(4), (packet.SYNOptions{MSS: 1392, Scale: 9, SACK: true, Timestamps: true}); got != want {
		t.Errorf("then: %+v, want what the real server has shown, %+v", got, want)
	}
	join(5, ends{1380, -1, true, false, 1}) // the other one, by round robin
	next()
	if got, want := offered(6), (packet.SYNOptions{MSS: 1372, Scale: packet.NoScale, SACK: true}); got != want {
		t.Errorf("with both: %+v, want what both can keep, %+v", got, want)
	}
}

func TestACKStorm(t *testing.T) {
	const limit = 10
	ack := func(k *talk, options string, window uint16) packettest.Frame {
		return packettest.TCP{
			Src: k.real, Dst: k.local, Flags: packet.ACK, Seq: k.realSeq, Ack: k.seq + k.delta, Options: []byte(options), Window: window,
		}.Frame()
	}
	t.Run("equal_acks_end_after_the_limit", func(t *testing.T) {
		w := newWorld(t, guarded(""))
		k := w.joined(client, "", "")
		for range limit {
			k.pass(lan, ack(k, "", 0))
		}
		w.refuse(lan, ack(k, "", 0).Bytes(), packet.ACKStorm)
		w.clock = w.clock.Add(2 * time.Second)
		k.pass(lan, ack(k, "", 0))
	})
	t.Run("what_says_something_new_passes", func(t *testing.T) {
		w := newWorld(t, guarded(""))
		k := w.joined(client, "", "")
		for i := range 3 * limit {
			k.pass(lan, ack(k, "", uint16(1000+i)))
			k.pass(lan, ack(k, "\x01\x01\x05\x0a\x00\x00\x00\x01\x00\x00\x00\x02", 7))
		}
	})
	t.Run("without_limit_all_pass", func(t *testing.T) {
		w := newWorld(t, guarded(", ack_storm_limit = 0"))
		k := w.joined(client, "", "")
		for range 3 * limit {
			k.pass(lan, ack(k, "", 0))
		}
	})
}

func TestAdaptive(t *testing.T) {
	w := newWorld(t, guarded(`, mode = "adaptive", adaptive_on = 20, adaptive_off = 10`))
	port := uint16(0)
	flood := func(syns int) (switched []Switch) {
		for range syns {
			port++
			w.put(wan, (&talk{client: at(port), virtual: vip}).bareSYN())
		}
		w.run()
		w.clock = w.clock.Add(time.Second)
		return w.engine.Tend(w.clock, nobody)
	}
	old := w.connect(packet.Endpoint{Addr: client.Addr, Port: 60000})
	flood(0)
	if got := flood(19); len(got) != 0 {
		t.Fatalf("below the limit: %+v, want no switch", got)
	}
	got := flood(20)
	if len(got) != 1 || !got[0].On || got[0].Unfinished != 20 {
		t.Fatalf("at the limit: %+v, want it on", got)
	}
	before := w.conns.Stats().Connections
	flood(60)
	if after := w.conns.Stats().Connections; after != before {
		t.Errorf("%d connections came to be, want none", after-before)
	}
	t.Run("connections_live_through_it", func(t *testing.T) { old.pass(wan, old.fromClient(packet.ACK, "", "x")) })
	half, _ := w.knock(packet.Endpoint{Addr: client.Addr, Port: 60001}, clientISN, synOptions)
	for i := range calmTime - 1 {
		if got := flood(i % 10); len(got) != 0 {
			t.Fatalf("calm for %d s: %+v, want it on still", i+1, got)
		}
	}
	if got := flood(0); len(got) != 1 || got[0].On {
		t.Fatalf("calm for long: %+v, want it off", got)
	}
	t.Run("cookies_are_good_for_a_while", func(t *testing.T) {
		half.proveBy(half.fromClient(packet.ACK, "", ""))
		half.only(lan, half.welcome(synOptions))
	})
	t.Run("syns_are_forwarded_again", func(t *testing.T) { w.connect(packet.Endpoint{Addr: client.Addr, Port: 60002}) })
	w.wait(synproxy.Lifetime + time.Second)
	w.engine.Tend(w.clock, nobody)
	t.Run("and_then_no_longer", func(t *testing.T) {
		w.refuse(wan, (&talk{client: at(1), virtual: vip}).fromClient(packet.ACK, "", "").Bytes(), packet.NoConn)
	})
}

func (k *talk) bareSYN() []byte { return k.fromClient(packet.SYN, synOptions, "").Bytes() }

// The client's packets come by one worker and the real server's by another: what the
// first holds goes on all the same.
func TestHeldByAnotherWorker(t *testing.T) {
	apart = true
	defer func() { apart = false }()
	w := newWorld(t, guarded(""))
	w.loose = true
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK, "", ""))
	k.exchange(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	sent := k.welcome(synOptions)[lan]
	sent = append(sent, w.run()[lan]...)
	if len(sent) != 2 {
		t.Fatalf("the real server got %d frames, want the ACK and the data", len(sent))
	}
	if got := w.sides[0].worker.nap(); len(sent) == 2 && got != nap {
		t.Errorf("nap of %v with nothing held, want %v", got, nap)
	}
	w.loose = false
	w.run()
}

func TestOptionOnTheSYNToo(t *testing.T) {
	w := newWorld(t, guarded(" }\ntoa_on_syn = true\n#"))
	k, _ := w.knock(client, clientISN, synOptions)
	p := k.proveBy(k.fromClient(packet.ACK, timestampsOf(synOptions), ""))
	if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client {
		t.Errorf("TOA on the SYN: got %v %t, want %v", got, ok, client)
	}
}

func TestForgedOptionOfAProvenClient(t *testing.T) {
	w := newWorld(t, guarded(""))
	w.loose = true
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK|packet.PSH, "\xfe\x08\x00\x01\x01\x02\x03\x04", dataPayload))
	for i, frame := range k.welcome(synOptions)[lan] {
		p := packettest.NewFrame(frame).Parse(t)
		if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client {
			t.Errorf("frame %d: TOA %v %t, want %v", i, got, ok, client)
		}
		if n := len(p.TCP().Options()); i == 1 && (n != 16 || p.TCP().Options()[8] != 1) {
			t.Errorf("the forged option is still there: % x", p.TCP().Options())
		}
	}
}

func TestIdleJoinedConnectionIsResetInBothSpaces(t *testing.T) {
	w := newWorld(t, guarded("")+"[service.timeout]\nestablished = \"5s\"\n")
	k := w.joined(client, synOptions, synOptions)
	k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "200 OK"))
	sent := w.wait(10 * time.Second)
	if len(sent[wan]) != 1 || len(sent[lan]) != 1 {
		t.Fatalf("%d and %d frames, want a RST to each end", len(sent[wan]), len(sent[lan]))
	}
	if p := packettest.NewFrame(sent[wan][0]).Parse(t); p.TCP().Seq() != k.ack+6 {
		t.Errorf("to the client: RST %d, want %d", p.TCP().Seq(), k.ack+6)
	}
	if p := packettest.NewFrame(sent[lan][0]).Parse(t); p.TCP().Seq() != k.seq+k.delta {
		t.Errorf("to the real server: RST %d, want %d", p.TCP().Seq(), k.seq+k.delta)
	}
}

func TestErrorAboutAJoinedConnection(t *testing.T) {
	w := newWorld(t, guarded(""))
	k := w.joined(client, synOptions, synOptions)
	told := k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "200 OK"))
	p := k.pass(wan, tooBig(client.Addr, told, 1400))
	seq, ok := p.QuotedSeq()
	if !ok || seq != k.realSeq {
		t.Errorf("quoted number: %d, %t, want the real server's own, %d", seq, ok, k.realSeq)
	}
}
