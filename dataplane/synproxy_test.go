package dataplane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/synproxy"
)

// guarded returns tcpService with SYNPROXY on and what else is said of it.
func guarded(more string) string {
	return strings.Replace(tcpService, "[[service.real_server]]",
		fmt.Sprintf("synproxy = { answer = \"userspace\"%s }\n[[service.real_server]]", more), 1)
}

const secondServer = "[[service.real_server]]\naddress = \"198.19.0.102:8080\"\n"

// exchange sends a frame into a port and returns what leaves, by port.
func (w *world) exchange(port int, f packettest.Frame) [2][][]byte {
	w.Helper()
	w.put(port, f.Bytes())
	return w.run()
}

// only returns the only frame that was sent, which was by port.
func (w *world) only(port int, sent [2][][]byte) *packet.Packet {
	w.Helper()
	if len(sent[port]) != 1 || len(sent[1-port]) != 0 {
		w.Fatalf("sent %d frames to the clients and %d to the real servers, want one by port %d (drops: %v)",
			len(sent[wan]), len(sent[lan]), port, w.drops())
	}
	return packettest.NewFrame(sent[port][0]).Parse(w)
}

// knock sends a client's SYN to a guarded service and returns the SYN-ACK.
func (w *world) knock(from packet.Endpoint, isn uint32, options string) (*talk, *packet.Packet) {
	w.Helper()
	k := &talk{world: w, client: from, virtual: w.vip, seq: isn, real: real0}
	p := w.only(wan, w.exchange(wan, k.fromClient(packet.SYN, options, "")))
	k.seq++
	k.ack = p.TCP().Seq() + 1
	return k, p
}

// proveBy sends the client's segment that brings the cookie back, and returns the SYN
// to the real server.
func (k *talk) proveBy(f packettest.Frame) *packet.Packet {
	k.Helper()
	p := k.only(lan, k.exchange(wan, f))
	if p.Flags != packet.SYN {
		k.Fatalf("the real server got %v, want a SYN", p.Flags)
	}
	k.local, k.real = p.Flow.Source(), p.Flow.Destination()
	k.delta = p.TCP().Seq() + 1 - k.seq
	return p
}

// welcome sends the real server's SYN-ACK and returns what that brings.
func (k *talk) welcome(options string) [2][][]byte {
	k.realSeq = realISN
	sent := k.exchange(lan, k.fromReal(packet.SYN|packet.ACK, options, ""))
	k.realSeq++
	return sent
}

// joined goes through the whole of it.
func (w *world) joined(from packet.Endpoint, client, real string) *talk {
	w.Helper()
	k, _ := w.knock(from, clientISN, client)
	k.proveBy(k.fromClient(packet.ACK, timestampsOf(client), ""))
	k.only(lan, k.welcome(real))
	return k
}

// timestampsOf returns the options of a segment after a SYN with these, if it had
// timestamps: the clock one later, and an echo.
func timestampsOf(syn string) string {
	if !strings.Contains(syn, "\x08\x0a") {
		return ""
	}
	return "\x01\x01\x08\x0a\x00\x00\x00\x02\x00\x00\x00\x09"
}

func (w *world) guardCounts() GuardCounts { return w.engine.View().Services[0].Guard.Counts() }

func (w *world) wantCounts(want map[GuardEvent]uint64) {
	w.Helper()
	got := w.guardCounts()
	for e := range NumGuardEvents {
		if got[e] != want[e] {
			w.Errorf("%v: got %d, want %d", e, got[e], want[e])
		}
	}
}

