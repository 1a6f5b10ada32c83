package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/realserver"
)

// TestFnatrsHoldsInAFlood sends more notices than there is room for.
func TestFnatrsHoldsInAFlood(t *testing.T) {
	const room, flood = 1024, 20_000
	r := newRealServer(t)
	r.attach("--trust", trustLIPs, "--max-mappings", fmt.Sprint(room))
	at := r.rip(0, portRecvfrom)
	r.startRecvfrom(at)
	w := r.lanEnd()
	used := make([]netip.AddrPort, 100)
	check := func(when string) {
		t.Helper()
		for i, local := range used {
			want := netip.AddrPortFrom(forged.Addr(), uint16(1000+i))
			if got := w.tell(local, at); got != want.String() {
				t.Fatalf("%s: %v: got %s, want %s", when, local, got, want)
			}
		}
	}
	for i := range used {
		used[i] = lip(2000 + i)
		w.notice(notice{local: used[i], client: netip.AddrPortFrom(forged.Addr(), uint16(1000+i))})
	}
	r.eventually("the notices have come", func() bool { return r.count(realserver.Noticed) == uint64(len(used)) })
	check("before")
	for i := range flood {
		w.notice(notice{local: lip(10000 + i), client: netip.AddrPortFrom(forged.Addr(), uint16(1+i))})
	}
	r.eventually("most of the flood has come", func() bool { return r.count(realserver.Noticed) > flood/2 })
	s, err := r.rs.Status()
	if err != nil || s.Mappings.Noticed > room || s.Mappings.Used != len(used) {
		t.Errorf("mappings: got %+v, %v, want at most %d noticed and %d used", s.Mappings, err, room, len(used))
	}
	check("in the flood")

	// Flows that are used push each other out, but not who is connected.
	const port = 9006
	connected := r.rip(0, port)
	r.serve("", r.listening("udp", connected), r.cServers(), "connect", connected.Addr().String(), fmt.Sprint(port))
	w.notice(notice{local: lip(1999), real: port})
	for range 2 {
		if got := w.tell(lip(1999), connected); got != forged.String() {
			t.Errorf("connected: got %s, want %s", got, forged)
		}
	}
	// What the server was too slow to receive has pushed nobody out: more is sent until
	// enough was received.
	sent := 0
	r.eventually("the connected client has been pushed out", func() bool {
		for range room {
			from := lip(20000 + sent%40000)
			sent++
			w.notice(notice{local: from})
			w.put(packettest.UDP{Link: w.link, Src: packet.EndpointFrom(from), Dst: packet.EndpointFrom(at)}.Frame())
		}
		out, err := r.host.Run(t.Context(), bin+"/fnatrs", "mappings", "--socket", r.rs.Socket())
		return err == nil && !strings.Contains(out, lip(1999).String()+" ")
	})
	if got := w.tell(lip(1999), connected); got != forged.String() {
		t.Errorf("connected, in a flood of used flows: got %s, want %s", got, forged)
	}
	r.detach()
}

// TestFnatrsForgets waits until what no socket holds has expired.
func TestFnatrsForgets(t *testing.T) {
	r := newRealServer(t)
	r.attach("--trust", trustLIPs, "--udp-timeout", "1s", "--tcp-timeout", "1s")
	at := r.rip(0, portRecvfrom)
	r.startRecvfrom(at)
	r.asks()
	w := r.lanEnd()
	w.notice(notice{local: lip(40000)})
	w.notice(notice{local: lip(40001)})
	if got := w.tell(lip(40000), at); got != forged.String() {
		t.Errorf("at once: got %s, want %s", got, forged)
	}
	w.notice(notice{local: lip(40002), proto: packet.ProtoTCP, real: portAsks})
	r.eventually("all have expired", func() bool {
		s, err := r.rs.Status()
		return err == nil && s.Mappings.Used+s.Mappings.Noticed+s.Mappings.Handshakes == 0 && r.count(realserver.Noticed) == 3
	})
	for _, local := range []netip.AddrPort{lip(40000), lip(40001)} {
		if got := w.tell(local, at); got != local.String() {
			t.Errorf("later: got %s, want %s", got, local)
		}
	}
	checkAsked(t, "a notice that has expired", w.connect(lip(40002), nil, false), netip.AddrPort{}, lip(40002))
	r.detach()
}
