package daemon

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/synproxy"
)

// guardTime is how often SYNPROXY is looked after: its keys change once a minute, and
// must be in place within the seconds that synproxy leaves for that.
const guardTime = 250 * time.Millisecond

// guards is SYNPROXY as the XDP program knows it. The daemon's mu guards it.
type guards struct {
	at   map[bpf.ServiceKey]bpf.Guard
	past map[bpf.ServiceKey]bpf.GuardCounts // of those that were taken off

	countsTried bool // whether countFlows has been through
}

// guard looks after SYNPROXY until ctx ends.
func (d *Daemon) guard(ctx context.Context) {
	ticks := time.NewTicker(guardTime)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			d.tendGuards(ctx, now)
		}
	}
}

// tendGuards brings SYNPROXY up to date in the workers and then in the XDP program.
func (d *Daemon) tendGuards(ctx context.Context, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil { // the gates are being closed
		return
	}
	for _, s := range d.engine.Tend(now, func(s *dataplane.Service) uint64 { return d.xdpCounts(s).Answered }) {
		what := "SYN cookies off: handshakes are finished again"
		if s.On {
			what = "SYN cookies on: too many handshakes are begun and not finished"
		}
		d.log.Warn(what, "service", s.Service.Name, "unfinished_per_second", s.Unfinished,
			"on_at", s.Service.SYNProxy.On, "off_below", s.Service.SYNProxy.Off)
	}
	d.countFlows(d.engine.View())
	if v := d.engine.View(); !maps.Equal(d.guards.at, d.wantedGuards(v)) {
		if err := d.setServices(v); err != nil {
			d.log.Error("SYN cookies: the XDP program goes on as before", "error", err)
			return
		}
	}
	if err := d.setCookieKeys(); err != nil {
		d.log.Error("SYN cookies: keys not renewed", "error", err)
	}
}

// countFlows has the connections of services that may answer by cookies counted from now
// on, if there are such services, for the XDP program to tell what is of none.
func (d *Daemon) countFlows(v *dataplane.View) {
	if d.guards.countsTried || !slices.ContainsFunc(v.Table.Services, (*lb.Service).Guarded) {
		return
	}
	d.guards.countsTried = true
	if err := d.program.RememberShed(); err != nil {
		d.log.Warn("SYN cookies: clients whose SYN is shed come again in vain", "error", err)
	}
	counts, lines, err := d.program.CountFlows(bpf.FlowHash{Key: d.conns.HashKey(), Shards: d.conns.Shards()}, d.conns.KnownPlaces())
	if err != nil {
		d.log.Warn("SYN cookies: bad ACKs are left to the workers", "error", err)
		return
	}
	d.engine.Know(counts, lines)
}

// setServices tells the XDP program the services of v, and how they are guarded now.
// The caller holds mu, or nobody else runs yet.
func (d *Daemon) setServices(v *dataplane.View) error {
	want := d.wantedGuards(v)
	services := make(map[bpf.ServiceKey]*bpf.Guard, len(v.Services))
	for _, s := range v.Services {
		key := serviceKey(s)
		services[key] = nil
		if g, guarded := want[key]; guarded {
			services[key] = &g
		}
	}
	for key := range d.lingering(v.Table) {
		services[key] = nil
	}
	for key := range d.guards.at { // whose counters end with it
		if services[key] == nil {
			d.keepCounts(key)
		}
	}
	if err := d.program.SetServices(services); err != nil {
		return err
	}
	d.guards.at = want
	return d.setCookieKeys()
}

func serviceKey(s *dataplane.Service) bpf.ServiceKey {
	return bpf.ServiceKey{Proto: s.Proto, Virtual: s.Virtual}
}

// wantedGuards returns the guards of the services of v whose SYNs are answered by
// cookies now.
func (d *Daemon) wantedGuards(v *dataplane.View) map[bpf.ServiceKey]bpf.Guard {
	want := map[bpf.ServiceKey]bpf.Guard{}
	for _, s := range v.Services {
		if s.Guard != nil && s.Guard.On() {
			want[serviceKey(s)] = bpf.Guard{
				Offers: [2]synproxy.Offer{s.Guard.Offer(0), s.Guard.Offer(1)},
				Answer: d.answersInXDP(s), Limit: uint16(s.SYNProxy.SourceRate),
				Known: d.engine.Knows(s) && !s.SYNProxy.ResetBadACKs, // or it would be answered
			}
		}
	}
	return want
}

