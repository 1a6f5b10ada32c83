package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/lb/health"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// checked returns what is to be checked of a table: all of its services, as also
// one without checks has a quorum. What it makes of a service it notes in known, and
// takes from before if the table there had that service.
func checked(t *lb.Table, before map[*lb.Service]health.Service) (all []health.Service, known map[*lb.Service]health.Service) {
	all, known = make([]health.Service, 0, len(t.Services)), make(map[*lb.Service]health.Service, len(t.Services))
	made := checksOf{}
	for _, s := range t.Services {
		if service, ok := before[s]; ok {
			all, known[s] = append(all, service), service
			continue
		}
		f := &s.Failover
		service := health.Service{
			ID: healthID(s), Name: s.Name,
			Quorum: f.Quorum, Hysteresis: f.Hysteresis, Damping: f.Damping,
		}
		service.Servers = make([]health.Server, 0, len(s.Servers))
		for _, server := range s.Servers {
			if !server.Sorry {
				service.Servers = append(service.Servers, health.Server{Real: server.Real, Weight: server.Configured, Checks: made.of(server.Checks)})
			}
		}
		all, known[s] = append(all, service), service
	}
	return all, known
}

func healthID(s *lb.Service) health.ID { return health.ID{Proto: s.Proto, Virtual: s.Virtual} }

// checksOf has the checks that were made of configured ones, by the first of them:
// servers that share them share their probes.
type checksOf map[*lb.Check][]health.Check

func (made checksOf) of(from []lb.Check) []health.Check {
	if len(from) == 0 {
		return nil
	}
	all, ok := made[&from[0]]
	if !ok {
		all = make([]health.Check, len(from))
		for i, c := range from {
			all[i] = oneCheck(c)
		}
		made[&from[0]] = all
	}
	return all
}

// oneCheck makes a check of its configuration, which is valid.
func oneCheck(c lb.Check) health.Check {
	return health.Check{
		Key: c.Text, Probe: probe(c.Check), BFD: session(c.Check),
		Via: health.Via{
			Addr: c.Address, Port: uint16(c.Port), Source: c.Source, SrcPort: uint16(c.SourcePort),
			Interface: c.Interface, Mark: uint32(c.Mark),
		},
		Timing: health.Timing{
			Interval: c.Interval, Timeout: c.Timeout, Retry: c.Retry, RetryDelay: c.RetryDelay,
			Warmup: c.Warmup, Jitter: c.Jitter, Rise: c.Rise, Fall: c.Fall, Alpha: c.Alpha,
		},
	}
}

// session returns the BFD session of a check, or nil if it has none.
func session(c *config.Check) *health.BFD {
	if c.Type != config.CheckBFD {
		return nil
	}
	s := &c.BFD
	return &health.BFD{
		Key: bfd.Key{Multihop: s.Multihop}, MinTx: s.MinTx, MinRx: s.MinRx, IdleTx: s.IdleTx, Mult: uint8(s.Multiplier),
		Passive: s.Passive, TTL: uint8(s.TTL), MaxHops: uint8(s.MaxHops),
	}
}

// sessionKeys returns what tells the BFD sessions of a table apart.
func sessionKeys(t *lb.Table) (keys []bfd.Key) {
	for _, s := range t.Services {
		for _, server := range s.Servers {
			for _, c := range server.Checks {
				if b := session(c.Check); b != nil {
					k := bfd.Key{Neighbor: c.Address, Source: c.Source, Multihop: b.Multihop}
					if !k.Neighbor.IsValid() {
						k.Neighbor = server.Real.Netip().Addr()
					}
					keys = append(keys, k)
				}
			}
		}
	}
	return keys
}

// probe returns the probe of a check, or nil if it is of type bfd.
func probe(c *config.Check) health.Probe {
	switch c.Type {
	case config.CheckBFD:
		return nil
	case config.CheckHTTP, config.CheckHTTPS:
		return httpProbe(c)
	case config.CheckUDP:
		payload, _ := hex.DecodeString(c.Payload) // config has checked it
		return &health.UDP{Payload: payload, Answer: c.Answer, Pattern: c.Reply, MinReply: c.MinReply, MaxReply: c.MaxReply}
	case config.CheckDNS:
		return &health.DNS{Name: c.Name, Type: c.Query, TCP: c.Transport == "tcp"}
	case config.CheckPing:
		return health.Ping{}
	case config.CheckSMTP:
		return &health.SMTP{Helo: c.Name}
	case config.CheckExec:
		return &health.Exec{Args: c.Command, User: c.User, Dynamic: c.Dynamic}
	case config.CheckFile:
		return &health.File{Path: c.File, Dynamic: c.Dynamic, Factor: c.Factor}
	}
	return health.TCP{}
}

func httpProbe(c *config.Check) *health.HTTP {
	h := &health.HTTP{Method: c.Method, Path: c.Path, Host: c.Host, Digest: c.Digest, NoMatch: c.RegexNot}
	for _, r := range c.Status {
		h.Status = append(h.Status, health.CodeRange(r))
	}
	if c.Regex != "" {
		h.Match = health.Within(c.Regex, c.RegexMin) // config has compiled it
		h.From, h.Until = c.RegexMin, c.RegexEnd
	}
	if c.Type == config.CheckHTTPS {
		h.TLS = &health.TLS{ServerName: c.SNI, Verify: c.TLSVerify}
		if c.CA.Path != "" { // config has parsed all of these
			h.TLS.Roots = x509.NewCertPool()
			h.TLS.Roots.AppendCertsFromPEM([]byte(c.CA.Text))
		}
		if c.Certificate.Path != "" {
			own, _ := tls.X509KeyPair([]byte(c.Certificate.Text), []byte(c.Key.Text))
			h.TLS.Certificate = []tls.Certificate{own}
		}
	}
	return h
}
