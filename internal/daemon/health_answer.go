package daemon

import (
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/lb/health"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// Health implements ctl.Backend.
func (d *Daemon) Health() (all []ctl.ServiceHealth) {
	table := d.engine.View().Table
	for _, st := range d.ward.monitor.Services() {
		s := table.Service(st.Proto, st.Virtual)
		if s == nil {
			continue
		}
		answer := ctl.ServiceHealth{
			Name: s.Name, Protocol: protocol(s.Proto), Virtual: s.Virtual.Netip(),
			Quorum: s.Failover.Quorum, Hysteresis: s.Failover.Hysteresis,
			Weight: st.Weight, HasQuorum: st.Quorum, Sorry: s.Failover.Sorry,
		}
		for i := range st.Servers {
			answer.Servers = append(answer.Servers, serverHealth(&st.Servers[i], time.Now()))
		}
		all = append(all, answer)
	}
	return all
}

func serverHealth(st *health.Status, now time.Time) ctl.ServerHealth {
	r := ctl.ServerHealth{
		Real: st.Real.Netip(), State: healthState(len(st.Checks) > 0, st.Up), Reason: st.Reason,
		Since: st.Since, Weight: st.Weight, Flaps: st.Flaps, Checks: []ctl.CheckHealth{},
	}
	if st.Held.After(now) {
		r.HeldSeconds = st.Held.Sub(now).Seconds()
	}
	for _, c := range st.Checks {
		r.Checks = append(r.Checks, ctl.CheckHealth{
			Name: c.Name, Passing: c.Passing, Streak: c.Streak,
			At: c.At, TookSeconds: c.Took.Seconds(), Error: c.Error, Passed: c.Passed, Failed: c.Failed, BFD: bfdHealth(c.BFD),
		})
	}
	return r
}

func bfdHealth(st *bfd.Status) *ctl.BFD {
	if st == nil {
		return nil
	}
	return &ctl.BFD{
		Neighbor: st.Neighbor, State: st.State.String(), RemoteState: st.RemoteState.String(), Since: st.Since,
		Diagnostic: st.Diag.String(), RemoteDiagnostic: st.RemoteDiag.String(), Discriminator: st.Local, RemoteDiscriminator: st.Remote,
		IntervalSeconds: st.Interval.Seconds(), DetectionSeconds: st.Detection.Seconds(), Downs: st.Downs,
	}
}

func healthState(checked, up bool) string {
	switch {
	case !checked:
		return ctl.HealthUnchecked
	case up:
		return ctl.HealthUp
	}
	return ctl.HealthDown
}

// healthOf returns the state of a server as the packet path has it.
func healthOf(s *lb.Server) string { return healthState(len(s.Checks) > 0, !s.Down) }

// downReason returns why a server is down, or "".
func (d *Daemon) downReason(s *lb.Server) string {
	if !s.Down {
		return ""
	}
	return d.ward.monitor.Reason(healthID(s.Service), s.Real)
}
