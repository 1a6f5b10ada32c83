package health

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// A Source says by which of the host's own addresses a check goes to dst, and which
// ports of that are not the kernel's. The zero values leave all to the kernel.
type Source func(dst netip.Addr) (src netip.Addr, taken PortRange)

// A PortRange is an inclusive range of ports; the zero value is any.
type PortRange struct{ Min, Max uint16 }

// A Monitor checks the servers of services. Its methods are for any goroutine.
type Monitor struct {
	source  Source
	speaker *bfd.Speaker
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{} // closed when the last changes are told

	mu       sync.Mutex
	services map[ID]*service
	order    []*service // as configured
	changes  []Change   // not told yet
	recall   func(ID, packet.Endpoint) *Memory
	news     chan struct{}
}

// NewMonitor returns a Monitor of no service. It calls tell with transitions, in
// the order in which they came about: in one goroutine, so that those that come
// meanwhile are told together next. source may be nil. The Monitor closes speaker, with
// which it speaks BFD.
func NewMonitor(source Source, speaker *bfd.Speaker, tell func([]Change)) *Monitor {
	m := &Monitor{source: source, speaker: speaker, services: map[ID]*service{}, done: make(chan struct{}), news: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	go m.tell(tell)
	return m
}

func (m *Monitor) tell(tell func([]Change)) {
	defer close(m.done)
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.news:
		}
		m.mu.Lock()
		changes := m.changes
		m.changes = nil
		m.mu.Unlock()
		tell(changes)
	}
}

// report notes a transition, to be told as soon as may be.
func (m *Monitor) report(c Change) {
	m.changes = append(m.changes, c)
	select {
	case m.news <- struct{}{}:
	default: // the last news are not told yet, these go with them
	}
}

// Set has these services checked, and no others. What they share with those that
// were checked until now goes on: the state of servers, the counts of checks,
// and for checks that are the same also their times. Each then tells how they are:
// only what changes later, or for those that were checked already, is a transition.
func (m *Monitor) Set(services []Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.services
	m.services, m.order = make(map[ID]*service, len(services)), nil
	for _, spec := range services {
		s := before[spec.ID]
		if s == nil || !s.spec.sameAs(&spec) {
			s = newService(m, spec, s)
		}
		delete(before, spec.ID)
		m.services[spec.ID] = s
		m.order = append(m.order, s)
	}
	for _, gone := range before {
		gone.stop()
	}
	m.speaker.Sweep()
}

// Hasten has the checks of a server made at once, or as soon as their intervals
// allow, since something speaks against it.
func (m *Monitor) Hasten(id ID, real packet.Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.server(id, real); r != nil {
		for _, c := range r.checks {
			c.hasten()
		}
	}
}

// Services returns what is known, in the order of the services given to Set.
func (m *Monitor) Services() []ServiceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]ServiceStatus, 0, len(m.order))
	for _, s := range m.order {
		all = append(all, s.status())
	}
	return all
}

// A State is what counts of a server.
type State struct {
	Up       bool
	Weight   int  // in force while it is up
	Weighted bool // Weight is a check's, not the configured one
	Since    time.Time
}

func (s *server) state() State { return State{s.up, s.weight, s.weighted, s.since} }

// A Look asks a Monitor that stands still; see Monitor.Look.
type Look struct{ m *Monitor }

// Look calls f with what is known at one moment. f must not call the Monitor.
func (m *Monitor) Look(f func(Look)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(Look{m})
}

// Quorum reports whether a service has a quorum; ok is false if it is not known.
func (l Look) Quorum(id ID) (quorum, ok bool) {
	if s := l.m.services[id]; s != nil {
		return s.quorum, true
	}
	return false, false
}

// State returns what is known of a server, which is most likely number i of its
// service; ok is false if it is not checked.
func (l Look) State(id ID, i int, real packet.Endpoint) (st State, ok bool) {
	if s := l.m.services[id]; s != nil && i < len(s.servers) && s.servers[i].spec.Real == real {
		return s.servers[i].state(), true
	}
	if r := l.m.server(id, real); r != nil {
		return r.state(), true
	}
	return State{}, false
}

// State returns what is known of a server; ok is false if it is not checked.
func (m *Monitor) State(id ID, real packet.Endpoint) (st State, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.server(id, real); r != nil {
		return r.state(), true
	}
	return State{}, false
}

// Reason returns why a server is down, or "".
func (m *Monitor) Reason(id ID, real packet.Endpoint) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.server(id, real); r != nil {
		return r.reason
	}
	return ""
}

// server returns a server, or nil.
func (m *Monitor) server(id ID, real packet.Endpoint) *server {
	s := m.services[id]
	if s == nil {
		return nil
	}
	for _, r := range s.servers {
		if r.spec.Real == real {
			return r
		}
	}
	return nil
}

// Close ends all checks; those under way are broken off, and neighbors are told that
// BFD ends. It returns when nothing more is told.
func (m *Monitor) Close() {
	m.mu.Lock()
	for _, s := range m.order {
		s.stop()
	}
	m.mu.Unlock()
	m.speaker.Close()
	m.cancel()
	<-m.done
}
