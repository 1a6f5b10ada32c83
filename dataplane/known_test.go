package dataplane

import (
	"testing"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packettest"
)

// knownIn returns how many connections are counted.
func knownIn(counts []uint8) (n int) {
	for _, c := range counts {
		n += int(c)
	}
	return n
}

// All connections of a service that may answer by cookies are counted, from the moment
// on that they are made: by its first table, by a reload that has the mode of a service
// changed, and to a real server that comes by a reload.
func TestKnow(t *testing.T) {
	w := newWorld(t, tcpService)
	w.connect(packettest.Endpoint("198.18.0.2:40001"))
	counts := make([]uint8, w.conns.KnownPlaces())
	w.engine.Know(counts, make([]uint8, len(counts)/conntrack.KnownLine))
	want := func(knows bool, n int) {
		t.Helper()
		if got := w.engine.Knows(w.engine.View().Services[0]); got != knows {
			t.Errorf("all are counted: %t, want %t", got, knows)
		}
		if got := knownIn(counts); got != n {
			t.Errorf("%d connections are counted, want %d", got, n)
		}
		if err := w.conns.Check(); err != nil {
			t.Error(err)
		}
	}
	want(false, 0)
	w.reload(guarded(""))
	want(true, 1)
	for i, real := range []string{"", secondServer} {
		w.reload(guarded("") + real)
		for port := range 4 {
			from := packettest.Endpoint("198.18.0.2:41000")
			from.Port += uint16(10*i + port)
			w.joined(from, synOptions, synOptions)
		}
		want(true, 1+4*(i+1))
	}
	w.reload(tcpService) // they may still be asked for
	want(false, 9)
	w.connect(packettest.Endpoint("198.18.0.2:40002"))
	want(false, 10)
}
