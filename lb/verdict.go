package lb

import (
	"fmt"
	"slices"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
)

// A Verdict is what health checks say of a server. The zero Verdict is that of a
// server which is well.
type Verdict struct {
	Down     bool
	Weighted bool // CheckWeight takes the place of the configured weight
	// CheckWeight is the weight that a check gives the server.
	CheckWeight int
}

// Judge returns a Table like t but for the verdicts on its servers and, for each
// service, whether it lacks a quorum. It returns t itself if they are what they
// were. Services to which nothing changed are t's.
func (t *Table) Judge(verdict func(*Server) Verdict, noQuorum func(*Service) bool) (*Table, error) {
	next := &Table{Pools: t.Pools, retired: t.retired}
	next.Services = slices.Clone(t.Services)
	changed := false
	for i, s := range t.Services {
		judged, err := s.judge(verdict, noQuorum(s))
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", s.Name, err)
		}
		next.Services[i] = judged
		changed = changed || judged != s
	}
	if !changed {
		return t, nil
	}
	next.index = newIndex(next.Services)
	return next, nil
}

// judge returns s with other verdicts: a copy, or s itself if nothing changes.
func (s *Service) judge(verdict func(*Server) Verdict, noQuorum bool) (*Service, error) {
	same := noQuorum == s.NoQuorum
	for _, server := range s.Servers {
		same = same && (server.Sorry || verdict(server) == server.Verdict)
	}
	if same {
		return s, nil
	}
	next := *s
	next.Servers, next.NoQuorum = nil, noQuorum
	for _, server := range s.Servers {
		judged := *server
		judged.Service = &next
		if !judged.Sorry {
			judged.Verdict = verdict(server)
		}
		next.Servers = append(next.Servers, &judged)
	}
	return &next, next.schedule(s)
}

// inherit gives the servers of s the verdicts that they had, as a reload does not
// change how they are. Of a new one nothing is known, which is bad only if a
// check says so.
func (s *Service) inherit(was *Service) {
	before := map[packet.Endpoint]Verdict{}
	if was != nil {
		s.NoQuorum = was.NoQuorum
		for _, server := range was.Servers {
			if !server.Sorry {
				before[server.Real] = server.Verdict
			}
		}
	}
	for _, server := range s.Servers {
		v, known := before[server.Real]
		switch {
		case server.Sorry || len(server.Checks) == 0: // nobody judges it
		case known:
			server.Verdict = v
		default:
			server.Down = slices.ContainsFunc(server.Checks, func(c Check) bool { return c.Alpha })
		}
	}
}

// candidates returns the servers that the scheduler is to know, and gives each
// server of s the weight that is in force. Without a quorum that is the sorry
// server alone, if there is one.
func (s *Service) candidates() (all []*Server) {
	sorry := s.NoQuorum && s.Failover.Sorry.IsValid()
	for _, server := range s.Servers {
		server.Weight = server.inForce(sorry)
		if server.Sorry == sorry && !server.Removed() {
			all = append(all, server)
		}
	}
	return all
}

// Removed reports whether s is down and not of its service meanwhile.
func (s *Server) Removed() bool { return s.Down && s.Service.Failover.OnDown != config.Inhibit }

// inForce returns the weight of s, where sorry says whether sorry servers serve.
func (s *Server) inForce(sorry bool) int {
	switch {
	case s.Sorry != sorry || s.Down:
		return 0
	case s.Sorry:
		return 1
	case s.Configured == 0: // drained, which no check takes back
		return 0
	case s.Weighted:
		return s.CheckWeight
	}
	return s.Configured
}
