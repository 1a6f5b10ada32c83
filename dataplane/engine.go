package dataplane

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/synproxy"
)

// A Config says what an Engine is made of. The Engine owns none of it.
type Config struct {
	Conns            *conntrack.Table
	Router           Router
	Epoch            time.Time   // the moment that conntrack's clock counts from
	ISNKey           siphash.Key // secret of the initial sequence numbers (RFC 6528)
	CookieSecret     synproxy.Secret
	ReflectClientMAC bool    // answer to the MAC that a client's packets come from
	BusyPoll         bool    // never wait for packets, spin
	FullChecksums    []bool  // by port: compute the checksums of what it receives anew; nil is none
	Queues           []Queue // one per worker
}

// A Queue is what one worker serves: some queues of every interface, all on one
// UMEM.
type Queue struct {
	UMEM  *xsk.UMEM
	Ports [][]Port // by interface: at least one queue, of which the first also sends
	Wait  func(time.Duration)

	// Budgets are those of the ports, in the same places; nil is none for any.
	Budgets [][]Budget
}

// A Budget bounds the SYNs that wait in a port's ring: it is told, after each receive,
// how many descriptors there were and how many of them were SYNs to services that
// answer by cookies.
type Budget interface{ Received(n, syns int) }

// An Engine is all workers and the view they share. Apply and Retire are for
// one control goroutine at a time; everything else is for any.
type Engine struct {
	cfg     Config
	view    atomic.Pointer[View]
	spreads atomic.Pointer[[]*spread] // by interface; nil where answers cannot be steered
	all     atomic.Pointer[[]*Worker] // that there have ever been

	fragments   fragCache
	cookies     atomic.Pointer[synproxy.Keys]
	cookieEpoch uint32
	strangers   atomic.Int64  // connections of real servers that were not configured, see Inherit
	decided     atomic.Uint64 // real servers that have answered another worker than the one that holds their clients' segments
	crowded     atomic.Bool   // see Crowd
	closes      chan struct{} // held by the Close under way
	closing     atomic.Pointer[closing]

	mu      sync.Mutex                      // held by the control goroutine; workers never take it
	ids     enrolled                        // of the table in force
	retired map[packet.Addr]bool            // LIPs that left the table and may still carry connections
	serving int                             // of all, the first so many have queues
	guards  int                             // that there have ever been
	nics    []*xsk.RSS                      // by interface
	known   struct{ counts, lines []uint8 } // see Know
}

// New makes an engine for the services of t, with its workers at rest.
func New(cfg Config, t *lb.Table) (*Engine, error) {
	e := &Engine{cfg: cfg, retired: map[packet.Addr]bool{}, closes: make(chan struct{}, 1)}
	e.fragments.key = cfg.ISNKey
	e.cookieEpoch = uint32(cfg.Epoch.UnixNano()>>synproxy.ClockShift) + cfg.CookieSecret.ClockOffset()
	keys := cfg.CookieSecret.Keys(time.Now())
	e.cookies.Store(&keys)
	e.all.Store(&[]*Worker{})
	e.Reshape(cfg.Queues)
	e.keepLocals()
	return e, e.Apply(t)
}

// View returns the view in force.
func (e *Engine) View() *View { return e.view.Load() }

// Now returns the time on the connection table's clock, in milliseconds.
func (e *Engine) Now() uint32 { return e.millis(time.Now()) }

func (e *Engine) millis(t time.Time) uint32 { return uint32(t.Sub(e.cfg.Epoch).Milliseconds()) }

// cookieClock returns what the clock of the timestamps in SYN-ACKs shows: a tick is
// 2^synproxy.ClockShift ns, and for balancers of one secret it is about the same.
func (e *Engine) cookieClock(t time.Time) uint32 {
	return uint32(t.Sub(e.cfg.Epoch)>>synproxy.ClockShift) + e.cookieEpoch
}

// CookieClock returns that clock at its epoch, which is Config.Epoch.
func (e *Engine) CookieClock() uint32 { return e.cookieEpoch }

