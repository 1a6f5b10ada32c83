package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Edited returns a copy of c that change has changed, checked like a file. c stays
// as it is. change may do anything to the copy but write into slices and maps that
// it finds below services and pools; the methods here do not.
func (c *Config) Edited(change func(*Config)) (*Config, error) {
	e := *c
	e.Pools, e.Services = slices.Clone(c.Pools), slices.Clone(c.Services)
	change(&e)
	r := &report{file: c.File}
	e.validate(r)
	for i := range e.Pools {
		if p := &e.Pools[i]; len(p.Addresses) == 0 {
			r.add(p.Line, message(p.label, "addresses", nil, "empty (want at least one)"))
		}
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return &e, nil
}

// NewService returns a service with every default, as a file has it that says
// nothing else.
func NewService(name string, protocol Protocol, address netip.AddrPort) Service {
	s := Service{Name: name, Protocol: protocol, Address: address, label: fmt.Sprintf("service %q: ", name)}
	s.defaults()
	s.ClientAddress = s.clientAddresses()[0]
	return s
}

// SetScheduler sets the scheduler with its flags.
func (s *Service) SetScheduler(name string, hashPort, fallback bool) {
	s.forget("sh_port", "sh_fallback", "mh_port", "mh_fallback")
	s.Scheduler = name
	s.SHPort, s.SHFallback = hashPort && name == "sh", fallback && name == "sh"
	s.MHPort, s.MHFallback = hashPort && name == "mh", fallback && name == "mh"
}

// SetPersistence sets persistence; 0 is off. A granularity of 0 is one address.
func (s *Service) SetPersistence(d time.Duration, granularity int) {
	s.forget("persistence_granularity")
	s.Persistence, s.PersistenceGranularity = d, granularity
}

// AddServer adds a real server, which is checked as the service says.
func (s *Service) AddServer(r RealServer) {
	r.Checks = s.Checks
	r.NotifyUp, r.NotifyDown = s.Failover.Scripts.NotifyUp, s.Failover.Scripts.NotifyDown
	s.Servers = append(slices.Clip(s.Servers), r)
}

// SetServer replaces real server number i.
func (s *Service) SetServer(i int, r RealServer) {
	s.Servers = slices.Clone(s.Servers)
	s.Servers[i] = r
}

// RemoveServer removes real server number i.
func (s *Service) RemoveServer(i int) { s.Servers = slices.Delete(slices.Clone(s.Servers), i, i+1) }

// AddAddress adds a local address.
func (p *LocalPool) AddAddress(lip netip.Addr) {
	p.Addresses, p.lines = append(slices.Clip(p.Addresses), lip), append(slices.Clip(p.lines), p.Line)
}

// RemoveAddress removes local address number i.
func (p *LocalPool) RemoveAddress(i int) {
	p.Addresses, p.lines = slices.Delete(slices.Clone(p.Addresses), i, i+1), slices.Delete(slices.Clone(p.lines), i, i+1)
}

// Check says what is wrong with the numbers of r.
func (r *RealServer) Check() error {
	switch {
	case r.Weight < 0 || r.Weight > maxWeight:
		return fmt.Errorf("weight %d: want 0 to %d", r.Weight, maxWeight)
	case r.UpperThreshold < 0 || r.UpperThreshold > maxThreshold:
		return fmt.Errorf("upper_threshold %d: want 0 to %d", r.UpperThreshold, maxThreshold)
	case r.LowerThreshold < 0 || r.LowerThreshold > r.UpperThreshold:
		return fmt.Errorf("lower_threshold %d: %s", r.LowerThreshold, r.lowerAbove())
	}
	return nil
}
