package health

import (
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// A Memory is what is known of a server, for a process that goes on where another one
// has ended.
type Memory struct {
	Up       bool      `json:",omitzero"`
	Since    time.Time `json:",omitzero"`
	Reason   string    `json:",omitzero"` // why it is down
	Weight   int       `json:",omitzero"` // in force while it is up
	Weighted bool      `json:",omitzero"` // Weight is a check's
	Flaps    int       `json:",omitzero"`
	Held     time.Time `json:",omitzero"` // until when it stays down

	Sessions []bfd.Memory `json:",omitempty"` // of its checks, that are up
}

// Recall has servers that Set brings in begin with what recall returns for them, unless
// that is nil. It is for before the first Set.
func (m *Monitor) Recall(recall func(ID, packet.Endpoint) *Memory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recall = recall
}

// Memory returns what is known of a server; ok is false if it is not checked.
func (m *Monitor) Memory(id ID, real packet.Endpoint) (_ Memory, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.server(id, real)
	if r == nil || len(r.checks) == 0 {
		return Memory{}, false
	}
	known := Memory{
		Up: r.up, Since: r.since, Reason: r.reason, Weight: r.weight, Weighted: r.weighted, Flaps: r.flaps, Held: r.held,
	}
	for _, c := range r.checks {
		if c.session == nil {
			continue
		}
		if s, up := c.session.Memory(); up {
			known.Sessions = append(known.Sessions, s)
		}
	}
	return known, true
}

// recalled returns what is known of a session of s's, or nil.
func (s *server) recalled(k bfd.Key) *bfd.Memory {
	m := s.monitor()
	if m.recall == nil {
		return nil
	}
	was := m.recall(s.service.spec.ID, s.spec.Real)
	if was == nil {
		return nil
	}
	for i := range was.Sessions {
		if was.Sessions[i].Key == k {
			return &was.Sessions[i]
		}
	}
	return nil
}

// remember makes s, which is new, what is known of it. All its checks then agree with
// that, and take as many results as ever to change it.
func (s *server) remember() {
	m := s.monitor()
	if m.recall == nil || len(s.checks) == 0 {
		return
	}
	was := m.recall(s.service.spec.ID, s.spec.Real)
	if was == nil {
		return
	}
	s.up, s.since, s.reason, s.flaps, s.held = was.Up, was.Since, was.Reason, was.Flaps, was.Held
	s.weight, s.weighted = s.spec.Weight, false
	if was.Weighted {
		s.weight, s.weighted = was.Weight, true
	}
	for _, c := range s.checks {
		c.passing, c.fresh = was.Up, false
		c.last.Error = strings.TrimPrefix(was.Reason, c.name()+": ")
		if was.Weighted {
			c.result.Weight, c.result.Weighted = was.Weight, true
		}
	}
}