// Apply puts t in force. Connections keep their real servers, also those that t
// no longer has. On an error nothing has changed.
func (e *Engine) Apply(t *lb.Table) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.view.Load()
	ids, err := e.enrol(t)
	if err != nil {
		return err
	}
	e.retire(ids)
	v := e.compose(t, ids, old)
	e.count(v)
	if old != nil {
		e.introduce(v, old)
	}
	e.view.Store(v)
	e.settle(v.generation)
	e.dismiss(e.ids)
	e.ids = ids
	return nil
}

// Crowd says whether the control path is about to need a processor for some time.
// While it does, workers do not spin: one that spins uses up its share of a processor,
// and must then wait, with packets, for those that compute.
func (e *Engine) Crowd(on bool) { e.crowded.Store(on) }

// introduce has every worker know the targets and addresses that are new in v, before
// any worker makes connections to them by v: another one, which still has old, may be
// the one that their replies come to.
func (e *Engine) introduce(v, old *View) {
	targets := slices.Clone(v.targets)
	fresh := false
	for b := range targets {
		if was := old.Target(conntrack.BindingID(b)); was != nil {
			targets[b] = was
		} else if targets[b] != nil {
			fresh = true
		}
	}
	if !fresh {
		return
	}
	first := *old
	first.generation, first.targets, first.addrs = old.generation+1, targets, v.addrs
	v.generation = first.generation + 1
	e.view.Store(&first)
	e.settle(first.generation)
}

// enrolled are the IDs of everything in a table, each held once.
type enrolled struct {
	locals   map[packet.Addr]conntrack.LocalID
	bindings map[*lb.Server]conntrack.BindingID
}

// enrol gives everything in t its ID. If the registry is full it takes back
// what it has given.
func (e *Engine) enrol(t *lb.Table) (enrolled, error) {
	ids := enrolled{map[packet.Addr]conntrack.LocalID{}, map[*lb.Server]conntrack.BindingID{}}
	for _, s := range t.Services {
		for _, server := range s.Servers {
			id, err := e.cfg.Conns.Bind(conntrack.Binding{Proto: s.Proto, Virtual: s.Virtual, Real: server.Real})
			if err != nil {
				e.dismiss(ids)
				return enrolled{}, fmt.Errorf("service %q: %w", s.Name, err)
			}
			ids.bindings[server] = id
		}
	}
	for _, p := range t.Pools {
		for _, a := range p.Addrs {
			id, err := e.cfg.Conns.AddLocal(conntrack.Local{Addr: a, PortMin: p.PortMin, PortMax: p.PortMax})
			if err != nil {
				e.dismiss(ids)
				return enrolled{}, fmt.Errorf("local pool %q: %w", p.Name, err)
			}
			ids.locals[a] = id
		}
	}
	return ids, nil
}

// dismiss lets go of ids. The registry keeps each for as long as connections
// have it.
func (e *Engine) dismiss(ids enrolled) {
	for _, id := range ids.locals {
		e.cfg.Conns.RemoveLocal(id)
	}
	for _, b := range ids.bindings {
		e.cfg.Conns.Unbind(b)
	}
}

// An identity is what makes a service the same over reloads; its name may change.
type identity struct {
	proto   uint8
	virtual packet.Endpoint
}

// compose joins t with its IDs, and with what must be remembered of old.
func (e *Engine) compose(t *lb.Table, ids enrolled, old *View) *View {
	v := &View{Table: t, generation: 1, forged: packet.DefaultStripList()}
	services := map[identity]*Service{}
	if old != nil {
		v.generation = old.generation + 1
		for _, target := range old.targets {
			if target != nil {
				gone := *target
				gone.Gone = true
				target = &gone
			}
			v.targets = append(v.targets, target)
		}
		for _, s := range old.Services {
			services[identity{s.Proto, s.Virtual}] = s
		}
	}

	var vips, lips []packet.Addr
	for _, s := range t.Services {
		svc := e.service(s, ids, services[identity{s.Proto, s.Virtual}])
		v.Services = append(v.Services, svc)
		v.guarded = v.guarded || svc.Guard != nil && (svc.Guarded() || svc.Guard.accepts.Load())
		vips = append(vips, s.Virtual.Addr)
		v.forged.AddOption(&s.Option)
		for _, server := range s.Servers {
			v.setTarget(ids.bindings[server], svc, server, e.serving)
		}
	}
	for a := range ids.locals {
		lips = append(lips, a)
	}
	for a := range e.retired {
		lips = append(lips, a)
	}
	v.addrs = newAddrSet(append(vips, v.departed()...), lips)
	return v
}

