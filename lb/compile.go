package lb

import (
	"fmt"
	"slices"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/sched"
)

// Compile makes the Table of c, which must be valid. prev is the Table in use,
// or nil: servers that it has too keep their Load and services their scheduler's
// state, so that a reload neither forgets a connection nor starts round robin
// anew. Services that stay as they are and where they are it takes over as a whole. Compile changes neither c nor prev, and nobody sees the new Table before
// the caller puts it to use.
func Compile(c *config.Config, prev *Table) (*Table, error) {
	if prev == nil {
		prev = &Table{}
	}
	t := &Table{}
	pools := make(map[string]*Pool)
	for i := range c.Pools {
		p := prev.keptPool(newPool(&c.Pools[i]))
		t.Pools = append(t.Pools, p)
		pools[p.Name] = p
	}
	checks := checksOf{}
	for i := range c.Services {
		from := &c.Services[i]
		pool := pools[from.Pool]
		was := prev.Service(protocols[from.Protocol], packet.EndpointFrom(from.Address))
		if was != nil && was.Index == i && was.Pool == pool && was.from.SameAs(from) {
			t.Services = append(t.Services, was)
			continue
		}
		s := newService(from, i, pool)
		loads := prev.loads(s, was)
		for j := range from.Servers {
			server := newServer(s, j, &from.Servers[j], loads)
			server.Checks = checks.of(from.Servers[j].Checks)
			s.Servers = append(s.Servers, server)
		}
		if sorry := from.Failover.Sorry; sorry.IsValid() {
			server := newServer(s, len(s.Servers), &config.RealServer{Address: sorry}, loads)
			server.Sorry = true
			s.Servers = append(s.Servers, server)
		}
		s.inherit(was)
		s.fitMSS()
		if err := s.schedule(was); err != nil {
			return nil, fmt.Errorf("service %q: %w", s.Name, err)
		}
		t.Services = append(t.Services, s)
	}
	t.index = newIndex(t.Services)
	t.retired = retire(prev, t)
	return t, nil
}

// keptPool returns t's own pool if it is like p, or p.
func (t *Table) keptPool(p *Pool) *Pool {
	for _, own := range t.Pools {
		if own.Name == p.Name && own.Interface == p.Interface && own.PortMin == p.PortMin && own.PortMax == p.PortMax && slices.Equal(own.Addrs, p.Addrs) {
			return own
		}
	}
	return p
}

func newPool(from *config.LocalPool) *Pool {
	p := &Pool{
		Name:      from.Name,
		Interface: from.Interface,
		PortMin:   from.Ports.First,
		PortMax:   from.Ports.Last,
	}
	for _, lip := range from.Addresses {
		p.Addrs = append(p.Addrs, packet.AddrFromNetip(lip))
	}
	return p
}

func newService(from *config.Service, index int, pool *Pool) *Service {
	s := &Service{
		from:            *from,
		Name:            from.Name,
		Index:           index,
		Proto:           protocols[from.Protocol],
		Virtual:         packet.EndpointFrom(from.Address),
		Interface:       from.Interface,
		Pool:            pool,
		ClientAddress:   clientAddresses[from.ClientAddress],
		Drain:           from.Drain,
		Timeouts:        Timeouts(from.Timeouts),
		Persistence:     from.Persistence,
		PersistenceMask: persistenceMask(from),
		Scheduler:       from.Scheduler,
		StripTimestamps: from.Timestamps == config.Strip,
		HashPort:        from.SHPort || from.MHPort,
		Fallback:        from.SHFallback || from.MHFallback,
		Failover:        from.Failover,
	}
	if s.Proto == packet.ProtoTCP {
		s.SYNProxy = newSYNProxy(&from.SYNProxy)
	}
	switch s.ClientAddress {
	case TOA:
		s.Option = packet.TOA(from.TOAKind6)
		s.OptionOnSYN = from.TOAOnSYN
	case TTM:
		s.Option = packet.AddressOption{
			Kind4: from.TTMKind, Kind6: from.TTMKind, TTM: true, TTMLength: from.TTMLength,
		}
	case ICMPEcho:
		s.NoticeLength = from.NoticeLength
	}
	return s
}

