package dataplane

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// closeAll has the engine close connections while the workers run, and returns
// what they sent and how many connections there were.
func (w *world) closeAll(mode CloseMode, servers ...conntrack.Binding) (sent [2][][]byte, closed int) {
	w.Helper()
	done := make(chan error, 1)
	go func() {
		var err error
		closed, err = w.engine.Close(context.Background(), servers, mode)
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				w.Error(err)
			}
			return sent, closed
		default:
			now := w.run()
			sent[wan] = append(sent[wan], now[wan]...)
			sent[lan] = append(sent[lan], now[lan]...)
		}
	}
}

func binding(virtual, real packet.Endpoint) conntrack.Binding {
	return conntrack.Binding{Proto: packet.ProtoTCP, Virtual: virtual, Real: real}
}

func TestCloseServer(t *testing.T) {
	t.Run("resets_both_ends_of_an_established_connection", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		sent, closed := w.closeAll(CloseAll, binding(vip, real0))
		if closed != 1 || len(sent[wan]) != 1 || len(sent[lan]) != 1 {
			t.Fatalf("got %d closed, %d and %d frames, want one each", closed, len(sent[wan]), len(sent[lan]))
		}
		toClient := packettest.NewFrame(sent[wan][0]).Parse(t)
		if f := toClient.Flow; f.Source() != vip || f.Destination() != client || toClient.Flags != packet.RST || toClient.TCP().Seq() != k.ack {
			t.Errorf("client: got %v %v seq %d, want a RST with seq %d", f, toClient.Flags, toClient.TCP().Seq(), k.ack)
		}
		toReal := packettest.NewFrame(sent[lan][0]).Parse(t)
		if f := toReal.Flow; f.Source() != k.local || f.Destination() != real0 || toReal.Flags != packet.RST || toReal.TCP().Seq() != k.seq+k.delta {
			t.Errorf("server: got %v %v seq %d, want a RST with seq %d", f, toReal.Flags, toReal.TCP().Seq(), k.seq+k.delta)
		}
		if got := k.state(); got != conntrack.None {
			t.Errorf("state: got %v, want it gone", got)
		}
		if active, inactive := w.load(); active != 0 || inactive != 0 {
			t.Errorf("load: got %d active and %d inactive, want none", active, inactive)
		}
		if c := w.counts(); c.Events[ConnClosed] != 1 || c.Events[ResetSent] != 2 {
			t.Errorf("counted: got %d closed and %d RSTs, want 1 and 2", c.Events[ConnClosed], c.Events[ResetSent])
		}
	})
	t.Run("leaves_other_servers_alone", func(t *testing.T) {
		w := newWorld(t, twoServers)
		first, second := w.connect(at(1)), w.connect(at(2))
		if first.real == second.real {
			t.Fatalf("both went to %v", first.real)
		}
		w.closeAll(CloseAll, binding(vip, first.real), binding(vip, packettest.Endpoint("198.19.0.99:1")))
		if first.state() != conntrack.None || second.state() != conntrack.Established {
			t.Errorf("got %v and %v, want the first one gone", first.state(), second.state())
		}
	})
	t.Run("forgets_a_syn_that_nobody_answered", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k, _ := w.syn(client, clientISN)
		sent, closed := w.closeAll(CloseUnanswered, binding(vip, real0))
		if closed != 1 || len(sent[wan])+len(sent[lan]) != 0 || k.state() != conntrack.None {
			t.Errorf("got %d closed, sent %v, state %v; want it gone in silence", closed, sent, k.state())
		}
	})
	t.Run("resets_a_handshake_that_the_server_answered", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k, _ := w.syn(client, clientISN)
		k.synAck()
		if _, closed := w.closeAll(CloseUnanswered, binding(vip, real0)); closed != 0 {
			t.Errorf("unanswered: got %d closed, want none", closed)
		}
		if sent, closed := w.closeAll(CloseAll, binding(vip, real0)); closed != 1 || len(sent[wan]) != 1 || len(sent[lan]) != 1 {
			t.Errorf("all: got %d closed, sent %v, want one and two RSTs", closed, sent)
		}
	})
	t.Run("lets_a_finished_connection_go_in_silence", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
		k.seq++
		k.pass(lan, k.fromReal(packet.FIN|packet.ACK, "", ""))
		if sent, closed := w.closeAll(CloseAll, binding(vip, real0)); closed != 1 || len(sent[wan])+len(sent[lan]) != 0 {
			t.Errorf("got %d closed, sent %v, want nothing sent", closed, sent)
		}
	})
	t.Run("sends_the_next_datagram_of_a_flow_to_another_server", func(t *testing.T) {
		two := udpService + "[[service.real_server]]\naddress = \"198.19.0.102:8080\"\n"
		w := newWorld(t, strings.Replace(two, `"icmp-echo"`, `"none"`, 1))
		first := w.pass(wan, query(client, "?")).Flow.Destination()
		b := conntrack.Binding{Proto: packet.ProtoUDP, Virtual: vipUDP, Real: first}
		w.closeAll(CloseUnanswered, b)
		second := w.pass(wan, query(client, "?"))
		w.pass(lan, packettest.UDP{
			Link: packettest.Link{SrcMAC: realMAC, DstMAC: lanMAC},
			Src:  second.Flow.Destination(), Dst: second.Flow.Source(), Payload: []byte("!"),
		}.Frame())
		b.Real = second.Flow.Destination()
		if _, closed := w.closeAll(CloseUnanswered, b); closed != 0 {
			t.Errorf("unanswered: got %d of an answered flow, want none", closed)
		}
		if sent, closed := w.closeAll(CloseAll, b); closed != 1 || len(sent[wan])+len(sent[lan]) != 0 {
			t.Errorf("all: got %d closed, sent %v, want it gone in silence", closed, sent)
		}
		third := w.pass(wan, query(client, "?")).Flow.Destination()
		if first == second.Flow.Destination() || third != first {
			t.Errorf("servers: got %v, %v and %v, want them in turn", first, second.Flow.Destination(), third)
		}
	})
	t.Run("removes_templates", func(t *testing.T) {
		w := newWorld(t, strings.Replace(tcpService, `scheduler = "rr"`, "scheduler = \"rr\"\npersistence = \"60s\"", 1))
		w.connect(client)
		if _, closed := w.closeAll(CloseUnanswered, binding(vip, real0)); closed != 0 {
			t.Errorf("unanswered: got %d closed, want none", closed)
		}
		w.closeAll(CloseAll, binding(vip, real0))
		if got := w.conns.Stats(); got.Connections != 0 || got.Templates != 0 {
			t.Errorf("left: got %d connections and %d templates, want none", got.Connections, got.Templates)
		}
	})
	t.Run("goes_in_slices", func(t *testing.T) {
		w := newWorld(t, tcpService, maxConnections(1000))
		for i := range uint16(600) {
			w.connect(at(1 + i))
		}
		sent, closed := w.closeAll(CloseAll, binding(vip, real0)) // 512 frames would not do for all at once
		if closed != 600 || len(sent[wan]) != 600 || len(sent[lan]) != 600 {
			t.Errorf("got %d closed, %d and %d RSTs, want 600 each", closed, len(sent[wan]), len(sent[lan]))
		}
	})
}

func TestCloseIsCutShort(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3 { // one at a time: what was cut short must not stand in the way
		if _, err := w.engine.Close(ctx, []conntrack.Binding{binding(vip, real0)}, CloseAll); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
	w.run()
	if got := k.state(); got != conntrack.Established {
		t.Errorf("state: got %v, want %v", got, conntrack.Established)
	}
	if _, closed := w.closeAll(CloseAll, binding(vip, real0)); closed != 1 {
		t.Errorf("afterwards: got %d closed, want 1", closed)
	}
}