// service makes the packet path's form of s; before is what it was, or nil.
func (e *Engine) service(s *lb.Service, ids enrolled, before *Service) *Service {
	svc := &Service{
		Service:     s,
		timeouts:    timeouts(s.Timeouts),
		persistence: uint32(s.Persistence.Milliseconds()),
		inserts:     s.ClientAddress == lb.TOA || s.ClientAddress == lb.TTM,
	}
	if before != nil {
		svc.Meter, svc.Guard = before.Meter, before.Guard
	} else {
		svc.Meter = newMeter(e.serving)
		if s.Proto == packet.ProtoTCP {
			svc.Guard = newGuard(e.guards, e.serving, svc.configured())
			e.guards++
		}
	}
	if svc.Guard != nil {
		svc.Guard.obey(s.SYNProxy.Mode)
		svc.Guard.settle(time.Now())
	}
	for _, server := range s.Servers {
		svc.bindings = append(svc.bindings, ids.bindings[server])
	}
	for _, a := range s.Pool.Addrs {
		svc.locals = append(svc.locals, ids.locals[a])
	}
	return svc
}

func (v *View) setTarget(b conntrack.BindingID, svc *Service, server *lb.Server, workers int) {
	if int(b) >= len(v.targets) {
		v.targets = slices.Grow(v.targets, int(b)+1-len(v.targets))[:b+1]
	}
	target := &Target{
		Service: svc, Server: server,
		carried: svc.steady(), silence: svc.timeouts[svc.steady()], unanswered: svc.timeouts[conntrack.UDPOneWay],
		converts: server.Real.Addr.Is4() != svc.Virtual.Addr.Is4(),
	}
	if was := v.targets[b]; was != nil && was.Server.Real == server.Real && was.Service.Virtual == svc.Virtual {
		target.Meter = was.Meter
	} else {
		target.Meter = newMeter(workers)
	}
	v.targets[b] = target
}

// settle waits until no worker uses a view older than generation, so that no
// connection is made any more with what that view has and the new one has not.
func (e *Engine) settle(generation uint64) {
	behind := func(w *Worker) bool { return w.running.Load() && w.seen.Load() < generation }
	for slices.ContainsFunc(e.Workers(), behind) {
		time.Sleep(time.Millisecond)
	}
}

// retire notes the LIPs that are in force now and not among next.
func (e *Engine) retire(next enrolled) {
	for a := range e.ids.locals {
		e.retired[a] = true
	}
	for a := range next.locals {
		delete(e.retired, a)
	}
}

// Retire forgets the LIPs that have left the table and no longer carry a
// connection, and reports whether there were any.
func (e *Engine) Retire() (any bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.retired) == 0 {
		return false
	}
	inUse := map[packet.Addr]bool{}
	for _, l := range e.cfg.Conns.Stats().Locals {
		inUse[l.Addr] = l.Connections > 0
	}
	for a := range e.retired {
		if !inUse[a] {
			delete(e.retired, a)
			any = true
		}
	}
	return any
}

// Locals returns every LIP that packets may still come back to, with its ports:
// those of the table and those that only live on in connections.
func (e *Engine) Locals() (all []conntrack.Local) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.cfg.Conns.Stats().Locals {
		if _, ok := e.ids.locals[l.Addr]; ok || e.retired[l.Addr] {
			all = append(all, l.Local)
		}
	}
	return all
}