func TestCookieHandshake(t *testing.T) {
	w := newWorld(t, guarded(""))
	k, p := w.knock(client, clientISN, synOptions)

	t.Run("syn_is_answered_from_itself", func(t *testing.T) {
		if got := p.Flow; got.Source() != vip || got.Destination() != client {
			t.Errorf("flow: got %v > %v, want %v > %v", got.Source(), got.Destination(), vip, client)
		}
		if p.Flags != packet.SYN|packet.ACK || p.TCP().Ack() != k.seq {
			t.Errorf("got %v acknowledging %d, want a SYN-ACK of %d", p.Flags, p.TCP().Ack(), k.seq)
		}
		if e := p.Ethernet(); e.Dst() != clientMAC || e.Src() != wanMAC {
			t.Errorf("MACs: got %x from %x, want them exchanged", e.Dst(), e.Src())
		}
		o := p.SYNOptions()
		want := packet.SYNOptions{MSS: 1460 - 8, Scale: 7, SACK: true, Timestamps: true, Val: o.Val, Ecr: 1}
		if o != want {
			t.Errorf("options: got %+v, want %+v", o, want)
		}
		if p.TCP().Window() == 0 {
			t.Error("the window is closed: a lost ACK would kill the connection")
		}
	})
	t.Run("nothing_is_kept_of_it", func(t *testing.T) {
		if got := w.conns.Stats().Connections; got != 0 || k.state() != conntrack.None {
			t.Errorf("%d connections, want none", got)
		}
	})
	t.Run("ack_opens_a_handshake_with_the_clients_options", func(t *testing.T) {
		p := k.proveBy(k.fromClient(packet.ACK, timestampsOf(synOptions), ""))
		if p.Flow.Source().Addr != lip || p.Flow.Destination() != real0 {
			t.Errorf("flow: got %v > %v, want from %v to %v", p.Flow.Source(), p.Flow.Destination(), lip, real0)
		}
		o := p.SYNOptions()
		if want := (packet.SYNOptions{MSS: 1460, Scale: 7, SACK: true, Timestamps: true, Val: o.Val}); o != want {
			t.Errorf("options: got %+v, want %+v", o, want)
		}
		if k.state() != conntrack.SynSent {
			t.Errorf("state: got %v, want %v", k.state(), conntrack.SynSent)
		}
	})
	t.Run("syn_ack_is_acknowledged_with_the_clients_address", func(t *testing.T) {
		p := k.only(lan, k.welcome(synOptions))
		if p.Flags != packet.ACK || p.TCP().Ack() != k.realSeq || p.TCP().Seq() != k.seq+k.delta {
			t.Errorf("got %v %d/%d, want an ACK %d/%d", p.Flags, p.TCP().Seq(), p.TCP().Ack(), k.seq+k.delta, k.realSeq)
		}
		if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client {
			t.Errorf("TOA: got %v %t, want %v", got, ok, client)
		}
		if k.state() != conntrack.Established {
			t.Errorf("state: got %v, want %v", k.state(), conntrack.Established)
		}
	})
	t.Run("data_passes_both_ways_in_both_spaces", func(t *testing.T) {
		p := k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
		if p.TCP().Seq() != k.seq+k.delta || p.TCP().Ack() != k.realSeq {
			t.Errorf("to the real server: %d/%d, want %d/%d", p.TCP().Seq(), p.TCP().Ack(), k.seq+k.delta, k.realSeq)
		}
		if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client {
			t.Errorf("TOA on data: got %v %t, want %v", got, ok, client)
		}
		k.seq += uint32(len(dataPayload))
		p = k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "200 OK"))
		if p.TCP().Seq() != k.ack || p.TCP().Ack() != k.seq {
			t.Errorf("to the client: %d/%d, want %d/%d", p.TCP().Seq(), p.TCP().Ack(), k.ack, k.seq)
		}
		k.ack += 6
		k.realSeq += 6
		if p := k.pass(wan, k.fromClient(packet.ACK, "", "")); hasTOA(p) {
			t.Error("TOA: still there after server data was acknowledged")
		}
	})
	t.Run("selective_acknowledgements_follow", func(t *testing.T) {
		block := func(from uint32) string {
			return string([]byte{1, 1, 5, 10, byte(from >> 24), byte(from >> 16), byte(from >> 8), byte(from),
				byte((from + 10) >> 24), byte((from + 10) >> 16), byte((from + 10) >> 8), byte(from + 10)})
		}
		p := k.pass(wan, k.fromClient(packet.ACK, block(k.ack+100), ""))
		if got, want := string(p.TCP().Options()), block(k.realSeq+100); got != want {
			t.Errorf("to the real server: % x, want % x", got, want)
		}
		p = k.pass(lan, k.fromReal(packet.ACK, block(k.seq+k.delta+100), ""))
		if got, want := string(p.TCP().Options()), block(k.seq+100); got != want {
			t.Errorf("to the client: % x, want % x", got, want)
		}
	})
	t.Run("what_happened_is_counted", func(t *testing.T) {
		w.wantCounts(map[GuardEvent]uint64{GuardSYN: 1, GuardCookie: 1, GuardGood: 1, GuardJoined: 1})
		if active, inactive := w.load(); active != 1 || inactive != 0 {
			t.Errorf("load: got %d active and %d inactive, want 1 and 0", active, inactive)
		}
	})
	t.Run("it_ends_as_any_other", func(t *testing.T) {
		k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
		k.seq++
		k.pass(lan, k.fromReal(packet.FIN|packet.ACK, "", ""))
		if k.state() != conntrack.TimeWait {
			t.Errorf("state: got %v, want %v", k.state(), conntrack.TimeWait)
		}
	})
}

