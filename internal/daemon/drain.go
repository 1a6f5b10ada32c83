package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// Real servers are drained when they have left the configuration, and when an
// operator says so. They get no new connections from then on; when the time is
// over, both ends of those they still have are reset.

// A drain is one real server, as one service uses it, that is drained.
type drain struct {
	service string    // its name, when the drain began
	home    string    // interface of the VIP
	due     time.Time // when its connections are to be reset; zero: they have been
	ordered bool      // by an operator: until he ends it. Otherwise it has left the configuration
}

// drains are all real servers that are drained. The Daemon's mu guards them.
type drains struct {
	by   map[lb.Subject]*drain
	wake chan struct{} // holds one after a change
}

func newDrains() drains {
	return drains{by: map[lb.Subject]*drain{}, wake: make(chan struct{}, 1)}
}

// clone returns a copy that may be changed; of each drain only finish changes.
func (d drains) clone() drains {
	d.by = maps.Clone(d.by)
	return d
}

// changed has drainDue look again.
func (d *drains) changed() {
	select {
	case d.wake <- struct{}{}:
	default: // it will
	}
}

// applyTo returns cfg with weight 0 for the servers that an operator drains, or
// cfg itself if there are none.
func (d *drains) applyTo(cfg *config.Config) *config.Config {
	out := *cfg
	out.Services = slices.Clone(cfg.Services)
	some := false
	for i := range out.Services {
		s := &out.Services[i]
		for j := range s.Servers {
			if o := d.by[subjectOf(s, &s.Servers[j])]; o == nil || !o.ordered || s.Servers[j].Weight == 0 {
				continue
			}
			s.Servers = slices.Clone(s.Servers)
			s.Servers[j].Weight, some = 0, true
		}
	}
	if !some {
		return cfg
	}
	return &out
}

// subjectOf returns by what a table knows real server r of service s.
func subjectOf(s *config.Service, r *config.RealServer) lb.Subject {
	proto := uint8(packet.ProtoTCP)
	if s.Protocol == config.UDP {
		proto = packet.ProtoUDP
	}
	return lb.Subject{Proto: proto, Virtual: packet.EndpointFrom(s.Address), Real: packet.EndpointFrom(r.Address)}
}

// followed returns d with the drains of the servers that old had and next has
// not, and without those of servers that are back.
func (d drains) followed(old, next *lb.Table) drains {
	d = d.clone()
	now := time.Now()
	stays := map[lb.Subject]bool{}
	for _, s := range next.Services {
		if old.Service(s.Proto, s.Virtual) == s {
			continue
		}
		for _, server := range s.Servers {
			id := server.Subject()
			stays[id] = true
			if o := d.by[id]; o != nil && !o.ordered {
				delete(d.by, id)
			}
		}
	}
	for _, s := range old.Services {
		if next.Service(s.Proto, s.Virtual) == s {
			continue
		}
		for _, server := range s.Servers {
			id := server.Subject()
			switch o := d.by[id]; {
			case stays[id]:
			case o != nil: // ordered before: its time goes on
				left := *o
				left.ordered = false
				d.by[id] = &left
			default:
				d.by[id] = &drain{service: s.Name, home: s.Interface, due: now.Add(s.Drain)}
			}
		}
	}
	return d
}

// due returns the servers whose time is over, and how long it is until the next
// one's is.
func (d *drains) due(now time.Time) (due []lb.Subject, wait time.Duration) {
	wait = time.Hour // to look at nothing once an hour costs nothing
	for id, o := range d.by {
		switch left := o.due.Sub(now); {
		case o.due.IsZero():
		case left <= 0:
			due = append(due, id)
		default:
			wait = min(wait, left)
		}
	}
	return due, wait
}

// finish notes that the connections of a server have been reset. One that has
// left the configuration is forgotten.
func (d *drains) finish(id lb.Subject) {
	o := d.by[id]
	if o.due = (time.Time{}); !o.ordered {
		delete(d.by, id)
	}
}

// drainDue resets what is due, until ctx ends.
func (d *Daemon) drainDue(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.drains.wake:
		case <-time.After(d.resetDue(ctx)):
		}
	}
}

