package daemon

import (
	"context"
	"time"

	"github.com/fnatd/fnatd/lb/health"
)

// signPeriod is how often the traffic is looked through for signs that a server
// is down. Our choice: a client sends its SYN again after a second, and to look
// at 10,000 servers takes a millisecond.
const signPeriod = 200 * time.Millisecond

// A seen is how many signs there were of a server.
type seen map[verdictKey]uint64

// watch has servers checked at once of which the traffic says that they are down,
// until ctx ends.
func (d *Daemon) watch(ctx context.Context) {
	ticks := time.NewTicker(signPeriod)
	defer ticks.Stop()
	before := seen{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			before = d.hasten(before)
		}
	}
}

// hasten has the servers checked that have more signs than before, and returns
// how many each has.
func (d *Daemon) hasten(before seen) seen {
	now := make(seen, len(before))
	v := d.engine.View()
	for _, s := range v.Services {
		id := health.ID{Proto: s.Proto, Virtual: s.Virtual}
		for _, server := range s.Servers {
			if len(server.Checks) == 0 {
				continue
			}
			key := verdictKey{id, server.Real}
			t := v.ServerMeter(s, server).Read()
			now[key] = t.Refused + t.Unanswered
			if n, known := before[key]; known && now[key] > n {
				d.ward.monitor.Hasten(id, server.Real)
			}
		}
	}
	return now
}
