package dataplane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func query(from packet.Endpoint, payload string) packettest.Frame {
	return packettest.UDP{
		Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC},
		Src:  from, Dst: vipUDP, Payload: []byte(payload),
	}.Frame()
}

// ask sends a first query and returns the notice and the query as the real
// server gets them.
func (w *world) ask(from packet.Endpoint) (notice, datagram *packet.Packet) {
	w.Helper()
	w.put(wan, query(from, "?").Bytes())
	sent := w.run()
	if len(sent[wan]) != 0 || len(sent[lan]) != 2 {
		w.Fatalf("sent: got %d and %d frames, want a notice and a datagram to the server", len(sent[wan]), len(sent[lan]))
	}
	return packettest.NewFrame(sent[lan][0]).Parse(w), packettest.NewFrame(sent[lan][1]).Parse(w)
}

// acknowledge sends back the echo reply to a notice.
func (w *world) acknowledge(notice *packet.Packet) {
	w.Helper()
	w.refuse(lan, packettest.EchoReply(packettest.NewFrame(notice.Frame())).Bytes(), packet.NoticeReply)
}

func TestUDP(t *testing.T) {
	w := newWorld(t, udpService)
	notice, datagram := w.ask(client)
	local := datagram.Flow.Source()
	if datagram.Flow.Destination() != real0 || local.Addr != lip {
		t.Errorf("datagram: got %v > %v, want %v > %v", local, datagram.Flow.Destination(), lip, real0)
	}
	want := "\x08\x00" + string(notice.ICMP()[2:4]) + "\x34\x12\x00\x00" +
		"\x7b\x11" + string([]byte{byte(local.Port >> 8), byte(local.Port)}) + "\x1f\x90" +
		"\xfe\x08\x9c\x40\xc6\x12\x00\x02"
	if diff := cmp.Diff(want, string(notice.ICMP())); diff != "" {
		t.Errorf("notice (-want +got):\n%s", diff)
	}
	w.acknowledge(notice)

	answer := w.pass(lan, packettest.UDP{
		Link: packettest.Link{SrcMAC: realMAC, DstMAC: lanMAC},
		Src:  real0, Dst: local, Payload: []byte("!"),
	}.Frame())
	if answer.Flow.Source() != vipUDP || answer.Flow.Destination() != client {
		t.Errorf("answer: got %v > %v, want %v > %v", answer.Flow.Source(), answer.Flow.Destination(), vipUDP, client)
	}
	if active, inactive := w.load(); active != 1 || inactive != 0 {
		t.Errorf("load: got %d active and %d inactive, want 1 and 0", active, inactive)
	}
	if again := w.pass(wan, query(client, "??")); again.Flow.Source() != local {
		t.Errorf("second query: got it from %v, want %v", again.Flow.Source(), local)
	}
	got := w.traffic()
	if diff := cmp.Diff(Traffic{
		Connections: 1, InPackets: 2, OutPackets: 1, InBytes: 29 + 30, OutBytes: 29, NoticeSent: 1, NoticeAcked: 1,
	}, got); diff != "" {
		t.Errorf("traffic (-want +got):\n%s", diff)
	}
	w.wait(301 * time.Second)
	if active, inactive := w.load(); active != 0 || inactive != 0 {
		t.Errorf("load after the timeout: got %d active and %d inactive, want none", active, inactive)
	}
}

func TestUDPWithoutChecksum(t *testing.T) {
	w := newWorld(t, udpService)
	w.ask(client)
	p := w.pass(wan, packettest.UDP{Src: client, Dst: vipUDP, Payload: []byte("?"), NoSum: true}.Frame())
	if got := p.UDP().Sum(); got != 0 {
		t.Errorf("checksum: got %#x, want none, as the client sent none", got)
	}
}