// resetDue resets the connections of all servers whose time is over, and returns
// how long it is until there are more. It holds d.mu meanwhile, so that no reload
// brings such a server back.
func (d *Daemon) resetDue(ctx context.Context) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	due, wait := d.drains.due(time.Now())
	if len(due) == 0 {
		return wait
	}
	var servers []conntrack.Binding
	for _, id := range due {
		servers = append(servers, binding(id))
	}
	n, err := d.engine.Close(ctx, servers, dataplane.CloseAll)
	if err != nil { // fnatd stops
		return wait
	}
	for _, id := range due {
		d.log.Info("drained", "service", d.drains.by[id].service, "real_server", id.Real)
		d.drains.finish(id)
	}
	if err := d.openGates(d.engine.View().Table); err != nil { // those of services that have left are closed
		d.log.Error("drained services not taken down", "error", err)
	}
	d.log.Info("connections reset", "connections", n, "real_servers", len(due))
	return wait
}

func binding(id lb.Subject) conntrack.Binding {
	return conntrack.Binding{Proto: id.Proto, Virtual: id.Virtual, Real: id.Real}
}

// Drains implements ctl.Backend.
func (d *Daemon) Drains() []ctl.Drain {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drainAnswers(func(lb.Subject) bool { return true })
}

// drainAnswers describes the drains that are wanted.
func (d *Daemon) drainAnswers(wanted func(lb.Subject) bool) (all []ctl.Drain) {
	live := d.liveConnections()
	for id, o := range d.drains.by {
		if !wanted(id) {
			continue
		}
		a := ctl.Drain{
			Service: o.service, Virtual: id.Virtual.Netip(), Real: id.Real.Netip(),
			Removed: !o.ordered, Connections: live[id],
		}
		if !o.due.IsZero() {
			a.ResetSeconds = max(time.Until(o.due).Seconds(), 0)
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b ctl.Drain) int {
		if c := a.Virtual.Compare(b.Virtual); c != 0 {
			return c
		}
		return a.Real.Compare(b.Real)
	})
	return all
}

// Drain implements ctl.Backend.
func (d *Daemon) Drain(ctx context.Context, o ctl.DrainOrder) ([]ctl.Drain, error) {
	matches, err := parseServer(o.Server)
	if err != nil {
		return nil, err
	}
	if o.Seconds != nil && !(*o.Seconds >= 0 && *o.Seconds <= config.MaxDuration.Seconds()) {
		return nil, fmt.Errorf("time of %v seconds: want 0 to %v", *o.Seconds, config.MaxDuration)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.drains
	d.drains = before.clone()
	concerned := map[lb.Subject]bool{}
	for i := range d.cfg.Services {
		s := &d.cfg.Services[i]
		if o.Service != "" && o.Service != s.Name {
			continue
		}
		for j := range s.Servers {
			if r := &s.Servers[j]; matches(r.Address) {
				id := subjectOf(s, r)
				concerned[id] = true
				d.drains.order(id, s, &o)
			}
		}
	}
	if len(concerned) == 0 {
		d.drains = before
		return nil, errNoServer(o)
	}
	if _, err := d.put(d.cfg); err != nil {
		d.drains = before
		return nil, err
	}
	d.log.Info("drain", "by", ctl.PeerOf(ctx), "server", o.Server, "service", o.Service, "undo", o.Undo, "real_servers", len(concerned))
	return d.drainAnswers(func(id lb.Subject) bool { return concerned[id] }), nil
}

// order begins the drain of a server of service s, or ends it.
func (d *drains) order(id lb.Subject, s *config.Service, o *ctl.DrainOrder) {
	if o.Undo {
		delete(d.by, id)
		return
	}
	after := s.Drain
	if o.Seconds != nil {
		after = time.Duration(*o.Seconds * float64(time.Second))
	}
	d.by[id] = &drain{service: s.Name, home: s.Interface, due: time.Now().Add(after), ordered: true}
}

// parseServer reads the server of a DrainOrder and returns what it matches.
func parseServer(s string) (matches func(netip.AddrPort) bool, err error) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return func(real netip.AddrPort) bool { return real == at }, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return func(real netip.AddrPort) bool { return real.Addr() == addr }, nil
	}
	return nil, fmt.Errorf("server %q: not an address, with or without a port (want it as 10.0.2.11:8080 or 10.0.2.11)", s)
}

func errNoServer(o ctl.DrainOrder) error {
	if o.Service != "" {
		return fmt.Errorf("service %q has no real server %s", o.Service, o.Server)
	}
	return errors.New("no service has a real server " + o.Server)
}
