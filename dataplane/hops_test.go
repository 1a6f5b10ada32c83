package dataplane

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
)

// What is remembered of the way to a real server goes when routes change, and when its
// binding becomes another's.
func TestHopToReal(t *testing.T) {
	w := newWorld(t, tcpService)
	other := [6]byte{2, 0, 0, 0, 2, 102}
	table := func(generation uint16, mac [6]byte) *route.Table {
		all := routesTo(mac)
		all[lan].Neighbours[netip.MustParseAddr("198.19.0.102")] = other
		return route.Static(generation, all)
	}
	w.router.table = table(2, realMAC)
	port := uint16(40000)
	to := func() [6]byte { // where a new connection's SYN goes
		port++
		_, p := w.syn(packet.Endpoint{Addr: client.Addr, Port: port}, clientISN)
		return p.Ethernet().Dst()
	}
	if got := to(); got != realMAC {
		t.Errorf("at first: got %x, want %x", got, realMAC)
	}
	moved := [6]byte{2, 0, 0, 0, 2, 201}
	w.router.table = table(3, moved)
	if got := to(); got != moved {
		t.Errorf("in another table: got %x, want %x", got, moved)
	}
	w.reload("")
	w.wait(40 * time.Second) // until its connections are gone
	w.reload(strings.ReplaceAll(tcpService, "198.19.0.101", "198.19.0.102"))
	if id := w.engine.View().Services[0].bindings[0]; id != 1 {
		t.Fatalf("the binding is %d, and not the first one's", id)
	}
	if got := to(); got != other {
		t.Errorf("after a reload: got %x, want %x", got, other)
	}
}

// What is found of a batch's clients goes when a newer table comes within the batch.
func TestHopToClientOfAnotherTable(t *testing.T) {
	w := newWorld(t, tcpService)
	w.syn(client, clientISN)
	o, f := &w.worker.openings, packet.Flow{Src: client.Addr}
	right := w.worker.hops.Lookup(f.Src)
	if got := w.worker.clientHop(0, &f); got != right || right == 0 {
		t.Errorf("got hop %d, want %d", got, right)
	}
	o.toClients[0] = right + 1
	if got := w.worker.clientHop(0, &f); got != right+1 {
		t.Errorf("got hop %d, want what was found", got)
	}
	w.worker.hops = route.Static(2, routesTo(realMAC))
	if got := w.worker.clientHop(0, &f); got != right {
		t.Errorf("in another table: got hop %d, want %d", got, right)
	}
}
