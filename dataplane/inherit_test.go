package dataplane

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packettest"
)

// Two flows are there, of which one was answered: the engine of a process that goes on
// with them counts both, and one whose services are others lets go of them.
func TestInherit(t *testing.T) {
	w := newWorld(t, udpService)
	w.ask(client)
	_, datagram := w.ask(packettest.Endpoint("198.18.0.2:40001"))
	w.pass(lan, packettest.UDP{
		Link: packettest.Link{SrcMAC: realMAC, DstMAC: lanMAC},
		Src:  real0, Dst: datagram.Flow.Source(), Payload: []byte("!"),
	}.Frame())
	heir := func(services string) *Engine {
		cfg := w.engine.cfg
		cfg.Queues = []Queue{w.newSide(&side{})}
		e, err := New(cfg, w.compile(services, nil))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}

	e := heir(tcpService + udpService)
	e.Inherit()
	if n := e.Strangers(); n != 0 {
		t.Errorf("%d strangers, want none", n)
	}
	for _, s := range e.View().Table.Services {
		load := s.Servers[0].Load
		got := [2]int32{load.Active.Load(), load.Inactive.Load()}
		if want := map[string][2]int32{"dns": {1, 1}}[s.Name]; got != want {
			t.Errorf("service %s: %v active and inactive, want %v", s.Name, got, want)
		}
	}
	other := heir(tcpService)
	other.Inherit()
	if n, left := other.Strangers(), w.conns.Stats().Connections; n != 2 || left != 0 {
		t.Errorf("other services: %d strangers and %d left, want both flows gone", n, left)
	}
	if err := w.conns.Check(); err != nil {
		t.Error(err)
	}
}
