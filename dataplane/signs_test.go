package dataplane

import (
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// TestSigns has what says that a real server is down, and what does not.
func TestSigns(t *testing.T) {
	type signs struct{ refused, unanswered uint64 }
	unreachable := func(w *world, about *packet.Packet, code uint8) {
		w.put(lan, packettest.ICMP{
			Src: real0.Addr, Dst: about.Flow.Src, Type: packet.ICMPUnreachable, Code: code, Body: quote(about),
		}.Frame().Bytes())
		w.run()
	}
	for name, test := range map[string]struct {
		run  func(w *world)
		want signs
	}{
		"first_syn":   {func(w *world) { w.syn(client, clientISN) }, signs{}},
		"syn_again":   {func(w *world) { w.syn(client, clientISN); w.syn(client, clientISN) }, signs{0, 1}},
		"another_syn": {func(w *world) { w.syn(client, clientISN); w.syn(client, clientISN+100_000) }, signs{}},
		"syn_again_after_the_answer": {func(w *world) {
			k, _ := w.syn(client, clientISN)
			k.synAck()
			w.syn(client, clientISN)
		}, signs{}},
		"refused_by_the_server": {func(w *world) {
			k, _ := w.syn(client, clientISN)
			k.pass(lan, k.fromReal(packet.RST|packet.ACK, "", ""))
		}, signs{1, 0}},
		"reset_later": {func(w *world) {
			k := w.connect(client)
			k.pass(lan, k.fromReal(packet.RST|packet.ACK, "", ""))
		}, signs{}},
		"refused_by_a_router":  {func(w *world) { _, p := w.syn(client, clientISN); unreachable(w, p, packet.ICMPHostUnreachable) }, signs{1, 0}},
		"too_big_for_a_router": {func(w *world) { _, p := w.syn(client, clientISN); unreachable(w, p, packet.ICMPFragNeeded) }, signs{}},
		"router_of_a_connection_says": {func(w *world) {
			k := w.connect(client)
			unreachable(w, k.pass(wan, k.fromClient(packet.ACK, "", "x")), packet.ICMPHostUnreachable)
		}, signs{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tcpService)
			test.run(w)
			if got := w.traffic(); got.Refused != test.want.refused || got.Unanswered != test.want.unanswered {
				t.Errorf("got %d refused and %d unanswered, want %+v", got.Refused, got.Unanswered, test.want)
			}
		})
	}
	t.Run("refused_datagram", func(t *testing.T) {
		w := newWorld(t, strings.Replace(udpService, `"icmp-echo"`, `"none"`, 1))
		unreachable(w, w.pass(wan, query(client, "?")), packet.ICMPPortUnreachable)
		if got := w.traffic(); got.Refused != 1 {
			t.Errorf("got %d refused, want 1", got.Refused)
		}
	})
}
