package dataplane

import (
	"testing"
	"time"
)

// A worker in the middle of a batch has the view that it began with. Until it is done,
// no other worker may make a connection whose replies it could not understand.
func TestNewServersAreKnownBeforeTheyAreUsed(t *testing.T) {
	w := newWorld(t, tcpService, workers(2))
	old := w.engine.View()
	slow := w.sides[1].worker
	slow.seen.Store(old.generation)
	slow.running.Store(true)
	defer slow.running.Store(false)
	applied := make(chan error, 1)
	next := w.compile(tcpService+secondServer, old.Table)
	go func() { applied <- w.engine.Apply(next) }()

	for w.engine.View() == old {
		time.Sleep(time.Millisecond)
	}
	first := w.engine.View()
	if n := len(first.Services[0].Servers); n != 1 {
		t.Errorf("connections are made to %d servers while a worker does not know the second", n)
	}
	known := 0
	for _, target := range first.targets {
		if target != nil {
			known++
		}
	}
	if known != 2 {
		t.Errorf("%d targets are known, want both", known)
	}
	time.Sleep(10 * time.Millisecond)
	if w.engine.View() != first {
		t.Error("the new view did not wait for the slow worker")
	}
	slow.seen.Store(first.generation)
	for w.engine.View() == first {
		time.Sleep(time.Millisecond)
	}
	if n := len(w.engine.View().Services[0].Servers); n != 2 {
		t.Errorf("then there are %d servers, want 2", n)
	}
	slow.seen.Store(w.engine.View().generation)
	if err := <-applied; err != nil {
		t.Error(err)
	}
}
