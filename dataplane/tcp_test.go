package dataplane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// A talk is one TCP connection through a world, seen from both ends. seq and ack
// are the client's; real is what the real server has been shown.
type talk struct {
	*world
	client   packet.Endpoint
	virtual  packet.Endpoint
	seq, ack uint32
	local    packet.Endpoint // as the real server sees the client
	real     packet.Endpoint
	delta    uint32 // the real server's numbers for the client, less the client's own
	realSeq  uint32
}

const (
	synOptions  = "\x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x01\x03\x03\x07"
	realISN     = 900_000
	clientISN   = 4_000_000_000 // wraps soon
	dataPayload = "GET / HTTP/1.1\r\n\r\n"
)

func (k *talk) fromClient(flags packet.TCPFlags, options, payload string) packettest.Frame {
	return packettest.TCP{
		Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC},
		Src:  k.client, Dst: k.virtual, Flags: flags, Seq: k.seq, Ack: k.ack,
		Options: []byte(options), Payload: []byte(payload),
	}.Frame()
}

func (k *talk) fromReal(flags packet.TCPFlags, options, payload string) packettest.Frame {
	return packettest.TCP{
		Link: packettest.Link{SrcMAC: realMAC, DstMAC: lanMAC},
		Src:  k.real, Dst: k.local, Flags: flags, Seq: k.realSeq, Ack: k.seq + k.delta,
		Options: []byte(options), Payload: []byte(payload),
	}.Frame()
}

// syn sends a client's SYN and returns what the real server gets.
func (w *world) syn(from packet.Endpoint, isn uint32) (*talk, *packet.Packet) {
	w.Helper()
	k := &talk{world: w, client: from, virtual: w.vip, seq: isn}
	p := w.pass(wan, k.fromClient(packet.SYN, synOptions, ""))
	k.local, k.real = p.Flow.Source(), p.Flow.Destination()
	k.delta = p.TCP().Seq() - isn
	k.seq++
	return k, p
}

// synAck sends the real server's SYN-ACK and returns what the client gets.
func (k *talk) synAck() *packet.Packet {
	k.Helper()
	k.realSeq = realISN
	p := k.pass(lan, k.fromReal(packet.SYN|packet.ACK, synOptions, ""))
	k.realSeq++
	k.ack = p.TCP().Seq() + 1
	return p
}

// connect goes through a whole handshake.
func (w *world) connect(from packet.Endpoint) *talk {
	w.Helper()
	k, _ := w.syn(from, clientISN)
	k.synAck()
	k.pass(wan, k.fromClient(packet.ACK, "", ""))
	return k
}

// state returns the state in which the table has the connection.
func (k *talk) state() conntrack.State {
	f := packet.Flow{Src: k.client.Addr, SrcPort: k.client.Port, Dst: k.virtual.Addr, DstPort: k.virtual.Port, Proto: packet.ProtoTCP}
	key := k.conns.InboundKey(&f)
	s := k.conns.Lock(key)
	defer s.Unlock()
	if c := s.Find(key, &f); c != nil {
		return c.State
	}
	return conntrack.None
}

var toa = packet.TOA(packet.DefaultTOAKind)