var protocols = map[config.Protocol]uint8{
	config.TCP: packet.ProtoTCP,
	config.UDP: packet.ProtoUDP,
}

var clientAddresses = map[config.ClientAddress]ClientAddress{
	config.NoAddress: NoAddress,
	config.TOA:       TOA,
	config.TTM:       TTM,
	config.ICMPEcho:  ICMPEcho,
}

// persistenceMask returns the granularity as a mask over a packet.Addr, in which
// the bits of an IPv4 address come last.
func persistenceMask(from *config.Service) (mask packet.Addr) {
	ones := from.PersistenceGranularity
	switch {
	case ones == 0:
		ones = 128
	case from.Address.Addr().Is4():
		ones += 96
	}
	for i := range mask {
		mask[i] = ^byte(0xff >> min(ones, 8))
		ones -= min(ones, 8)
	}
	return mask
}

// newServer takes the Load of the same server out of loads, or a new one.
func newServer(s *Service, index int, from *config.RealServer, loads func(real packet.Endpoint) *sched.Load) *Server {
	real := packet.EndpointFrom(from.Address)
	load := loads(real)
	if load == nil {
		load = new(sched.Load)
	}
	return &Server{
		Service: s,
		Index:   index,
		Real:    real,
		Weight:  from.Weight,
		Upper:   from.UpperThreshold,
		Lower:   from.LowerThreshold,
		Load:    load,

		Configured: from.Weight,
		NotifyUp:   from.NotifyUp,
		NotifyDown: from.NotifyDown,
	}
}

// schedule makes s's scheduler. was is the service in the previous Table, if it
// had one.
func (s *Service) schedule(was *Service) (err error) {
	spec := sched.Spec{Name: s.Scheduler, Virtual: s.Virtual.Addr, Port: s.HashPort, Fallback: s.Fallback}
	s.eligible = s.candidates()
	spec.Servers = make([]sched.Server, 0, len(s.eligible))
	for _, server := range s.eligible {
		spec.Servers = append(spec.Servers, sched.Server{
			Addr: server.Real.Addr, Port: server.Real.Port,
			Weight: server.Weight, Upper: server.Upper, Lower: server.Lower, Load: server.Load,
		})
	}
	var prev *sched.Scheduler
	if was != nil {
		prev = was.scheduler
	}
	s.scheduler, err = sched.New(spec, prev)
	return err
}

// loads returns where to find the Load that t has of a server of s, or nil. was is s
// in t, or nil.
func (t *Table) loads(s, was *Service) func(real packet.Endpoint) *sched.Load {
	known := map[packet.Endpoint]*sched.Load{}
	if was != nil {
		for _, server := range was.Servers {
			known[server.Real] = server.Load
		}
	}
	return func(real packet.Endpoint) *sched.Load {
		if load := known[real]; load != nil {
			return load
		}
		return t.retired[binding{s.Proto, s.Virtual, real}]
	}
}

// retire returns the loads that next no longer uses but must not forget. A
// server that leaves now is kept even without connections, since a worker that
// is still in the middle of a batch with prev may be about to give it one; by
// the next reload that is over.
func retire(prev, next *Table) map[binding]*sched.Load {
	retired := map[binding]*sched.Load{}
	for b, load := range prev.retired {
		if load.Total() != 0 {
			retired[b] = load
		}
	}
	for _, s := range prev.Services {
		if next.Service(s.Proto, s.Virtual) == s {
			continue
		}
		for _, server := range s.Servers {
			retired[binding{s.Proto, s.Virtual, server.Real}] = server.Load
		}
	}
	for _, s := range next.Services {
		if prev.Service(s.Proto, s.Virtual) == s {
			continue
		}
		for _, server := range s.Servers {
			delete(retired, binding{s.Proto, s.Virtual, server.Real})
		}
	}
	return retired
}
