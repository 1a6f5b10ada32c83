package dataplane

import "time"

// Silence returns for each worker how long ago it began its last round, to the
// millisecond, and 0 for one that is at rest. A worker with nothing to do begins a
// round every 50 ms: one that is silent for much longer hangs, or gets no core.
func (e *Engine) Silence() []time.Duration {
	all := make([]time.Duration, len(e.Workers()))
	for i, w := range e.Workers() {
		if w.running.Load() {
			since := int32(e.Now() - w.round.Load())
			all[i] = time.Duration(max(since, 0)) * time.Millisecond
		}
	}
	return all
}