func TestHandshake(t *testing.T) {
	w := newWorld(t, tcpService)
	k, syn := w.syn(client, clientISN)

	t.Run("syn_goes_from_a_local_port_to_the_real_server", func(t *testing.T) {
		if got := syn.Flow.Destination(); got != real0 {
			t.Errorf("destination: got %v, want %v", got, real0)
		}
		if got := syn.Flow.Src; got != lip {
			t.Errorf("source: got %v, want %v", got, lip)
		}
		if got := syn.TTL(); got != 63 {
			t.Errorf("TTL: got %d, want 63", got)
		}
		if e := syn.Ethernet(); e.Dst() != realMAC || e.Src() != lanMAC {
			t.Errorf("MACs: got %x from %x, want %x from %x", e.Dst(), e.Src(), realMAC, lanMAC)
		}
	})
	t.Run("syn_carries_no_address", func(t *testing.T) {
		if hasTOA(syn) {
			t.Error("got a TOA option, want none")
		}
	})
	t.Run("syn_ack_comes_from_the_virtual_address_with_a_lower_mss", func(t *testing.T) {
		p := k.synAck()
		if got := p.Flow; got.Source() != vip || got.Destination() != client {
			t.Errorf("flow: got %v > %v, want %v > %v", got.Source(), got.Destination(), vip, client)
		}
		var want uint32 = clientISN
		if got := p.TCP().Ack(); got != want+1 {
			t.Errorf("ack: got %d, want %d", got, want+1)
		}
		if got, _ := p.MSS(); got != 1460-8 {
			t.Errorf("MSS: got %d, want %d", got, 1460-8)
		}
	})
	t.Run("third_ack_tells_the_client", func(t *testing.T) {
		p := k.pass(wan, k.fromClient(packet.ACK, "", ""))
		if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client {
			t.Errorf("TOA: got %v %t, want %v", got, ok, client)
		}
		if got, want := p.TCP().Seq(), k.seq+k.delta; got != want {
			t.Errorf("seq: got %d, want %d", got, want)
		}
		if got := k.state(); got != conntrack.Established {
			t.Errorf("state: got %v, want %v", got, conntrack.Established)
		}
	})
	t.Run("data_tells_the_client_until_it_has_acknowledged_server_data", func(t *testing.T) {
		p := k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
		if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client {
			t.Errorf("TOA: got %v %t, want %v", got, ok, client)
		}
		k.seq += uint32(len(dataPayload))
		if p := k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "200 OK")); p.TCP().Ack() != k.seq {
			t.Errorf("ack at the client: got %d, want %d", p.TCP().Ack(), k.seq)
		}
		k.ack += uint32(len("200 OK"))
		k.realSeq += uint32(len("200 OK"))
		p = k.pass(wan, k.fromClient(packet.ACK, "", ""))
		if _, ok := toa.Decode(p.TCP().Options()); ok {
			t.Error("TOA: still there after server data was acknowledged")
		}
	})
	t.Run("what_passed_is_counted", func(t *testing.T) {
		got := w.traffic()
		want := Traffic{Connections: 1, InPackets: 4, OutPackets: 2, Inserted: 2, InBytes: got.InBytes, OutBytes: got.OutBytes}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("traffic (-want +got):\n%s", diff)
		}
		if want := uint64(60 + 40 + 40 + len(dataPayload) + 40); got.InBytes != want {
			t.Errorf("bytes in: got %d, want %d", got.InBytes, want)
		}
		if active, inactive := w.load(); active != 1 || inactive != 0 {
			t.Errorf("load: got %d active and %d inactive, want 1 and 0", active, inactive)
		}
	})
}

func TestClose(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
	if got := k.state(); got != conntrack.CloseWait {
		t.Errorf("after the client's FIN: got %v, want %v", got, conntrack.CloseWait)
	}
	k.seq++
	k.pass(lan, k.fromReal(packet.FIN|packet.ACK, "", ""))
	if got := k.state(); got != conntrack.TimeWait {
		t.Errorf("after both FINs: got %v, want %v", got, conntrack.TimeWait)
	}
	if active, inactive := w.load(); active != 0 || inactive != 1 {
		t.Errorf("load: got %d active and %d inactive, want 0 and 1", active, inactive)
	}
	if sent := w.wait(8 * time.Second); len(sent[wan])+len(sent[lan]) != 0 {
		t.Errorf("after TIME_WAIT: got %v, want nothing sent", sent)
	}
	if got := k.state(); got != conntrack.None {
		t.Errorf("after TIME_WAIT: got %v, want the connection gone", got)
	}
	if active, inactive := w.load(); active != 0 || inactive != 0 {
		t.Errorf("load: got %d active and %d inactive, want none", active, inactive)
	}
}

func TestFinCarriesTheAddress(t *testing.T) {
	// A request that comes with its FIN in one segment is all that the real
	// server hears of the client.
	w := newWorld(t, tcpService)
	k, _ := w.syn(client, clientISN)
	k.synAck()
	p := k.pass(wan, k.fromClient(packet.FIN|packet.PSH|packet.ACK, "", dataPayload))
	if got, ok := toa.Decode(p.TCP().Options()); !ok || got != client {
		t.Errorf("TOA: got %v %t, want %v", got, ok, client)
	}
}

