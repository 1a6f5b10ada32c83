package dataplane

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// A families says of which family a client and a real server are.
type families struct {
	name        string
	client, vip packet.Endpoint
	lip         packet.Addr
	real        packet.Endpoint
	option      int    // bytes of TOA
	synMSS      uint16 // that the real server gets to see
	synAckMSS   uint16 // that the client gets to see
}

var (
	client6 = packettest.Endpoint("[2001:db8:18::2]:40000")
	vip6    = packettest.Endpoint("[2001:db8:18::100]:80")
	real6   = packettest.Endpoint("[2001:db8:19::101]:8080")
	lip6    = packettest.Addr("2001:db8:19::10")

	sixToFour = families{"6to4", client6, vip6, lip, real0, 20, 1460, 1460 - 20 - 20}
	fourToSix = families{"4to6", client, vip, lip6, real6, 8, 1460 - 20, 1460 - 8}

	allFamilies = []families{
		{"4to4", client, vip, lip, real0, 8, 1460, 1460 - 8},
		{"6to6", client6, vip6, lip6, real6, 20, 1460, 1460 - 20},
		sixToFour,
		fourToSix,
	}
)

// service returns a service of these families; extra is more of its keys.
func (f *families) service(proto, address, extra string) string {
	return fmt.Sprintf(`
[[service]]
name = "s"
protocol = %q
address = %q
interface = "wan0"
scheduler = "rr"
local_pool = "lan"
client_address = %q
%s
[[service.real_server]]
address = %q
`, proto, f.vip.String(), address, extra, f.real.String())
}

func TestFamilies(t *testing.T) {
	for _, f := range allFamilies {
		t.Run(f.name, func(t *testing.T) {
			t.Run("tcp", f.tcp)
			t.Run("ttm", f.ttm)
			t.Run("udp", f.udp)
			t.Run("idle_expiry", f.expiry)
		})
	}
}

func (f *families) tcp(t *testing.T) {
	w := newWorld(t, f.service("tcp", "toa", ""))
	w.vip = f.vip
	k, syn := w.syn(f.client, clientISN)
	if syn.Flow.Src != f.lip || syn.Flow.Destination() != f.real {
		t.Errorf("SYN: got %v > %v, want %v > %v", syn.Flow.Source(), syn.Flow.Destination(), f.lip, f.real)
	}
	if got, _ := syn.MSS(); got != f.synMSS {
		t.Errorf("MSS of the SYN: got %d, want %d", got, f.synMSS)
	}
	if got := syn.TTL(); got != 63 {
		t.Errorf("TTL: got %d, want 63", got)
	}
	synAck := k.synAck()
	if synAck.Flow.Source() != f.vip || synAck.Flow.Destination() != f.client {
		t.Errorf("SYN-ACK: got %v > %v, want %v > %v", synAck.Flow.Source(), synAck.Flow.Destination(), f.vip, f.client)
	}
	if got, _ := synAck.MSS(); got != f.synAckMSS {
		t.Errorf("MSS of the SYN-ACK: got %d, want %d", got, f.synAckMSS)
	}
	data := k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	if got, ok := toa.Decode(data.TCP().Options()); !ok || got != f.client {
		t.Errorf("TOA: got %v %t, want %v", got, ok, f.client)
	}
	if got := data.PayloadLen(); got != len(dataPayload) {
		t.Errorf("payload: got %d bytes, want %d", got, len(dataPayload))
	}
	k.seq += uint32(len(dataPayload))
	answer := k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "200 OK"))
	if got := answer.TCP(); got.Ack() != k.seq || got.Seq() != k.realSeq {
		t.Errorf("answer: got seq %d ack %d, want %d and %d", got.Seq(), got.Ack(), k.realSeq, k.seq)
	}

	// The largest segment that the offered MSS allows still fits with the option.
	k.realSeq += 6
	largest := k.pass(wan, k.fromClient(packet.ACK, "", string(make([]byte, f.largest()))))
	if got, ok := toa.Decode(largest.TCP().Options()); !ok || got != f.client {
		t.Errorf("TOA on the largest segment: got %v %t, want %v", got, ok, f.client)
	}
	if got := w.traffic().TooLong; got != 0 {
		t.Errorf("options that did not fit: got %d, want none", got)
	}
}