// answersInXDP reports whether the XDP program answers the SYNs of s.
func (d *Daemon) answersInXDP(s *dataplane.Service) bool {
	switch s.SYNProxy.Answer {
	case lb.XDP:
		return true
	case lb.Userspace:
		return false
	}
	for _, p := range d.ports {
		if !p.sends {
			return false
		}
	}
	return true
}

// setCookieKeys gives the XDP program the workers' keys and clock: its own counts from
// another moment.
func (d *Daemon) setCookieKeys() error {
	keys := d.engine.CookieKeys()
	return d.program.SetCookieKeys(&keys, d.engine.CookieClock()-d.epochTicks)
}

// monotonicTicks returns what the kernel's monotonic clock, as the XDP program reads it,
// showed so long ago, in ticks of SYN-ACKs' timestamps.
func monotonicTicks(ago time.Duration) uint32 {
	return uint32((bpf.Monotonic() - ago) >> synproxy.ClockShift)
}

// xdpCounts returns what the XDP program did for s since the start. The caller holds mu.
func (d *Daemon) xdpCounts(s *dataplane.Service) bpf.GuardCounts {
	key := serviceKey(s)
	sum := d.guards.past[key]
	if _, there := d.guards.at[key]; there {
		d.addCounts(&sum, key)
	}
	return sum
}

// keepCounts remembers the counters of a guard that is taken off.
func (d *Daemon) keepCounts(key bpf.ServiceKey) {
	sum := d.guards.past[key]
	d.addCounts(&sum, key)
	d.guards.past[key] = sum
}

func (d *Daemon) addCounts(sum *bpf.GuardCounts, key bpf.ServiceKey) {
	n, err := d.program.GuardCounts(key)
	if err != nil {
		d.log.Warn("counters of SYN cookies", "error", err)
	}
	sum.SYNs += n.SYNs
	sum.Answered += n.Answered
	sum.Limited += n.Limited
	sum.Shed += n.Shed
	sum.BadACKs += n.BadACKs
}

// guardAnswers describes SYNPROXY of every TCP service.
func (d *Daemon) guardAnswers() (all []ctl.Guard) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parity := d.engine.CookieKeys().Current
	for _, s := range d.engine.View().Services {
		if s.Guard == nil {
			continue
		}
		g := ctl.Guard{
			Service: s.Name, Mode: s.SYNProxy.Mode.String(), On: s.Guard.On(),
			Answer: lb.Userspace.String(), BadACKs: lb.Userspace.String(),
			Offer: offerAnswer(s.Guard.Offer(parity)),
		}
		if d.answersInXDP(s) {
			g.Answer = lb.XDP.String()
		}
		if d.guards.at[serviceKey(s)].Known {
			g.BadACKs = lb.XDP.String()
		}
		counts, xdp := s.Guard.Counts(), d.xdpCounts(s)
		counts[dataplane.GuardSYN] += xdp.Answered + xdp.Limited + xdp.Shed // which no worker has seen
		counts[dataplane.GuardCookie] += xdp.Answered
		counts[dataplane.GuardBad] += xdp.BadACKs
		for e, n := range counts {
			g.Events = append(g.Events, ctl.Event{Name: dataplane.GuardEvent(e).String(), Count: n})
		}
		g.Events = append(g.Events,
			ctl.Event{Name: "answered_in_xdp", Count: xdp.Answered},
			ctl.Event{Name: "over_source_rate", Count: xdp.Limited},
			ctl.Event{Name: "shed", Count: xdp.Shed},
			ctl.Event{Name: "bad_ack_in_xdp", Count: xdp.BadACKs})
		all = append(all, g)
	}
	return all
}

func offerAnswer(o synproxy.Offer) ctl.Offer {
	a := ctl.Offer{MSS: o.MSS, Window: o.Window, WindowScale: int(o.Scale), SACK: o.SACK, Timestamps: o.Timestamps}
	if o.Scale == synproxy.NoScale {
		a.WindowScale = -1
	}
	return a
}
