package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/internal/ctl"
)

// Rates are smoothed like those of IPVS, so that who knows its figures can go by
// ours: every two seconds a quarter of what is new.
const (
	tallyPeriod = 2 * time.Second
	tallyShare  = 0.25
)

// A tally watches the meter of a service or of a real server.
type tally struct {
	zero ctl.Traffic // what the meter showed when its counters were last set to zero
	last ctl.Traffic // and when the rates were last taken
	rate [5]float64  // per second, in the order of ctl.Rates
}

// tallies are those of all meters. The zero tallies know none.
type tallies struct {
	mu sync.Mutex
	by map[*dataplane.Meter]*tally
}

// watchRates takes the rates until ctx ends.
func (d *Daemon) watchRates(ctx context.Context) {
	ticks := time.NewTicker(tallyPeriod)
	defer ticks.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			d.tallies.take(d.engine.View(), now.Sub(last))
			last = now
		}
	}
}

// take takes the rates of every meter of v, and forgets those of meters that have
// left. passed is the time since it was last called.
func (t *tallies) take(v *dataplane.View, passed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := make(map[*dataplane.Meter]*tally, len(t.by))
	eachMeter(v, func(m *dataplane.Meter) {
		next[m] = t.of(m)
		next[m].take(m, passed)
	})
	t.by = next
}

func (y *tally) take(m *dataplane.Meter, passed time.Duration) {
	now := readTraffic(m)
	since := now.Sub(y.last)
	y.last = now
	for i, n := range [...]uint64{since.Connections, since.InPackets, since.OutPackets, since.InBytes, since.OutBytes} {
		y.rate[i] += tallyShare * (float64(n)/passed.Seconds() - y.rate[i])
	}
}

// of returns the tally of m. The caller holds t.mu.
func (t *tallies) of(m *dataplane.Meter) *tally {
	if known := t.by[m]; known != nil {
		return known
	}
	if t.by == nil {
		t.by = map[*dataplane.Meter]*tally{}
	}
	t.by[m] = new(tally)
	return t.by[m]
}

// show returns what m has counted since its counters were last set to zero, and
// its rates. now is what it shows.
func (t *tallies) show(m *dataplane.Meter, now ctl.Traffic) (sinceZero ctl.Traffic, rates ctl.Rates) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.by[m]
	if known == nil {
		return now, ctl.Rates{}
	}
	r := &known.rate
	return now.Sub(known.zero), ctl.Rates{
		Connections: uint64(r[0] + 0.5),
		InPackets:   uint64(r[1] + 0.5), OutPackets: uint64(r[2] + 0.5),
		InBytes: uint64(r[3] + 0.5), OutBytes: uint64(r[4] + 0.5),
	}
}

// begin has m go on where another process ended: what it counted is no rate, and zero is
// what it showed when its counters were last set to zero.
func (t *tallies) begin(m *dataplane.Meter, zero ctl.Traffic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.of(m)
	known.zero, known.last = zero, readTraffic(m)
}

// zeroOf returns what m showed when its counters were last set to zero.
func (t *tallies) zeroOf(m *dataplane.Meter) ctl.Traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.by[m]; known != nil {
		return known.zero
	}
	return ctl.Traffic{}
}

// setZero sets the counters behind a meter to zero, for those who want that.
func (t *tallies) setZero(m *dataplane.Meter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(m).zero = readTraffic(m)
}

// zero carries out a ctl.Zero.
func (d *Daemon) zero(e *ctl.Edit) error {
	v := d.engine.View()
	found := !e.Virtual.IsValid()
	for _, s := range v.Services {
		if e.Virtual.IsValid() && (s.Virtual.Netip() != e.Virtual || protocol(s.Proto) != e.Protocol) {
			continue
		}
		found = true
		d.tallies.setZero(s.Meter)
		for _, server := range s.Servers {
			d.tallies.setZero(v.ServerMeter(s, server))
		}
	}
	if !found {
		return refuse(ctl.NoService, "service %s %s: no such service", e.Protocol, e.Virtual)
	}
	return nil
}

func eachMeter(v *dataplane.View, f func(*dataplane.Meter)) {
	for _, s := range v.Services {
		f(s.Meter)
		for _, server := range s.Servers {
			f(v.ServerMeter(s, server))
		}
	}
}

func readTraffic(m *dataplane.Meter) ctl.Traffic {
	t := m.Read()
	return traffic(&t)
}
