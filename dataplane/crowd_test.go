package dataplane

import (
	"sync/atomic"
	"testing"
	"time"
)

// A counter is a port that counts how often it is asked.
type counter struct {
	Port
	asked int
}

func (c *counter) Refill() {
	c.asked++
	c.Port.Refill()
}

// While the control path computes, a worker without packets waits at once.
func TestCrowdedWorkerDoesNotSpin(t *testing.T) {
	w := newWorld(t, tcpService)
	worker := w.sides[0].worker
	c := &counter{Port: worker.ports[0][0]}
	worker.ports[0][0] = c
	var stop atomic.Bool
	worker.wait = func(time.Duration) { stop.Store(true) }
	w.engine.Crowd(true)
	worker.Run(&stop)
	if c.asked != 1 {
		t.Errorf("it looked for packets %d times before it waited, want once", c.asked)
	}
}