func TestSACK(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	edge := func(n uint32) string { return string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) }
	base := k.seq
	p := k.pass(lan, k.fromReal(packet.ACK, "\x01\x01\x05\x0a"+edge(base+k.delta+100)+edge(base+k.delta+200), ""))
	if diff := cmp.Diff("\x01\x01\x05\x0a"+edge(base+100)+edge(base+200), string(p.TCP().Options())); diff != "" {
		t.Errorf("SACK at the client (-want +got):\n%s", diff)
	}
}

func TestForgedOption(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	k.pass(lan, k.fromReal(packet.ACK, "", "hello"))
	k.ack += 5
	p := k.pass(wan, k.fromClient(packet.ACK, "\xfe\x08\x00\x50\x0a\x01\x02\x03", "x"))
	if diff := cmp.Diff("\x01\x01\x01\x01\x01\x01\x01\x01", string(p.TCP().Options())); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if got := w.traffic().Forged; got != 1 {
		t.Errorf("forged: got %d, want 1", got)
	}
}

func TestOptionThatDoesNotFit(t *testing.T) {
	full := "\x05\x22" + string(make([]byte, 32)) + "\x01\x01" // SACK of four blocks: 36 of 40 bytes
	t.Run("in_the_header", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		p := k.pass(wan, k.fromClient(packet.ACK, full, "x"))
		if got := len(p.TCP().Options()); got != 36 {
			t.Errorf("options: got %d bytes, want 36", got)
		}
		if got := w.traffic().NoRoom; got != 1 {
			t.Errorf("no room: got %d, want 1", got)
		}
	})
	t.Run("in_the_mtu", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		p := k.pass(wan, k.fromClient(packet.ACK, "", string(make([]byte, 1460))))
		if got := len(p.TCP().Options()); got != 0 {
			t.Errorf("options: got %d bytes, want 0", got)
		}
		if got := w.traffic().TooLong; got != 1 {
			t.Errorf("too long: got %d, want 1", got)
		}
	})
}

func TestRetransmittedSYN(t *testing.T) {
	w := newWorld(t, tcpService)
	k, first := w.syn(client, clientISN)
	w.wait(time.Second)
	again := w.pass(wan, packettest.TCP{
		Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC},
		Src:  client, Dst: vip, Flags: packet.SYN, Seq: clientISN, Options: []byte(synOptions),
	}.Frame())
	if again.TCP().Seq() != first.TCP().Seq() || again.Flow != first.Flow {
		t.Errorf("got %v seq %d, want %v seq %d", again.Flow, again.TCP().Seq(), first.Flow, first.TCP().Seq())
	}
	if got := k.state(); got != conntrack.SynReceived {
		t.Errorf("state: got %v, want %v", got, conntrack.SynReceived)
	}
}

func TestReuseOnANewSYN(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	k.pass(wan, k.fromClient(packet.FIN|packet.ACK, "", ""))
	k.seq++
	k.pass(lan, k.fromReal(packet.FIN|packet.ACK, "", ""))
	last := k.seq + k.delta

	again, p := w.syn(client, 77)
	if again.local != k.local || again.real != k.real {
		t.Errorf("got %v > %v, want the old %v > %v", again.local, again.real, k.local, k.real)
	}
	if !packet.SeqLess(last, p.TCP().Seq()) {
		t.Errorf("ISN %d is not after the old connection's %d", p.TCP().Seq(), last)
	}
	again.synAck()
	if p := again.pass(wan, again.fromClient(packet.ACK, "", "")); !hasTOA(p) {
		t.Error("third ACK of the reused connection carries no TOA")
	}
	if got := w.counts().Events[ConnReused]; got != 1 {
		t.Errorf("reused: got %d, want 1", got)
	}
	if active, inactive := w.load(); active != 1 || inactive != 0 {
		t.Errorf("load: got %d active and %d inactive, want 1 and 0", active, inactive)
	}
}

func hasTOA(p *packet.Packet) bool {
	_, ok := toa.Decode(p.TCP().Options())
	return ok
}