// Whatever proves the cookie begins the connection.
func TestCookieIsProvenBy(t *testing.T) {
	for _, test := range []struct {
		name    string
		segment func(k *talk) packettest.Frame
		after   int // frames to the real server once it has answered
		handed  string
	}{
		{"the_third_ack", func(k *talk) packettest.Frame { return k.fromClient(packet.ACK, "", "") }, 1, ""},
		{"data_when_the_ack_was_lost", func(k *talk) packettest.Frame { return k.fromClient(packet.ACK|packet.PSH, "", dataPayload) }, 2, dataPayload},
		{"data_with_fin", func(k *talk) packettest.Frame {
			return k.fromClient(packet.FIN|packet.ACK|packet.PSH, "", dataPayload)
		}, 2, dataPayload},
		{"fin_alone", func(k *talk) packettest.Frame { return k.fromClient(packet.FIN|packet.ACK, "", "") }, 2, ""},
		{"a_window_probe", func(k *talk) packettest.Frame {
			k.seq--
			f := k.fromClient(packet.ACK, "", "")
			k.seq++
			return f
		}, 1, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, guarded(""))
			w.loose = true
			k, _ := w.knock(client, clientISN, synOptions)
			k.proveBy(test.segment(k))
			sent := k.welcome(synOptions)
			if len(sent[lan]) != test.after || len(sent[wan]) != 0 {
				t.Fatalf("after the SYN-ACK: %d frames to the real server and %d to the client, want %d and 0",
					len(sent[lan]), len(sent[wan]), test.after)
			}
			last := packettest.NewFrame(sent[lan][test.after-1]).Parse(t)
			if got := string(last.Buf[last.Payload:last.End]); got != test.handed {
				t.Errorf("handed on: %q, want %q", got, test.handed)
			}
			if last.TCP().Seq() != k.seq+k.delta || last.TCP().Ack() != k.realSeq {
				t.Errorf("numbers: %d/%d, want %d/%d", last.TCP().Seq(), last.TCP().Ack(), k.seq+k.delta, k.realSeq)
			}
			if got, ok := toa.Decode(last.TCP().Options()); !ok || got != client {
				t.Errorf("TOA: got %v %t, want %v", got, ok, client)
			}
		})
	}
}

