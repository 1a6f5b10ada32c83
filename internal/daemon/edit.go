package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/lb/sched"
)

// Edits change the configuration in force, by the way of a reload, and not the
// file. The next reload goes back to the file.

// Edit implements ctl.Backend.
func (d *Daemon) Edit(ctx context.Context, edits []ctl.Edit) (ctl.Edited, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg, refusals, err := edited(d.cfg, edits, d.zero)
	if err != nil {
		return ctl.Edited{}, fmt.Errorf("refused, the configuration stays as it is:\n%w", err)
	}
	answer := ctl.Edited{Refused: refusals}
	if cfg == d.cfg {
		return answer, nil
	}
	before := d.drains
	d.drains = d.drains.without(edits)
	changes, err := d.put(cfg)
	if err != nil {
		d.drains = before
		return ctl.Edited{}, err
	}
	d.log.Info("edited", "by", ctl.PeerOf(ctx), "edits", len(edits), "refused", len(refusals), "changes", len(changes))
	for _, c := range changes {
		d.log.Info("changed", "what", c)
		answer.Changes = append(answer.Changes, c.String())
	}
	return answer, nil
}

// edited returns what edits make of cfg, which stays as it is and is returned
// itself if they change nothing, and the edits that were left out. It leaves
// counters to zero.
func edited(cfg *config.Config, edits []ctl.Edit, zero func(*ctl.Edit) error) (next *config.Config, refusals []ctl.Refusal, err error) {
	changed := false
	next, err = cfg.Edited(func(c *config.Config) {
		ed := editor{Config: c, at: map[string]int{}}
		ed.index()
		for i := range edits {
			apply := zero
			if edits[i].Op != ctl.Zero {
				apply = ed.apply
			}
			err := apply(&edits[i])
			if why, left := err.(*refused); left {
				refusals = append(refusals, ctl.Refusal{Edit: i, Code: why.code, Error: why.text})
			}
			changed = changed || err == nil && edits[i].Op != ctl.Zero
		}
	})
	if !changed && err == nil {
		next = cfg
	}
	return next, refusals, err
}

// without returns drains less those of servers that an edit gives a weight: whoever
// does wants them used.
func (d drains) without(edits []ctl.Edit) drains {
	next := d.clone()
	for i := range edits {
		if e := &edits[i]; e.Server != nil && e.Server.Weight > 0 {
			s := config.Service{Protocol: config.Protocol(e.Protocol), Address: e.Virtual}
			delete(next.by, subjectOf(&s, &config.RealServer{Address: e.Real}))
		}
	}
	return next
}

// refused is why one edit is left out.
type refused struct {
	code ctl.RefusalCode
	text string
}

func (r *refused) Error() string { return r.text }

func refuse(code ctl.RefusalCode, format string, args ...any) error {
	return &refused{code, fmt.Sprintf(format, args...)}
}

// An editor carries out edits on a configuration.
type editor struct {
	*config.Config
	at map[string]int // number of the service at a protocol and address
}

func key(protocol string, virtual netip.AddrPort) string { return protocol + " " + virtual.String() }

func (ed *editor) index() {
	clear(ed.at)
	for i := range ed.Services {
		s := &ed.Services[i]
		ed.at[key(string(s.Protocol), s.Address)] = i
	}
}

func (ed *editor) apply(e *ctl.Edit) error {
	if e.Op == ctl.Clear {
		ed.Services = nil
		clear(ed.at)
		return nil
	}
	i, exists := ed.at[key(e.Protocol, e.Virtual)]
	if e.Op == ctl.AddService {
		if exists {
			return refuse(ctl.ServiceExists, "service %s %s: is there already", e.Protocol, e.Virtual)
		}
		return ed.addService(e)
	}
	if !exists {
		return refuse(ctl.NoService, "service %s %s: no such service", e.Protocol, e.Virtual)
	}
	s := &ed.Services[i]
	switch e.Op {
	case ctl.EditService:
		return set(s, e.Service)
	case ctl.DeleteService:
		ed.Services = slices.Delete(ed.Services, i, i+1) // of Edited's copy
		ed.index()
		return nil
	case ctl.AddServer, ctl.EditServer, ctl.DeleteServer:
		return editServer(s, e)
	case ctl.AddLocal:
		return ed.addLocal(s, e.Local)
	case ctl.DeleteLocal:
		return ed.deleteLocal(s, e.Local)
	}
	return refuse(ctl.Invalid, "edit %q: no such edit", e.Op)
}

// addService adds a service. An edit names neither interface nor pool: they are
// those of another service of this VIP, or else of the first service, or else the
// first there are.
func (ed *editor) addService(e *ctl.Edit) error {
	if e.Protocol != string(config.TCP) && e.Protocol != string(config.UDP) {
		return refuse(ctl.Invalid, "protocol %q: want tcp or udp", e.Protocol)
	}
	if err := config.CheckEndpoint(e.Virtual); err != nil {
		return refuse(ctl.Invalid, "service %s: %v", e.Virtual, err)
	}
	s := config.NewService(ed.newName(e), config.Protocol(e.Protocol), e.Virtual)
	if err := set(&s, e.Service); err != nil {
		return err
	}
	like := slices.IndexFunc(ed.Services, func(o config.Service) bool { return o.Address.Addr() == e.Virtual.Addr() })
	switch {
	case like < 0 && len(ed.Services) == 0:
		s.Interface = ed.Dataplane.Interfaces[0]
		if len(ed.Pools) > 0 {
			s.Pool = ed.Pools[0].Name
		}
	default:
		o := &ed.Services[max(like, 0)]
		s.Interface, s.Pool = o.Interface, o.Pool
	}
	ed.at[key(e.Protocol, e.Virtual)] = len(ed.Services)
	ed.Services = append(ed.Services, s)
	return nil
}

