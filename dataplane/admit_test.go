package dataplane

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

const twoServers = tcpService + "[[service.real_server]]\naddress = \"198.19.0.102:8080\"\n"

func at(port uint16) packet.Endpoint { return packet.Endpoint{Addr: client.Addr, Port: port} }

func TestMaxConnections(t *testing.T) {
	w := newWorld(t, tcpService, maxConnections(10))
	established := w.connect(at(1))
	for i := range uint16(30) {
		w.syn(at(100+i), 1)
		w.wait(200 * time.Millisecond)
	}
	if got := w.conns.Stats().Connections; got != 10 {
		t.Errorf("connections: got %d, want 10", got)
	}
	if got := established.state(); got != conntrack.Established {
		t.Errorf("the established one: got %v, want it untouched", got)
	}
	youngest, oldest := talk{world: w, client: at(129), virtual: vip}, talk{world: w, client: at(100), virtual: vip}
	if youngest.state() != conntrack.SynReceived || oldest.state() != conntrack.None {
		t.Errorf("half-open: youngest %v, oldest %v, want the oldest gone", youngest.state(), oldest.state())
	}
	if got := w.counts().Events[ConnEvicted]; got != 21 {
		t.Errorf("evicted: got %d, want 21", got)
	}
	if active, inactive := w.load(); active != 1 || inactive != 9 {
		t.Errorf("load: got %d active and %d inactive, want 1 and 9", active, inactive)
	}
}

func TestPersistence(t *testing.T) {
	services := strings.Replace(twoServers, `scheduler = "rr"`, "scheduler = \"rr\"\npersistence = \"60s\"", 1)
	chosen := func(w *world, port uint16) packet.Endpoint {
		_, p := w.syn(at(port), 1)
		return p.Flow.Destination()
	}
	t.Run("keeps_a_client_on_one_server", func(t *testing.T) {
		w := newWorld(t, services)
		first := chosen(w, 1)
		for i := range uint16(5) {
			if got := chosen(w, 2+i); got != first {
				t.Errorf("connection %d: got %v, want %v", i+2, got, first)
			}
		}
		if got := w.conns.Stats().Templates; got != 1 {
			t.Errorf("templates: got %d, want 1", got)
		}
	})
	t.Run("ends_when_the_client_has_stayed_away", func(t *testing.T) {
		w := newWorld(t, services)
		first := chosen(w, 1)
		w.wait(50 * time.Second)
		if got := chosen(w, 2); got != first {
			t.Errorf("after 50 s: got %v, want %v", got, first)
		}
		w.wait(61 * time.Second)
		if got := w.conns.Stats().Templates; got != 0 {
			t.Errorf("templates: got %d, want none", got)
		}
	})
	t.Run("gives_way_to_weight_0", func(t *testing.T) {
		w := newWorld(t, services)
		first := chosen(w, 1)
		drained := strings.Replace(services, "address = \""+first.String()+"\"", "address = \""+first.String()+"\"\nweight = 0", 1)
		w.reload(drained)
		if got := chosen(w, 2); got == first {
			t.Errorf("got %v, which takes no new connections", got)
		}
	})
}

func TestReload(t *testing.T) {
	t.Run("removed_real_keeps_its_connections", func(t *testing.T) {
		w := newWorld(t, twoServers)
		k := w.connect(client)
		w.reload(strings.Replace(twoServers, "[[service.real_server]]\naddress = \""+k.real.String()+"\"\n", "", 1))
		if p := k.pass(wan, k.fromClient(packet.ACK, "", "x")); p.Flow.Destination() != k.real {
			t.Errorf("got %v, want %v", p.Flow.Destination(), k.real)
		}
		for i := range uint16(4) {
			if other, _ := w.syn(at(1+i), 1); other.real == k.real {
				t.Errorf("new connection %d went to the removed %v", i, k.real)
			}
		}
	})
	t.Run("traffic_is_counted_on", func(t *testing.T) {
		w := newWorld(t, tcpService)
		w.connect(client)
		before := w.traffic()
		w.reload(strings.Replace(tcpService, `name = "web"`, `name = "www"`, 1))
		if got := w.traffic(); got != before {
			t.Errorf("got %+v, want %+v", got, before)
		}
	})
	t.Run("removed_local_address_serves_its_connections_and_then_goes", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		w.pool = "198.19.0.11"
		w.reload(tcpService)
		if got := len(w.engine.Locals()); got != 3 {
			t.Errorf("LIPs: got %d, want the new one, the old one and the one that stays", got)
		}
		k.pass(lan, k.fromReal(packet.ACK, "", "still here"))
		if other, _ := w.syn(at(1), 1); other.local.Addr != packettest.Addr("198.19.0.11") {
			t.Errorf("new connection: got %v, want the new LIP", other.local)
		}
		if w.engine.Retire() {
			t.Error("the old LIP was retired with a connection on it")
		}
		k.pass(wan, k.fromClient(packet.RST, "", ""))
		w.wait(5 * time.Second)
		if !w.engine.Retire() || len(w.engine.Locals()) != 2 {
			t.Errorf("LIPs after the connection ended: got %v, want the new one and the one that stays", w.engine.Locals())
		}
	})
}