func TestBadCookies(t *testing.T) {
	for name, change := range map[string]func(k *talk){
		"wrong_ack":       func(k *talk) { k.ack++ },
		"wrong_seq":       func(k *talk) { k.seq += 2 },
		"of_another_port": func(k *talk) { k.client.Port++ },
		"too_late":        func(k *talk) { k.clock = k.clock.Add(synproxy.Lifetime); k.engine.Tend(k.clock, nobody) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(""))
			w.engine.Tend(w.clock, nobody)
			k, _ := w.knock(client, clientISN, synOptions)
			change(k)
			w.refuse(wan, k.fromClient(packet.ACK, "", "").Bytes(), packet.BadCookie)
			w.refuse(wan, k.fromClient(packet.ACK|packet.PSH, "", "data").Bytes(), packet.BadCookie)
			if got := w.guardCounts()[GuardBad]; got != 2 || k.state() != conntrack.None {
				t.Errorf("%d bad ACKs counted, want 2; state %v", got, k.state())
			}
		})
	}
	t.Run("rst_and_syn_ack_prove_nothing", func(t *testing.T) {
		w := newWorld(t, guarded(""))
		k, _ := w.knock(client, clientISN, synOptions)
		w.refuse(wan, k.fromClient(packet.RST|packet.ACK, "", "").Bytes(), packet.NoConn)
		w.refuse(wan, k.fromClient(packet.SYN|packet.ACK, "", "").Bytes(), packet.NoConn)
	})
	t.Run("reset_if_wanted", func(t *testing.T) {
		w := newWorld(t, guarded(`, bad_ack = "reset"`))
		k, _ := w.knock(client, clientISN, synOptions)
		k.ack++
		p := w.only(wan, w.exchange(wan, k.fromClient(packet.ACK, "", "")))
		if p.Flags != packet.RST || p.TCP().Seq() != k.ack {
			t.Errorf("got %v %d, want a RST %d", p.Flags, p.TCP().Seq(), k.ack)
		}
	})
}

func nobody(*Service) uint64 { return 0 }

func TestDeferredJoin(t *testing.T) {
	w := newWorld(t, guarded(", defer = true"))
	w.loose = true
	k, _ := w.knock(client, clientISN, synOptions)
	w.refuse(wan, k.fromClient(packet.ACK, "", "").Bytes(), packet.CookieACK)
	if k.state() != conntrack.None {
		t.Errorf("state: %v, want none before data", k.state())
	}
	k.proveBy(k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	if sent := k.welcome(synOptions); len(sent[lan]) != 2 {
		t.Errorf("the real server got %d frames, want the ACK and the data", len(sent[lan]))
	}
}

// What comes before the real server has answered is handed on in order, whole, up to a
// bound.
func TestHeldSegments(t *testing.T) {
	w := newWorld(t, guarded(""))
	w.loose = true
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK, "", ""))
	start := k.seq
	for i := range maxHeldOfConn {
		if sent := k.exchange(wan, k.fromClient(packet.ACK|packet.PSH, "", fmt.Sprint(i%10))); len(sent[wan])+len(sent[lan]) != 0 {
			t.Fatalf("sent %v, want it held", sent)
		}
		k.seq++
	}
	w.refuse(wan, k.fromClient(packet.ACK|packet.PSH, "", "too much").Bytes(), packet.NotHeld)
	k.seq = start
	sent := k.welcome(synOptions)[lan]
	if len(sent) != 1+maxHeldOfConn {
		t.Fatalf("the real server got %d frames, want %d", len(sent), 1+maxHeldOfConn)
	}
	for i, frame := range sent[1:] {
		p := packettest.NewFrame(frame).Parse(t)
		if got := string(p.Buf[p.Payload:p.End]); got != fmt.Sprint(i%10) || p.TCP().Seq() != start+k.delta+uint32(i) {
			t.Errorf("frame %d: %q at %d", i, got, p.TCP().Seq())
		}
	}
	w.loose = false
	w.run()
}

func TestHeldSegmentsAreNotHeldForEver(t *testing.T) {
	w := newWorld(t, guarded(", syn_retries = 5"))
	w.loose = true
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	w.wait(holdTime * time.Millisecond)
	w.loose = false
	w.wait(time.Second)
	if got := w.counts().Drops[packet.NotHeld]; got != 1 {
		t.Errorf("dropped: %d, want 1", got)
	}
}