func TestSpoofedSYNChangesNothing(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	w.pass(wan, packettest.TCP{
		Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC},
		Src:  client, Dst: vip, Flags: packet.SYN, Seq: 12345,
	}.Frame())
	if got := k.state(); got != conntrack.Established {
		t.Errorf("state: got %v, want %v", got, conntrack.Established)
	}
	if p := k.pass(wan, k.fromClient(packet.ACK, "", "x")); p.TCP().Seq() != k.seq+k.delta {
		t.Errorf("seq: got %d, want %d", p.TCP().Seq(), k.seq+k.delta)
	}
}

func TestReset(t *testing.T) {
	t.Run("of_the_client_at_the_next_number_closes", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		k.pass(wan, k.fromClient(packet.RST, "", ""))
		if got := k.state(); got != conntrack.Closed {
			t.Errorf("state: got %v, want %v", got, conntrack.Closed)
		}
	})
	t.Run("of_the_client_further_on_closes_unless_the_server_objects", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		k.seq += 1000
		k.pass(wan, k.fromClient(packet.RST, "", ""))
		k.seq -= 1000
		if got := k.state(); got != conntrack.Established {
			t.Errorf("state: got %v, want %v", got, conntrack.Established)
		}
		k.pass(lan, k.fromReal(packet.ACK, "", "")) // challenge ACK
		w.wait(10 * time.Second)
		if got := k.state(); got != conntrack.Established {
			t.Errorf("state after the challenge ACK: got %v, want %v", got, conntrack.Established)
		}
		k.seq += 1000
		k.pass(wan, k.fromClient(packet.RST, "", ""))
		w.wait(10 * time.Second)
		if got := k.state(); got != conntrack.None {
			t.Errorf("state without one: got %v, want none", got)
		}
	})
	t.Run("of_the_client_behind_changes_nothing", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		k.seq -= 1000
		k.pass(wan, k.fromClient(packet.RST, "", ""))
		w.wait(10 * time.Second)
		if got := k.state(); got != conntrack.Established {
			t.Errorf("state: got %v, want %v", got, conntrack.Established)
		}
	})
	t.Run("of_the_server_closes", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		k.pass(lan, k.fromReal(packet.RST|packet.ACK, "", ""))
		if got := k.state(); got != conntrack.Closed {
			t.Errorf("state: got %v, want %v", got, conntrack.Closed)
		}
	})
}

func TestIdleExpiryResetsBothEnds(t *testing.T) {
	w := newWorld(t, tcpService)
	k := w.connect(client)
	k.pass(wan, k.fromClient(packet.ACK|packet.PSH, "", dataPayload))
	k.seq += uint32(len(dataPayload))
	k.pass(lan, k.fromReal(packet.ACK|packet.PSH, "", "answer"))
	k.realSeq += uint32(len("answer"))

	sent := w.wait(89 * time.Second)
	if len(sent[wan])+len(sent[lan]) != 0 {
		t.Fatalf("before the timeout: got %v, want nothing", sent)
	}
	sent = w.wait(2 * time.Second)
	if len(sent[wan]) != 1 || len(sent[lan]) != 1 {
		t.Fatalf("got %d and %d frames, want a RST to each end", len(sent[wan]), len(sent[lan]))
	}
	toClient, toReal := packettest.NewFrame(sent[wan][0]).Parse(t), packettest.NewFrame(sent[lan][0]).Parse(t)
	if toClient.Flags != packet.RST || toClient.Flow.Source() != vip || toClient.Flow.Destination() != client {
		t.Errorf("to the client: got %v %v > %v", toClient.Flags, toClient.Flow.Source(), toClient.Flow.Destination())
	}
	if got := toClient.TCP().Seq(); got != k.realSeq {
		t.Errorf("seq to the client: got %d, want %d", got, k.realSeq)
	}
	if toReal.Flags != packet.RST || toReal.Flow.Source() != k.local || toReal.Flow.Destination() != k.real {
		t.Errorf("to the server: got %v %v > %v", toReal.Flags, toReal.Flow.Source(), toReal.Flow.Destination())
	}
	if got := toReal.TCP().Seq(); got != k.seq+k.delta {
		t.Errorf("seq to the server: got %d, want %d", got, k.seq+k.delta)
	}
	if active, inactive := w.load(); active != 0 || inactive != 0 {
		t.Errorf("load: got %d active and %d inactive, want none", active, inactive)
	}
}
