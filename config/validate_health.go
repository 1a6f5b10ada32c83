package config

import (
	"slices"
)

// health checks what a service says of the health of its servers against the
// servers it has.
func (v *validator) health(s *Service) {
	f := &s.Failover
	checked := len(s.Checks) > 0 || slices.ContainsFunc(s.Servers, func(r RealServer) bool { return len(r.Checks) > 0 })
	if !checked && !s.bad["health"] {
		for _, key := range []string{"on_down", "down_connections", "damping", "notify_up", "notify_down"} {
			if s.has(key) {
				v.fail(&s.Where, s.label, key, nil, "has no effect without a check (add [service.health] or remove this)")
			}
		}
	}
	if s.Protocol == UDP && s.has("down_connections") {
		v.fail(&s.Where, s.label, "down_connections", string(f.DownConnections), "has no effect on a udp service, whose flows go to another server in any case (remove it)")
	}
	scripts := len(f.Scripts.NotifyUp)+len(f.Scripts.NotifyDown)+len(f.Scripts.QuorumUp)+len(f.Scripts.QuorumDown) > 0
	for i := range s.Servers {
		r := &s.Servers[i]
		if r.has("notify_up") || r.has("notify_down") {
			scripts = true
			if len(r.Checks) == 0 && !r.bad["health"] {
				v.fail(&r.Where, s.label+"real_server: ", noCheckKey(r), nil, "has no effect without a check (add [service.real_server.health] or remove this)")
			}
		}
		if f.Sorry.IsValid() && r.Address == f.Sorry {
			v.fail(&s.Where, s.label, "sorry_server", f.Sorry.String(), "a real server of the service, in line %d (choose another)", r.LineOf("address"))
		}
		v.checks(s, r)
	}
	for _, key := range []string{"script_timeout", "script_user", "omega"} {
		if s.has(key) && !scripts {
			v.fail(&s.Where, s.label, key, nil, "has no effect without a script (add notify_up, notify_down, quorum_up or quorum_down, or remove this)")
		}
	}
}

func noCheckKey(r *RealServer) string {
	if r.has("notify_up") {
		return "notify_up"
	}
	return "notify_down"
}

// checks makes sure that where a check comes from and where it goes to are of one
// family. Of a service's checks one server is told, not each.
func (v *validator) checks(s *Service, r *RealServer) {
	for i := range r.Checks {
		c := &r.Checks[i]
		to := c.Address
		if !to.IsValid() {
			to = r.Address.Addr()
		}
		if !c.Source.IsValid() || !to.IsValid() || c.Source.Is4() == to.Is4() {
			continue
		}
		v.fail(&c.Where, s.label+"health: ", "source", c.Source.String(), "cannot reach %s, which is of the other IP version (want an address of the same)", to)
		c.spoil("source")
	}
}