func TestRealServerRefuses(t *testing.T) {
	w := newWorld(t, guarded(""))
	w.loose = true
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	refusal := k.fromReal(packet.RST|packet.ACK, "", "")
	forged := packettest.TCP{Src: k.real, Dst: k.local, Flags: packet.RST | packet.ACK, Ack: k.seq + k.delta + 1}.Frame()
	w.refuse(lan, forged.Bytes(), packet.NoConn)

	p := w.only(wan, w.exchange(lan, refusal))
	if p.Flags != packet.RST || p.TCP().Seq() != k.ack {
		t.Errorf("the client got %v %d, want a RST %d", p.Flags, p.TCP().Seq(), k.ack)
	}
	w.loose = false
	w.run() // the held data is gone
	t.Run("what_was_under_way_begins_nothing_new", func(t *testing.T) {
		w.refuse(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload).Bytes(), packet.Refused)
	})
	w.wantCounts(map[GuardEvent]uint64{GuardSYN: 1, GuardCookie: 1, GuardGood: 1, GuardRefused: 1, GuardFailed: 1})
	if got := w.traffic().Refused; got != 1 {
		t.Errorf("refusals of the service: %d, want 1", got)
	}
	t.Run("the_client_may_try_again", func(t *testing.T) {
		k, _ := w.knock(client, 77, synOptions)
		k.proveBy(k.fromClient(packet.ACK, "", ""))
		k.only(lan, k.welcome(synOptions))
	})
	w.wait(10 * time.Second)
	if active, inactive := w.load(); active != 1 || inactive != 0 {
		t.Errorf("load: got %d active and %d inactive, want the one connection", active, inactive)
	}
}

func TestSilentRealServer(t *testing.T) {
	w := newWorld(t, guarded("")+secondServer)
	k, _ := w.knock(client, clientISN, synOptions)
	first := k.proveBy(k.fromClient(packet.ACK, timestampsOf(synOptions), ""))
	syns := func(d time.Duration) (all []*packet.Packet) {
		sent := w.wait(d)
		if len(sent[wan]) != 0 {
			t.Fatalf("the client got %d frames, want none yet", len(sent[wan]))
		}
		for _, frame := range sent[lan] {
			all = append(all, packettest.NewFrame(frame).Parse(t))
		}
		return all
	}
	t.Run("syn_is_repeated_with_back_off", func(t *testing.T) {
		again := syns(3 * time.Second)
		if len(again) != 2 {
			t.Fatalf("%d more SYNs, want 2", len(again))
		}
		for _, p := range again {
			if p.Flow != first.Flow || p.TCP().Seq() != first.TCP().Seq() || p.SYNOptions() != first.SYNOptions() {
				t.Errorf("repeated as %v %d, was %v %d", p.Flow, p.TCP().Seq(), first.Flow, first.TCP().Seq())
			}
		}
	})
	t.Run("then_another_real_server_is_tried", func(t *testing.T) {
		other := syns(time.Second)
		if len(other) == 0 || other[0].Flow.DstPort != real1.Port || other[0].Flow.Dst == first.Flow.Dst {
			t.Fatalf("got %v, want a SYN to the other real server", other)
		}
		servers := w.engine.View().Services[0].Servers
		if a, b := servers[0].Load.Total(), servers[1].Load.Total(); a+b != 1 {
			t.Errorf("loads: %d and %d, want one in all", a, b)
		}
		if got := w.guardCounts(); got[GuardSilent] != 1 || got[GuardMoved] != 1 || got[GuardRetried] < 2 {
			t.Errorf("counted: %v", got)
		}
		k.local, k.real = other[0].Flow.Source(), other[0].Flow.Destination()
		k.delta = other[0].TCP().Seq() + 1 - k.seq
	})
	t.Run("which_may_answer", func(t *testing.T) {
		p := k.only(lan, k.welcome(synOptions))
		if p.Flags != packet.ACK || p.TCP().Seq() != k.seq+k.delta {
			t.Errorf("got %v %d, want an ACK %d", p.Flags, p.TCP().Seq(), k.seq+k.delta)
		}
		k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	})
}

