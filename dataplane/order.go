package dataplane

import (
	"sync"
	"sync/atomic"

	"github.com/fnatd/fnatd/dataplane/xsk"
)

// An inbox takes rare orders to a worker, which carries them out between two
// batches. The zero inbox belongs to a worker at rest.
type inbox struct {
	mu      sync.Mutex // of those who order
	running bool
	order   atomic.Pointer[func()]
	done    chan struct{}
}

// ask has the worker run f and waits until it has. For a worker at rest f runs
// at once: nobody else is at its things then.
func (b *inbox) ask(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.running {
		f()
		return
	}
	b.done = make(chan struct{})
	b.order.Store(&f)
	<-b.done
}

// serve carries out an order, if there is one. The worker calls it.
func (b *inbox) serve() {
	if f := b.order.Load(); f != nil {
		b.order.Store(nil)
		(*f)()
		close(b.done)
	}
}

// open begins, and shut ends, the time in which the worker serves the inbox.
func (b *inbox) open() {
	b.mu.Lock()
	b.running = true
	b.mu.Unlock()
}

func (b *inbox) shut() {
	for !b.mu.TryLock() { // somebody waits for an answer
		b.serve()
	}
	b.running = false
	b.mu.Unlock()
}

// Census counts the worker's frames, between two batches. Any goroutine may
// call it, though of a worker at rest not while its sockets are opened or closed.
func (w *Worker) Census() (c xsk.Census) {
	w.inbox.ask(func() { c = w.umem.Census() })
	return c
}
