package dataplane

import (
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// tooBig is what a router at from reports about the packet p, which it cannot send
// on: that no more than mtu bytes pass.
func tooBig(from packet.Addr, p *packet.Packet, mtu uint16) packettest.Frame {
	m := packettest.ICMP{Src: from, Dst: p.Flow.Src, Type: packet.ICMPUnreachable, Code: 4, Seq: mtu, Body: quote(p)}
	if !from.Is4() {
		m.Type, m.Code = packet.ICMPv6TooBig, 0
	}
	return m.Frame()
}

// quote is what an error repeats of p.
func quote(p *packet.Packet) []byte {
	return append([]byte{}, p.Buf[p.L3:min(p.End, p.L3+500)]...)
}

// routers are some on either side.
func (f *families) routers() (wanSide, lanSide packet.Addr) {
	of := func(a packet.Addr, v4, v6 string) packet.Addr {
		if a.Is4() {
			return packettest.Addr(v4)
		}
		return packettest.Addr(v6)
	}
	return of(f.client.Addr, "203.0.113.1", "2001:db8:ff::1"), of(f.real.Addr, "203.0.113.2", "2001:db8:ff::2")
}

func (f *families) connected(t *testing.T) (*world, *talk) {
	t.Helper()
	w := newWorld(t, f.service("tcp", "toa", ""))
	w.vip = f.vip
	k, _ := w.syn(f.client, clientISN)
	k.synAck()
	k.pass(wan, k.fromClient(packet.ACK, "", ""))
	return w, k
}

// mtu returns the MTU that p reports.
func mtu(p *packet.Packet) int {
	b := p.ICMP()
	return int(b[6])<<8 | int(b[7])
}

func TestErrorsArePassedOn(t *testing.T) {
	for _, f := range allFamilies {
		wanRouter, lanRouter := f.routers()
		t.Run(f.name+"/about_a_clients_segment", func(t *testing.T) {
			w, k := f.connected(t)
			data := k.pass(wan, k.fromClient(packet.ACK, "", string(make([]byte, 1200))))
			got := w.pass(lan, tooBig(lanRouter, data, 1400))
			if got.Flow.Src != f.vip.Addr || got.Flow.Dst != f.client.Addr || !got.IsError() {
				t.Errorf("error: got %v > %v, want one from %v to %v", got.Flow.Src, got.Flow.Dst, f.vip.Addr, f.client.Addr)
			}
			q, _ := got.Quoted()
			if q.Source() != f.client || q.Destination() != f.vip {
				t.Errorf("quote: got %v > %v, want %v > %v", q.Source(), q.Destination(), f.client, f.vip)
			}
			if seq, _ := got.QuotedSeq(); seq != k.seq {
				t.Errorf("quoted seq: got %d, want the client's own %d", seq, k.seq)
			}
			want := 1400 - f.option - f.growth()
			if mtu(got) != want {
				t.Errorf("MTU: got %d, want %d", mtu(got), want)
			}
		})
		t.Run(f.name+"/about_a_servers_segment", func(t *testing.T) {
			w, k := f.connected(t)
			data := k.pass(lan, k.fromReal(packet.ACK, "", string(make([]byte, 1200))))
			got := w.pass(wan, tooBig(wanRouter, data, 1400))
			if got.Flow.Src != f.lip || got.Flow.Dst != f.real.Addr || !got.IsError() {
				t.Errorf("error: got %v > %v, want one from %v to %v", got.Flow.Src, got.Flow.Dst, f.lip, f.real.Addr)
			}
			q, _ := got.Quoted()
			if q.Source() != f.real || q.Destination() != k.local {
				t.Errorf("quote: got %v > %v, want %v > %v", q.Source(), q.Destination(), f.real, k.local)
			}
			if want := 1400 + f.growth(); mtu(got) != want {
				t.Errorf("MTU: got %d, want %d", mtu(got), want)
			}
		})
	}
}

// growth is by how many bytes a packet grows on its way to the server.
func (f *families) growth() int {
	switch {
	case f.client.Addr.Is4() == f.real.Addr.Is4():
		return 0
	case f.client.Addr.Is4():
		return 20
	}
	return -20
}

func TestErrorsOfItsOwn(t *testing.T) {
	for _, f := range allFamilies {
		t.Run(f.name+"/too_big", func(t *testing.T) {
			w, k := f.connected(t)
			w.put(wan, k.fromClient(packet.ACK, "", string(make([]byte, 1600))).Bytes())
			sent := w.run()
			if len(sent[wan]) != 1 || len(sent[lan]) != 0 {
				t.Fatalf("got %d and %d frames, want an error to the client (drops: %v)", len(sent[wan]), len(sent[lan]), w.drops())
			}
			got := packettest.NewFrame(sent[wan][0]).Parse(t)
			if got.Flow.Src != f.vip.Addr || got.Flow.Dst != f.client.Addr || mtu(got) != 1500-f.growth() {
				t.Errorf("got MTU %d from %v to %v, want %d from %v to %v",
					mtu(got), got.Flow.Src, got.Flow.Dst, 1500-f.growth(), f.vip.Addr, f.client.Addr)
			}
			if e := got.Ethernet(); e.Dst() != clientMAC || e.Src() != wanMAC {
				t.Errorf("MACs: got %x from %x, want %x from %x", e.Dst(), e.Src(), clientMAC, wanMAC)
			}
		})
		t.Run(f.name+"/time_exceeded", func(t *testing.T) {
			w, k := f.connected(t)
			last := packettest.TCP{
				Link: packettest.Link{TTL: 1, SrcMAC: clientMAC}, Src: k.client, Dst: k.virtual, Flags: packet.ACK, Seq: k.seq, Ack: k.ack,
			}
			w.put(wan, last.Frame().Bytes())
			sent := w.run()
			if len(sent[wan]) != 1 {
				t.Fatalf("got %d frames, want an error to the client", len(sent[wan]))
			}
			got := packettest.NewFrame(sent[wan][0]).Parse(t)
			if kind := got.ICMP().Type(); !got.IsError() || kind != packet.ICMPTimeExceeded && kind != packet.ICMPv6TimeExceeded {
				t.Errorf("got type %d, want time exceeded", kind)
			}
		})
	}
}

func TestErrorsThatAreNotBelieved(t *testing.T) {
	f := allFamilies[0]
	wanRouter, lanRouter := f.routers()
	t.Run("quoting_a_number_not_under_way", func(t *testing.T) {
		w, k := f.connected(t)
		data := k.pass(wan, k.fromClient(packet.ACK, "", "x"))
		forged := packettest.TCP{Src: k.local, Dst: k.real, Flags: packet.ACK, Seq: data.TCP().Seq() + 1<<30}.Frame().Parse(t)
		w.refuse(lan, tooBig(lanRouter, forged, 600).Bytes(), packet.StaleQuote)
		forged = packettest.TCP{Src: f.vip, Dst: f.client, Flags: packet.ACK, Seq: k.realSeq + 1<<30}.Frame().Parse(t)
		w.refuse(wan, tooBig(wanRouter, forged, 600).Bytes(), packet.StaleQuote)
	})
	t.Run("quoting_nobodys_connection", func(t *testing.T) {
		w, k := f.connected(t)
		other := packettest.TCP{Src: k.local, Dst: packettest.Endpoint("198.19.0.102:1"), Flags: packet.ACK}.Frame().Parse(t)
		w.refuse(lan, tooBig(lanRouter, other, 600).Bytes(), packet.NoConn)
	})
	t.Run("too_many_at_a_time", func(t *testing.T) {
		w, k := f.connected(t)
		data := k.pass(wan, k.fromClient(packet.ACK, "", "x"))
		passed := 0
		for range 3 * errorBurst {
			w.put(lan, tooBig(lanRouter, data, 1400).Bytes())
			passed += len(w.run()[wan])
		}
		if passed != errorBurst {
			t.Errorf("got %d, want %d", passed, errorBurst)
		}
		w.wait(time.Second)
		w.pass(lan, tooBig(lanRouter, data, 1400))
	})
}

// TestErrorAboutASYN has a router say that a server cannot be reached: the client
// is to learn of it at once.
func TestErrorAboutASYN(t *testing.T) {
	w := newWorld(t, tcpService)
	_, syn := w.syn(client, clientISN)
	m := packettest.ICMP{Src: real0.Addr, Dst: syn.Flow.Src, Type: packet.ICMPUnreachable, Code: packet.ICMPHostUnreachable, Body: quote(syn)}
	p := w.pass(lan, m.Frame())
	if p.Flow.Src != vip.Addr || p.Flow.Dst != client.Addr {
		t.Errorf("got %v > %v, want %v > %v", p.Flow.Src, p.Flow.Dst, vip.Addr, client.Addr)
	}
	q, ok := p.Quoted()
	if seq, _ := p.QuotedSeq(); !ok || q.Source() != client || q.Destination() != vip || seq != clientISN {
		t.Errorf("quote: got %v > %v, seq %d, want %v > %v, seq %d", q.Source(), q.Destination(), seq, client, vip, uint32(clientISN))
	}
}
