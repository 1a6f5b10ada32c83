package health

import (
	"fmt"

	"github.com/fnatd/fnatd/internal/packet"
)

// A service is a Service at work. The Monitor's lock guards it.
type service struct {
	m       *Monitor
	spec    Service
	servers []*server
	quorum  bool
	weight  int  // sum of those that are up
	ready   bool // all servers are there
}

// newService puts spec to work. was is what the same service was before a reload,
// or nil; what was known of its servers stays known. How something new begins is
// no transition, and not reported.
func newService(m *Monitor, spec Service, was *service) *service {
	s := &service{m: m, spec: spec}
	before := map[packet.Endpoint]*server{}
	if was != nil {
		for _, old := range was.servers {
			before[old.spec.Real] = old
		}
	}
	for _, r := range spec.Servers {
		s.servers = append(s.servers, newServer(s, r, before[r.Real]))
		delete(before, r.Real)
	}
	for _, gone := range before {
		gone.stop()
	}
	if was == nil {
		s.weight = s.sum()
		s.quorum, s.ready = s.weight >= spec.Quorum, true
		return s
	}
	for _, r := range s.servers { // now that the sum of all can be told
		r.update()
	}
	s.quorum, s.ready = was.quorum, true
	s.count()
	return s
}

// newServer puts spec to work. was is what the same server was before, or nil.
// Checks that have not changed go on, others take over what those in the same
// place had found out.
func newServer(s *service, spec Server, was *server) *server {
	r := &server{spec: spec, service: s, up: true, weight: spec.Weight}
	if was == nil {
		for _, c := range spec.Checks {
			r.checks = append(r.checks, newCheck(r, c, !c.Alpha))
		}
		if c := r.failing(); c != nil {
			r.up, r.reason = false, c.reason()
		}
		r.remember()
		return r
	}
	was.stopHold()
	r.up, r.since, r.reason, r.flaps, r.held = was.up, was.since, was.reason, was.flaps, was.held
	for i, c := range spec.Checks {
		if i >= len(was.checks) {
			r.checks = append(r.checks, newCheck(r, c, was.up))
			continue
		}
		old := was.checks[i]
		if old.Key == c.Key {
			old.server = r
			r.checks = append(r.checks, old)
			continue
		}
		old.stop()
		n := newCheck(r, c, was.up)
		n.adopt(old)
		r.checks = append(r.checks, n)
	}
	for _, old := range was.checks[min(len(spec.Checks), len(was.checks)):] {
		old.stop()
	}
	return r
}

// sum returns the weight of the servers that are up.
func (s *service) sum() (n int) {
	for _, r := range s.servers {
		if r.up {
			n += r.weight
		}
	}
	return n
}

// count looks whether the quorum is gained or lost.
func (s *service) count() {
	s.weight = s.sum()
	switch {
	case !s.ready:
		return
	case !s.quorum && s.weight >= s.spec.Quorum+s.spec.Hysteresis:
		s.quorum = true
	case s.quorum && s.weight < s.spec.Quorum-s.spec.Hysteresis:
		s.quorum = false
	default:
		return
	}
	s.reportQuorum()
}

func (s *service) reportQuorum() {
	c := Change{Service: s.spec.ID, Name: s.spec.Name, Up: s.quorum, Turned: true}
	if !s.quorum {
		c.Reason = fmt.Sprintf("weight %d is left, quorum is %d", s.weight, s.spec.Quorum)
	}
	s.m.report(c)
}

func (s *service) stop() {
	for _, r := range s.servers {
		r.stop()
	}
}

func (s *service) status() ServiceStatus {
	st := ServiceStatus{ID: s.spec.ID, Quorum: s.quorum, Weight: s.weight}
	for _, r := range s.servers {
		st.Servers = append(st.Servers, r.status())
	}
	return st
}
