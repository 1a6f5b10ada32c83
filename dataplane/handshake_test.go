package dataplane

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// Options of SYNs and SYN-ACKs in the order that Linux has, by what both ends want, and others.
var (
	linuxOptions = []string{
		"",
		"\x02\x04\x05\xb4",
		"\x02\x04\x00\x30", // an MSS that is not lowered
		"\x02\x04\x05\xb4\x01\x01\x04\x02",
		"\x02\x04\x05\xb4\x01\x01\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x06",
		"\x02\x04\x05\xb4\x01\x01\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x00", // echoes nothing
		"\x02\x04\x05\xb4\x01\x03\x03\x07",
		"\x02\x04\x05\xb4\x01\x01\x04\x02\x01\x03\x03\x0f",
		completeOptions,
		"\x04\x02\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x06\x01\x03\x03\x07",
	}
	otherOptions = []string{
		"\x01\x03\x03\x07\x02\x04\x05\xb4",
		"\x02\x04\x05\xb4\x02\x04\x05\xb5",
		"\x02\x04\x05\xb4\x00\x00\x00\x00",
		"\x02\x04\x05\xb4\xfe\x04\x00\x00",
		"\x02\x04\x05\xb4\x01\x01\x05\x0a\x00\x00\x00\x01\x00\x00\x00\x09",
		"\x04\x02\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x06\x01\x03\x03\x07\x02\x04\x05\xb4",
	}
)

const completeOptions = "\x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x06\x01\x03\x03\x07"

// SYN-ACKs go the short way, if their options are in Linux's order, and come out as by the
// long one: of connections that wait for them and of those that are further.
func TestShortAnswer(t *testing.T) {
	for _, f := range allFamilies {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, f.service("tcp", "toa", ""))
			w.vip = f.vip
			rng := rand.New(rand.NewPCG(5, 6))
			oneFamily := f.client.Addr.Is4() == f.real.Addr.Is4()
			for i := range 400 {
				all, isShort := linuxOptions, oneFamily
				if i%2 == 1 {
					all, isShort = otherOptions, false
				}
				k, _ := w.syn(packet.Endpoint{Addr: f.client.Addr, Port: uint16(40000 + i)}, clientISN)
				k.realSeq = rng.Uint32()
				if i%5 == 0 {
					k.synAck()
					k.pass(wan, k.fromClient(packet.ACK, "", ""))
					k.realSeq += rng.Uint32N(3) - 1
				}
				options, payload := all[rng.IntN(len(all))], dataPayload[:rng.IntN(2)]
				if got := w.bothWays(lan, k.fromReal(packet.SYN|packet.ACK, options, payload)); got != isShort && i > 0 {
					t.Errorf("options %q: went the short way: %v", options, got)
				}
				w.run()
			}
		})
	}
}

// What a real server's SYN-ACK offers is noted also of one that goes the short way.
func TestShortAnswerIsLearnt(t *testing.T) {
	w := newWorld(t, tcpService)
	k, _ := w.syn(client, clientISN)
	k.realSeq = realISN
	first := k.fromReal(packet.SYN|packet.ACK, completeOptions, "")
	k.pass(lan, first) // the long way, as the hop to the client is new
	seen := &w.engine.View().targets[1].Meter.seen
	want := seen.Swap(0)
	if !w.bothWays(lan, first) {
		t.Fatal("the second is not short")
	}
	seen.Store(0)
	k.pass(lan, first)
	if got := seen.Load(); got != want || want == 0 {
		t.Errorf("got %#x by the short way, %#x by the long one", got, want)
	}
}

// A SYN-ACK from a client is nothing that the short way knows.
func TestAnswerOfClient(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	if w.bothWays(wan, k.fromClient(packet.SYN|packet.ACK, completeOptions, "")) {
		t.Error("went the short way")
	}
}

// A SYN that comes in a batch with others, or alone, goes the short way; sent again it goes
// the long one, and must come out the same.
func TestShortSYN(t *testing.T) {
	for _, f := range allFamilies {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, f.service("tcp", "toa", ""))
			w.vip = f.vip
			w.syn(f.client, clientISN) // by it the hop is known
			oneFamily := f.client.Addr.Is4() == f.real.Addr.Is4()
			all := append(linuxOptions, otherOptions...)
			for i, options := range all {
				k := talk{world: w, client: packet.Endpoint{Addr: f.client.Addr, Port: uint16(50000 + i)}, virtual: w.vip, seq: clientISN + uint32(i)}
				syn := k.fromClient(packet.SYN|packet.ECE|packet.CWR, options, dataPayload[:i%2])
				w.put(wan, syn.Bytes())
				first := w.run()[lan]
				w.put(wan, syn.Bytes())
				again := w.run()[lan]
				if oneFamily && (len(first) != 1 || len(again) != 1 || !bytes.Equal(first[0], again[0])) {
					t.Errorf("options %q:\ngot  %x\nthen %x", options, first, again)
				}
				k.client.Port += 1000
				if got, want := w.shortSYN(k.fromClient(packet.SYN, options, "")), oneFamily && i < len(linuxOptions); got != want {
					t.Errorf("options %q: short is %v", options, got)
				}
			}
		})
	}
}

// shortSYN reports whether a SYN that comes alone goes the short way.
func (w *world) shortSYN(f packettest.Frame) bool {
	j := &w.worker.jobs[0]
	*j = *w.classified(wan, f)
	if !j.short {
		return false
	}
	w.worker.prepare([]uint8{0})
	short := w.worker.shortSYN(j)
	if !short {
		w.worker.forgo(j)
		w.umem.Free(j.addr)
	}
	w.run()
	return short
}

// What of a SYN is to be taken away or added is not for the short way.
func TestSYNsOfTheLongWay(t *testing.T) {
	for _, extra := range []string{"client_address = \"toa\"\ntoa_on_syn = true", "timestamps = \"strip\""} {
		w := newWorld(t, strings.Replace(tcpService, `client_address = "toa"`, extra, 1))
		w.syn(client, clientISN)
		k := talk{world: w, client: at(50000), virtual: w.vip, seq: clientISN}
		w.put(wan, k.fromClient(packet.SYN, completeOptions, "").Bytes())
		first := w.run()[lan]
		w.put(wan, k.fromClient(packet.SYN, completeOptions, "").Bytes())
		if again := w.run()[lan]; len(first) != 1 || len(again) != 1 || !bytes.Equal(first[0], again[0]) {
			t.Errorf("%s:\ngot  %x\nthen %x", extra, first, again)
		}
	}
}