func TestNoRealServerAnswers(t *testing.T) {
	w := newWorld(t, guarded("")+secondServer)
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK, "", ""))
	sent := w.wait(10 * time.Second)
	if len(sent[wan]) != 1 || len(sent[lan]) != 5 {
		t.Fatalf("%d frames to the client and %d to the real servers, want a RST and five SYNs", len(sent[wan]), len(sent[lan]))
	}
	if p := packettest.NewFrame(sent[wan][0]).Parse(t); p.Flags != packet.RST || p.TCP().Seq() != k.ack {
		t.Errorf("the client got %v %d, want a RST %d", p.Flags, p.TCP().Seq(), k.ack)
	}
	w.wait(5 * time.Second)
	if k.state() != conntrack.None {
		t.Errorf("state: %v, want the connection gone", k.state())
	}
}

// A real server that still has the connection that the port had before answers a SYN
// with what it expects; the RST for that lets the next SYN in.
func TestRealServerWithAnOldConnection(t *testing.T) {
	w := newWorld(t, guarded(""))
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK, "", ""))
	challenge := packettest.TCP{Src: k.real, Dst: k.local, Flags: packet.ACK, Seq: 5, Ack: 77}.Frame()
	p := w.only(lan, w.exchange(lan, challenge))
	if p.Flags != packet.RST || p.TCP().Seq() != 77 {
		t.Errorf("got %v %d, want a RST 77", p.Flags, p.TCP().Seq())
	}
	if again := w.only(lan, w.wait(time.Second)); again.Flags != packet.SYN {
		t.Errorf("then %v, want the SYN again", again.Flags)
	}
}

func TestClientGivesUpEarly(t *testing.T) {
	w := newWorld(t, guarded(""))
	w.loose = true
	k, _ := w.knock(client, clientISN, synOptions)
	k.proveBy(k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	k.seq += uint32(len(dataPayload))
	p := w.only(lan, w.exchange(wan, k.fromClient(packet.RST, "", "")))
	if p.Flags != packet.RST || p.TCP().Seq() != k.seq-uint32(len(dataPayload))+k.delta {
		t.Errorf("the real server got %v %d, want a RST that ends its half", p.Flags, p.TCP().Seq())
	}
	w.loose = false
	w.run()
	if k.state() != conntrack.None {
		t.Errorf("state: %v, want the connection gone", k.state())
	}
	if active, inactive := w.load(); active != 0 || inactive != 0 {
		t.Errorf("load: got %d active and %d inactive, want none", active, inactive)
	}
}

// The real server repeats its SYN-ACK if all that was said behind it is lost. That begins
// nothing anew, whatever the client has done since.
func TestRepeatedSYNACK(t *testing.T) {
	for name, closed := range map[string]bool{"established": false, "client_closed": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(""))
			k := w.joined(client, synOptions, synOptions)
			if closed {
				k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
				k.seq++
			}
			before := k.state()
			k.realSeq--
			again := k.fromReal(packet.SYN|packet.ACK, synOptions, "")
			k.realSeq++
			if p := w.only(wan, w.exchange(lan, again)); !p.Flags.Has(packet.SYN | packet.ACK) {
				t.Errorf("the client got %v", p.Flags)
			}
			if got := k.state(); got != before {
				t.Errorf("got state %v, want %v", got, before)
			}
			k.pass(wan, k.fromClient(packet.ACK, "", ""))
			k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "220 ready"))
		})
	}
}