// newName returns the name of a new service, as an import of a keepalived.conf
// would name it.
func (ed *editor) newName(e *ctl.Edit) string {
	name := e.Virtual.String()
	if e.Protocol == string(config.UDP) {
		name += "/udp"
	}
	taken := func(s config.Service) bool { return s.Name == name }
	for n := 2; slices.ContainsFunc(ed.Services, taken); n++ {
		name = fmt.Sprintf("%s (%d)", e.Virtual, n)
	}
	return name
}

// set gives s the settings of an edit.
func set(s *config.Service, to *ctl.ServiceSettings) error {
	if to == nil {
		return refuse(ctl.Invalid, "service: no settings given")
	}
	if !slices.Contains(sched.Names(), to.Scheduler) {
		return refuse(ctl.NoScheduler, "scheduler %q: unknown", to.Scheduler)
	}
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	if p := seconds(to.PersistenceSeconds); p < 0 || p > config.MaxDuration {
		return refuse(ctl.Invalid, "persistence %v: want 0 to %v", p, config.MaxDuration)
	}
	bits := s.Address.Addr().BitLen()
	if to.PersistenceGranularity < 0 || to.PersistenceGranularity > bits {
		return refuse(ctl.Invalid, "persistence granularity %d: want 1 to %d", to.PersistenceGranularity, bits)
	}
	switch {
	case to.SYNProxy == "":
	case to.SYNProxy != "on" && to.SYNProxy != "off":
		return refuse(ctl.Invalid, `synproxy %q: want on, off or ""`, to.SYNProxy)
	case to.SYNProxy == "on" && s.Protocol == config.UDP:
		return refuse(ctl.Invalid, "synproxy on: has no effect on a udp service")
	default:
		s.SYNProxy.Mode = config.SYNProxyMode(to.SYNProxy)
	}
	s.SetScheduler(to.Scheduler, to.HashPort, to.Fallback)
	s.SetPersistence(seconds(to.PersistenceSeconds), to.PersistenceGranularity%bits)
	if e := seconds(to.EstablishedSeconds); e > config.MaxDuration {
		return refuse(ctl.Invalid, "established %v: want 1s to %v", e, config.MaxDuration)
	} else if e > 0 && s.Protocol == config.UDP {
		s.Timeouts.UDP = e
	} else if e > 0 {
		s.Timeouts.Established = e
	}
	return nil
}

func editServer(s *config.Service, e *ctl.Edit) error {
	i := slices.IndexFunc(s.Servers, func(r config.RealServer) bool { return r.Address == e.Real })
	switch {
	case e.Op == ctl.AddServer && i >= 0:
		return refuse(ctl.ServerExists, "real server %s: is there already", e.Real)
	case e.Op != ctl.AddServer && i < 0:
		return refuse(ctl.NoServer, "real server %s: no such real server", e.Real)
	case e.Op == ctl.DeleteServer:
		s.RemoveServer(i)
		return nil
	case e.Server == nil:
		return refuse(ctl.Invalid, "real server: no settings given")
	}
	if err := config.CheckEndpoint(e.Real); err != nil {
		return refuse(ctl.Invalid, "real server %s: %v", e.Real, err)
	}
	r := config.RealServer{Address: e.Real}
	if i >= 0 {
		r = s.Servers[i]
	}
	r.Weight, r.UpperThreshold, r.LowerThreshold = e.Server.Weight, e.Server.UpperThreshold, e.Server.LowerThreshold
	if err := r.Check(); err != nil {
		return refuse(ctl.Invalid, "real server %s: %v", e.Real, err)
	}
	if i >= 0 {
		s.SetServer(i, r)
	} else {
		s.AddServer(r)
	}
	return nil
}

// addLocal gives a service a local address. Where that is in a pool already, the
// service uses that pool, or uses it by now; a new one comes into the pool of the
// service, which others may share.
func (ed *editor) addLocal(s *config.Service, lip netip.Addr) error {
	own := -1
	for i := range ed.Pools {
		p := &ed.Pools[i]
		if slices.Contains(p.Addresses, lip) {
			s.Pool = p.Name
			return nil
		}
		if p.Name == s.Pool {
			own = i
		}
	}
	if own < 0 || !lip.IsValid() {
		return refuse(ctl.Invalid, "local address %v: there is no pool for it: add a [[local_pool]]", lip)
	}
	ed.Pools[own].AddAddress(lip)
	return nil
}

func (ed *editor) deleteLocal(s *config.Service, lip netip.Addr) error {
	for i := range ed.Pools {
		if p := &ed.Pools[i]; p.Name == s.Pool {
			if at := slices.Index(p.Addresses, lip); at >= 0 {
				p.RemoveAddress(at)
				return nil
			}
		}
	}
	return refuse(ctl.NoLocal, "local address %v: not of this service", lip)
}