// largest is the payload of the client's largest segment: what it was offered,
// or what its own MTU of 1500 lets it send.
func (f *families) largest() int {
	header := 40
	if !f.client.Addr.Is4() {
		header = 60
	}
	return min(int(f.synAckMSS), 1500-header, 1500-40-f.option-f.ipv6RealHeader())
}

func (f *families) ipv6RealHeader() int {
	if f.real.Addr.Is4() {
		return 0
	}
	return 20
}

func (f *families) ttm(t *testing.T) {
	w := newWorld(t, f.service("tcp", "ttm", "ttm_kind = 200"))
	w.vip = f.vip
	k, _ := w.syn(f.client, 1)
	k.synAck()
	p := k.pass(wan, k.fromClient(packet.ACK, "", ""))
	o := p.TCP().Options()
	if len(o) != 24 || o[0] != 200 || o[1] != 22 {
		t.Fatalf("options: got % x, want kind 200, length 22 and two NOPs", o)
	}
	family, addr := byte(2), f.client.Addr[12:]
	if !f.client.Addr.Is4() {
		family, addr = 10, f.client.Addr[:]
	}
	want := append([]byte{200, 22, family, 0, byte(f.client.Port >> 8), byte(f.client.Port)}, addr...)
	if diff := cmp.Diff(want, o[:len(want)]); diff != "" {
		t.Errorf("TTM (-want +got):\n%s", diff)
	}
}

func (f *families) udp(t *testing.T) {
	w := newWorld(t, f.service("udp", "icmp-echo", ""))
	ask := packettest.UDP{Link: packettest.Link{SrcMAC: clientMAC}, Src: f.client, Dst: f.vip, Payload: []byte("?")}.Frame()
	w.put(wan, ask.Bytes())
	sent := w.run()
	if len(sent[lan]) != 2 {
		t.Fatalf("got %d frames, want a notice and a datagram (drops: %v)", len(sent[lan]), w.drops())
	}
	notice, datagram := packettest.NewFrame(sent[lan][0]).Parse(t), packettest.NewFrame(sent[lan][1]).Parse(t)
	if datagram.Flow.Src != f.lip || datagram.Flow.Destination() != f.real {
		t.Errorf("datagram: got %v > %v, want %v > %v", datagram.Flow.Source(), datagram.Flow.Destination(), f.lip, f.real)
	}
	w.acknowledge(notice)
	answer := w.pass(lan, packettest.UDP{Src: f.real, Dst: datagram.Flow.Source(), Payload: []byte("!")}.Frame())
	if answer.Flow.Source() != f.vip || answer.Flow.Destination() != f.client {
		t.Errorf("answer: got %v > %v, want %v > %v", answer.Flow.Source(), answer.Flow.Destination(), f.vip, f.client)
	}
	if got := w.traffic(); got.NoticeAcked != 1 {
		t.Errorf("acknowledged notices: got %d, want 1", got.NoticeAcked)
	}
}

func (f *families) expiry(t *testing.T) {
	w := newWorld(t, f.service("tcp", "toa", ""))
	w.vip = f.vip
	k, _ := w.syn(f.client, clientISN)
	k.synAck()
	k.pass(wan, k.fromClient(packet.ACK, "", ""))
	sent := w.wait(92 * time.Second)
	if len(sent[wan]) != 1 || len(sent[lan]) != 1 {
		t.Fatalf("got %d and %d frames, want a RST to each end", len(sent[wan]), len(sent[lan]))
	}
	toClient, toReal := packettest.NewFrame(sent[wan][0]).Parse(t), packettest.NewFrame(sent[lan][0]).Parse(t)
	if toClient.Flow.Source() != f.vip || toClient.Flow.Destination() != f.client {
		t.Errorf("to the client: got %v > %v", toClient.Flow.Source(), toClient.Flow.Destination())
	}
	if toReal.Flow.Source() != k.local || toReal.Flow.Destination() != k.real {
		t.Errorf("to the server: got %v > %v", toReal.Flow.Source(), toReal.Flow.Destination())
	}
}
