package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
)

// What the daemon asks to explain the way of a flow. Workers do not need it.

// Home returns by which of so many workers c's client came last. Of more than
// eight, it is one of those whose number differs by eight.
func Home(c *conntrack.Conn, workers int) []int {
	var all []int
	for w := int(c.Flags&homeMask) >> homeShift; w < workers; w += homeMask>>homeShift + 1 {
		all = append(all, w)
	}
	return all
}

// ArrivesBy returns the worker that a packet of flow f comes to by an interface;
// ok is false if that is not known.
func (e *Engine) ArrivesBy(port int, f *packet.Flow) (worker int, ok bool) {
	if len(e.Workers()) == 1 {
		return 0, true
	}
	spreads := *e.spreads.Load()
	if port >= len(spreads) || spreads[port] == nil || !spreads[port].ports[flowType(f.Proto, f.Src)] {
		return 0, false
	}
	s := spreads[port]
	return s.worker(s.hash.flow(f.Source(), f.Dst) ^ s.hash.port(f.Src.Is4(), f.DstPort)), true
}
