package dataplane

import (
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/synproxy"
)

var update = flag.Bool("update", false, "write the captures in testdata")

// Handshakes through SYNPROXY, as captures that tcpdump and wireshark read. What passes
// either interface is in one file:
//
//	tcpdump -nvr testdata/joined.pcap
func TestCapture(t *testing.T) {
	for name, talk := range map[string]func(*world){
		"joined": func(w *world) {
			k := w.joined(client, synOptions, synOptions)
			k.pass(wan, k.fromClient(packet.ACK|packet.PSH, timestampsOf(synOptions), dataPayload))
			k.seq += uint32(len(dataPayload))
			k.pass(lan, k.fromReal(packet.ACK|packet.PSH, timestampsOf(synOptions), "200 OK"))
			k.realSeq, k.ack = k.realSeq+6, k.ack+6
			k.pass(wan, k.fromClient(packet.FIN|packet.ACK, timestampsOf(synOptions), ""))
			k.seq++
			k.pass(lan, k.fromReal(packet.FIN|packet.ACK, timestampsOf(synOptions), ""))
			k.realSeq, k.ack = k.realSeq+1, k.ack+1
			k.pass(wan, k.fromClient(packet.ACK, timestampsOf(synOptions), ""))
		},
		"ack_lost": func(w *world) {
			k, _ := w.knock(client, clientISN, synOptions)
			k.proveBy(k.fromClient(packet.ACK|packet.PSH, timestampsOf(synOptions), dataPayload))
			k.welcome(synOptions)
		},
		"server_silent": func(w *world) {
			k, _ := w.knock(client, clientISN, synOptions)
			k.proveBy(k.fromClient(packet.ACK, timestampsOf(synOptions), ""))
			w.wait(time.Minute)
		},
		"server_refuses": func(w *world) {
			k, _ := w.knock(client, clientISN, synOptions)
			k.proveBy(k.fromClient(packet.ACK, timestampsOf(synOptions), ""))
			k.exchange(lan, k.fromReal(packet.RST|packet.ACK, "", ""))
		},
		"server_offers_less": func(w *world) {
			k := w.joined(client, synOptions, "\x02\x04\x02\x18\x01\x03\x03\x02")
			k.pass(wan, k.fromClient(packet.ACK|packet.PSH, timestampsOf(synOptions), dataPayload))
			k.seq += uint32(len(dataPayload))
			k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "200 OK"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, guarded(""), onePort, sameHashes)
			keys := synproxy.SecretFrom([16]byte{15: 1}).Keys(w.clock)
			w.engine.cookies.Store(&keys)
			w.loose, w.rolls = true, true
			talk(w)
			netns.CheckCapture(t, filepath.Join("testdata", name+".pcap"), w.tape, *update)
		})
	}
}

// sameHashes makes the shard of a flow, and with onePort its port, the same in each run.
func sameHashes(_ *world, _ *Config, c *conntrack.Config) { c.HashKey = siphash.Key{K0: 3, K1: 4} }
