package dataplane

import (
	"slices"
	"testing"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// A tallyPort notes how many frames go in each Send that has some, and how many are left
// to be received by then.
type tallyPort struct {
	*fakePort
	waiting *fakePort
	sends   []int
	left    []int
}

func (p *tallyPort) Send(d []xsk.Desc) int {
	p.sends, p.left = append(p.sends, len(d)), append(p.left, len(p.waiting.received))
	return p.fakePort.Send(d)
}

// What waits is sent in a few large pieces, as a system call for each batch costs more, and
// an interface has its turn before all that waits at another is done.
func TestBurst(t *testing.T) {
	w := newWorld(t, udpService)
	notice, _ := w.ask(client)
	w.acknowledge(notice)
	out := &tallyPort{fakePort: w.ports[lan], waiting: w.ports[wan]}
	w.worker.ports = [][]Port{{w.ports[wan]}, {out}}

	const waiting, most = 400, 256 // as many as the kernel sends by one call, see xsk's txBudget
	for range waiting {
		w.put(wan, query(client, "?").Bytes())
	}
	w.put(lan, make([]byte, 60)) // to be dropped
	w.worker.poll(w.clock)
	if got := len(w.ports[lan].received); got != 0 {
		t.Errorf("%d frames wait at the other port after a round", got)
	}
	w.worker.poll(w.clock)
	w.worker.poll(w.clock)
	if want := []int{most, waiting - most}; !slices.Equal(out.sends, want) {
		t.Errorf("sent in pieces of %d, want %d", out.sends, want)
	}
	if want := []int{waiting - most, 0}; !slices.Equal(out.left, want) {
		t.Errorf("when it was sent %d frames waited, want %d", out.left, want)
	}
	if got := w.worker.Counts().Drops[packet.TxFull]; got != 0 {
		t.Errorf("%d frames found no room", got)
	}
}