// TestNewestNeighbour has a neighbour become known after the worker began its round.
func TestNewestNeighbour(t *testing.T) {
	w := newWorld(t, tcpService)
	w.router.newer = w.router.table
	w.router.table = route.Static(w.router.newer.Generation(), []route.StaticPort{
		wan: {MAC: wanMAC, MTU: 1500, Networks: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24")}},
		lan: {MAC: lanMAC, MTU: 1500, Networks: []netip.Prefix{netip.MustParsePrefix("198.19.0.0/24")}},
	})
	syn := packettest.TCP{Link: packettest.Link{SrcMAC: clientMAC, DstMAC: wanMAC}, Src: client, Dst: vip, Flags: packet.SYN}
	if p := w.pass(wan, syn.Frame()); p.Flow.Destination() != real0 {
		t.Errorf("SYN went to %v, want %v", p.Flow.Destination(), real0)
	}
}

func TestNextHops(t *testing.T) {
	t.Run("follow_a_changed_neighbour", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		moved := [6]byte{2, 9, 9, 9, 9, 9}
		w.router.table = routes(1, moved)
		if p := k.pass(wan, k.fromClient(packet.ACK, "", "x")); p.Ethernet().Dst() != moved {
			t.Errorf("got %x, want %x", p.Ethernet().Dst(), moved)
		}
	})
	t.Run("follow_a_changed_route", func(t *testing.T) {
		w := newWorld(t, tcpService)
		k := w.connect(client)
		k.pass(wan, k.fromClient(packet.ACK, "", "x"))
		moved := [6]byte{2, 9, 9, 9, 9, 9}
		w.router.table = routes(2, moved)
		if p := k.pass(wan, k.fromClient(packet.ACK, "", "x")); p.Ethernet().Dst() != moved {
			t.Errorf("got %x, want %x", p.Ethernet().Dst(), moved)
		}
	})
	t.Run("of_an_unknown_client_is_where_its_packets_come_from", func(t *testing.T) {
		w := newWorld(t, tcpService)
		stranger := packettest.Endpoint("198.18.0.77:5000")
		k, _ := w.syn(stranger, 1)
		if p := k.synAck(); p.Ethernet().Dst() != clientMAC {
			t.Errorf("got %x, want %x", p.Ethernet().Dst(), clientMAC)
		}
		if len(w.router.wanted) == 0 {
			t.Error("the router was not asked to resolve the client")
		}
	})
	t.Run("reflects_the_client_if_told_so", func(t *testing.T) {
		w := newWorld(t, tcpService, reflectMAC)
		k, _ := w.syn(client, 1)
		other := [6]byte{2, 5, 5, 5, 5, 5}
		frame := k.fromClient(packet.SYN, "", "")
		copy(frame.Bytes()[6:], other[:])
		k.seq--
		w.pass(wan, frame)
		if p := k.synAck(); p.Ethernet().Dst() != other {
			t.Errorf("got %x, want %x, from where the last packet came", p.Ethernet().Dst(), other)
		}
	})
	t.Run("in_use_are_reported_once_a_second", func(t *testing.T) {
		w := newWorld(t, tcpService)
		w.connect(client)
		w.wait(1100 * time.Millisecond)
		seen := map[route.HopID]bool{}
		for _, id := range w.router.used {
			seen[id] = true
		}
		if len(seen) != 2 {
			t.Errorf("got %v, want the hops to the client and to the server", w.router.used)
		}
		w.router.used = nil
		w.wait(2 * time.Second)
		if len(w.router.used) != 0 {
			t.Errorf("without traffic: got %v, want none", w.router.used)
		}
	})
}