// A RST of either end reaches the other in its own numbers, whatever step has been reached.
func TestResetAtEachStep(t *testing.T) {
	connecting := func(w *world) *talk {
		k, _ := w.knock(client, clientISN, synOptions)
		k.proveBy(k.fromClient(packet.ACK, "", ""))
		return k
	}
	joined := func(w *world) *talk { return w.joined(client, synOptions, synOptions) }
	for name, step := range map[string]func(*world) *talk{
		"connecting": connecting,
		"joined":     joined,
		"data sent": func(w *world) *talk {
			k := joined(w)
			k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
			k.seq += uint32(len(dataPayload))
			return k
		},
		"data answered": func(w *world) *talk {
			k := joined(w)
			k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "220 ready"))
			k.realSeq, k.ack = k.realSeq+9, k.ack+9
			return k
		},
		"half closed": func(w *world) *talk {
			k := joined(w)
			k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
			k.seq++
			k.pass(lan, k.fromReal(packet.ACK, "", ""))
			return k
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(""))
			k := step(w)
			p := w.only(lan, w.exchange(wan, k.fromClient(packet.RST, "", "")))
			if !p.Flags.Has(packet.RST) || p.TCP().Seq() != k.seq+k.delta {
				t.Errorf("the real server got %v %d, want a RST %d", p.Flags, p.TCP().Seq(), k.seq+k.delta)
			}
			w = newWorld(t, guarded(""))
			k = step(w)
			p = w.only(wan, w.exchange(lan, k.fromReal(packet.RST|packet.ACK, "", "")))
			if !p.Flags.Has(packet.RST) || p.TCP().Seq() != k.ack {
				t.Errorf("the client got %v %d, want a RST %d", p.Flags, p.TCP().Seq(), k.ack)
			}
		})
	}
	t.Run("cookie sent", func(t *testing.T) {
		w := newWorld(t, guarded(""))
		k, _ := w.knock(client, clientISN, synOptions)
		w.refuse(wan, k.fromClient(packet.RST, "", "").Bytes(), packet.NoConn) // nobody knows of it yet
	})
}

func TestForgedSYNHarmsNoConnection(t *testing.T) {
	w := newWorld(t, guarded(""))
	k := w.joined(client, synOptions, synOptions)
	forged := talk{world: w, client: client, virtual: vip, seq: 12345}
	w.only(wan, w.exchange(wan, forged.fromClient(packet.SYN, synOptions, "")))
	if p := k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload)); p.TCP().Seq() != k.seq+k.delta {
		t.Errorf("numbers: got %d, want %d", p.TCP().Seq(), k.seq+k.delta)
	}
	if k.state() != conntrack.Established {
		t.Errorf("state: %v, want %v", k.state(), conntrack.Established)
	}
}

