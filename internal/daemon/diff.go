package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// Diff implements ctl.Backend.
func (d *Daemon) Diff(_ context.Context, name string, toml []byte) (ctl.Diff, error) {
	var cfg *config.Config
	var err error
	if toml == nil {
		name = d.opts.ConfigFile
		cfg, _, err = readConfig(name, nil)
	} else if cfg, err = config.Parse(name, toml); err != nil {
		err = fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	if err != nil {
		return ctl.Diff{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, changes, err := d.plan(cfg)
	if err != nil {
		return ctl.Diff{}, err
	}
	live := d.liveConnections()
	drains := map[lb.Subject]time.Duration{}
	for _, s := range d.engine.View().Table.Services {
		drains[s.Subject()] = s.Drain
	}
	answer := ctl.Diff{ConfigFile: name}
	for _, c := range changes {
		change := ctl.Change{What: c.String(), Connections: live[c.Subject]}
		if c.Op == lb.Removed && c.Subject.Pool == "" && change.Connections > 0 {
			change.Effect = fate(drains[c.Subject.Service()])
		}
		answer.Changes = append(answer.Changes, change)
	}
	return answer, nil
}

// fate says what becomes of the connections of a real server that is removed from
// a service with this drain.
func fate(drain time.Duration) string {
	if drain == 0 {
		return "reset at once"
	}
	return fmt.Sprintf("go on for %v, then reset", drain)
}

// liveConnections counts the connections that there are by what they hang on:
// real server, service, and local pool.
func (d *Daemon) liveConnections() map[lb.Subject]int {
	bindings, locals := map[conntrack.BindingID]int{}, map[conntrack.LocalID]int{}
	d.eachConn(func(c *conntrack.Conn) bool {
		bindings[c.Binding()]++
		locals[c.Local]++
		return true
	})
	live := map[lb.Subject]int{}
	for id, n := range bindings {
		b := d.conns.Binding(id)
		server := lb.Subject{Proto: b.Proto, Virtual: b.Virtual, Real: b.Real}
		live[server] += n
		live[server.Service()] += n
	}
	pools := map[packet.Addr]string{}
	for _, p := range d.engine.View().Table.Pools {
		for _, a := range p.Addrs {
			pools[a] = p.Name
		}
	}
	for id, n := range locals {
		if name, known := pools[d.conns.Local(id).Addr]; known {
			live[lb.Subject{Pool: name}] += n
		}
	}
	return live
}