func TestNotice(t *testing.T) {
	t.Run("unanswered_is_repeated_with_back_off_and_given_up", func(t *testing.T) {
		w := newWorld(t, udpService)
		w.ask(client)
		var at []time.Duration
		for start := w.clock; len(at) < 5 && w.clock.Sub(start) < 20*time.Second; {
			if sent := w.wait(100 * time.Millisecond); len(sent[lan]) > 0 {
				at = append(at, w.clock.Sub(start))
			}
		}
		if len(at) != 5 {
			t.Fatalf("got %d repeats at %v, want 5", len(at), at)
		}
		for i := 1; i < len(at); i++ {
			if gap, want := at[i]-at[i-1], noticeFirstRetry<<i*time.Millisecond; gap < want || gap > want+400*time.Millisecond {
				t.Errorf("repeat %d came after %v, want about %v", i+1, gap, want)
			}
		}
		if sent := w.wait(30 * time.Second); len(sent[lan]) != 0 {
			t.Errorf("after giving up: got %d more, want none", len(sent[lan]))
		}
		if got := w.traffic(); got.NoticeSent != 1 || got.NoticeResent != 5 || got.NoticeGivenUp != 1 {
			t.Errorf("got %d sent, %d resent, %d given up, want 1, 5, 1", got.NoticeSent, got.NoticeResent, got.NoticeGivenUp)
		}
	})
	t.Run("answered_is_renewed_while_the_flow_lives", func(t *testing.T) {
		w := newWorld(t, udpService)
		notice, datagram := w.ask(client)
		w.acknowledge(notice)
		w.pass(lan, packettest.UDP{Src: real0, Dst: datagram.Flow.Source()}.Frame())
		if sent := w.wait(89 * time.Second); len(sent[lan]) != 0 {
			t.Errorf("in 89 s: got %d notices, want none", len(sent[lan]))
		}
		sent := w.wait(2 * time.Second)
		if len(sent[lan]) < 1 {
			t.Fatal("no renewal after 90 s")
		}
		if renewed := packettest.NewFrame(sent[lan][0]).Parse(t); renewed.Flow != notice.Flow {
			t.Errorf("renewal: got %v, want %v", renewed.Flow, notice.Flow)
		}
	})
	t.Run("that_nobody_sent_is_not_acknowledged", func(t *testing.T) {
		w := newWorld(t, udpService)
		notice, _ := w.ask(client)
		reply := packettest.EchoReply(packettest.NewFrame(notice.Frame())).Bytes()
		other := append([]byte{}, reply...)
		other[len(other)-13] ^= 1 // protocol
		w.refuse(lan, other, packet.BadICMP)
		if got := w.traffic().NoticeAcked; got != 0 {
			t.Errorf("acknowledged: got %d, want 0", got)
		}
	})
	t.Run("comes_in_the_longer_form_if_asked_for", func(t *testing.T) {
		w := newWorld(t, udpService[:len(udpService)-len("[[service.real_server]]\naddress = \"198.19.0.101:8080\"\n")]+
			"notice_length = 44\n[[service.real_server]]\naddress = \"198.19.0.101:8080\"\n")
		notice, _ := w.ask(client)
		if got := notice.IPLen(); got != 44 {
			t.Errorf("length: got %d, want 44", got)
		}
	})
}

func TestUDPStates(t *testing.T) {
	w := newWorld(t, udpService)
	_, datagram := w.ask(client)
	k := w.conns.OutboundKey(&packet.Flow{
		Src: real0.Addr, SrcPort: real0.Port, Dst: lip, DstPort: datagram.Flow.SrcPort, Proto: packet.ProtoUDP,
	})
	state := func() conntrack.State {
		out := make([]conntrack.Conn, 1)
		if n, _ := w.conns.Walk(k.Shard(), 0, out); n != 1 {
			t.Fatalf("got %d connections, want 1", n)
		}
		return out[0].State
	}
	if got := state(); got != conntrack.UDPOneWay {
		t.Errorf("before an answer: got %v, want %v", got, conntrack.UDPOneWay)
	}
	w.pass(lan, packettest.UDP{Src: real0, Dst: datagram.Flow.Source()}.Frame())
	if got := state(); got != conntrack.UDP {
		t.Errorf("after an answer: got %v, want %v", got, conntrack.UDP)
	}
}