// A client whose host has lost the connection comes with a new one from the same port,
// whatever became of the old one.
func TestClientReturns(t *testing.T) {
	for name, prepare := range map[string]func(w *world) *talk{
		"established": func(w *world) *talk { return w.joined(client, synOptions, synOptions) },
		"connecting": func(w *world) *talk {
			k, _ := w.knock(client, clientISN, synOptions)
			k.proveBy(k.fromClient(packet.ACK, "", ""))
			return k
		},
		"client_closed": func(w *world) *talk {
			k := w.joined(client, synOptions, synOptions)
			k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
			k.seq++
			k.pass(lan, k.fromReal(packet.ACK, "", ""))
			return k
		},
		"real_server_closed": func(w *world) *talk {
			k := w.joined(client, synOptions, synOptions)
			k.pass(lan, k.fromReal(packet.FIN|packet.ACK, "", ""))
			return k
		},
		"both_closed": func(w *world) *talk {
			k := w.joined(client, synOptions, synOptions)
			k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
			k.seq++
			k.pass(lan, k.fromReal(packet.FIN|packet.ACK, "", ""))
			return k
		},
		"reset": func(w *world) *talk {
			k := w.joined(client, synOptions, synOptions)
			k.pass(wan, k.fromClient(packet.RST|packet.ACK, "", ""))
			return k
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(""))
			old := prepare(w)
			k, _ := w.knock(client, 77, synOptions)
			sent := w.exchange(wan, k.fromClient(packet.ACK, "", ""))[lan]
			if len(sent) != 2 {
				t.Fatalf("the real server got %d frames, want a RST for the old connection and a SYN", len(sent))
			}
			reset, syn := packettest.NewFrame(sent[0]).Parse(t), packettest.NewFrame(sent[1]).Parse(t)
			if reset.Flags != packet.RST || reset.Flow.Source() != old.local || reset.TCP().Seq() != old.seq+old.delta {
				t.Errorf("got %v from %v with %d, want a RST from %v with %d",
					reset.Flags, reset.Flow.Source(), reset.TCP().Seq(), old.local, old.seq+old.delta)
			}
			if syn.Flags != packet.SYN {
				t.Errorf("got %v, want a SYN", syn.Flags)
			}
			k.local, k.delta = syn.Flow.Source(), syn.TCP().Seq()+1-k.seq
			k.only(lan, k.welcome(synOptions))
			k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
			if got := w.guardCounts()[GuardReplaced]; got != 1 || w.conns.Stats().Connections != 1 {
				t.Errorf("replaced: %d, connections: %d, want one each", got, w.conns.Stats().Connections)
			}
		})
	}
	t.Run("at_once_and_with_numbers_near_the_old_ones", func(t *testing.T) {
		const clients = 2000 // of which some would have passed for the old connection by a window of numbers
		w := newWorld(t, guarded(""))
		for i := range uint16(clients) {
			w.joined(at(i), "", "")
			k, _ := w.knock(at(i), clientISN+1000, "")
			w.exchange(wan, k.fromClient(packet.ACK, "", ""))
		}
		if got := w.guardCounts()[GuardReplaced]; got != clients {
			t.Errorf("replaced: %d of %d", got, clients)
		}
	})
	t.Run("but_a_copy_of_its_own_ack_does_not_count", func(t *testing.T) {
		w := newWorld(t, guarded(""))
		k := w.joined(client, synOptions, synOptions)
		ack := k.fromClient(packet.ACK, "", "")
		k.realSeq += 1 << 24 // far ahead of what the copy acknowledges
		k.pass(lan, k.fromReal(packet.ACK, "", "data"))
		k.pass(wan, ack)
		if got := w.guardCounts()[GuardReplaced]; got != 0 {
			t.Error("the connection was replaced by a copy of its own third segment")
		}
	})
}

// What a client acknowledges in the middle of a transfer may happen to be a good cookie
// less one: of a million ACKs, one in two is. The connection goes on.
func TestACKThatLooksLikeACookie(t *testing.T) {
	for name, connect := range map[string]func(*world) *talk{
		"joined": func(w *world) *talk { return w.joined(client, synOptions, synOptions) },
		"opened without a cookie": func(w *world) *talk {
			w.engine.View().Services[0].Guard.on.Store(false)
			k := w.connect(client)
			w.engine.View().Services[0].Guard.on.Store(true)
			return k
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(""))
			k := connect(w)
			const sent = 16 << 20
			k.realSeq += sent
			k.pass(lan, k.fromReal(packet.ACK, "", "x")) // as if this were the last of so much
			flow := packet.Flow{Src: client.Addr, SrcPort: client.Port, Dst: vip.Addr, DstPort: vip.Port, Proto: packet.ProtoTCP}
			first, good := k.ack, 0
			for n := range uint32(sent) {
				if _, ok := w.engine.cookies.Load().Check(&flow, k.seq-1, first+n-1); !ok || n == 0 {
					continue
				}
				good++
				k.ack = first + n
				k.pass(wan, k.fromClient(packet.ACK, "", ""))
			}
			if good == 0 {
				t.Fatal("no ACK looked like a cookie")
			}
			if got := w.guardCounts()[GuardReplaced]; got != 0 || k.state() != conntrack.Established {
				t.Errorf("%d of %d ACKs were taken for another connection's", got, good)
			}
			again, _ := w.knock(client, k.seq+1<<31, synOptions)
			w.exchange(wan, again.fromClient(packet.ACK, "", ""))
			if got := w.guardCounts()[GuardReplaced]; got != 1 {
				t.Error("a client that has come again does not get through")
			}
		})
	}
}
