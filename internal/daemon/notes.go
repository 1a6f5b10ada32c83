package daemon

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/lb/health"
)

// Notes are taken often enough for what is lost with a process that is killed to be no
// matter, and never for more than a hundredth of the time. Our choices.
const (
	notesPeriod = time.Second
	notesShare  = 100
)

// notes are what fnatd remembers besides connections. They are JSON in the state file:
// an older or newer fnatd reads what it knows of them.
type notes struct {
	Began    time.Time         // when the state was made
	Adopted  int               // times that a fnatd went on with it
	Counts   countNotes        // of all workers
	Homes    map[string]string // interface of each local address
	Services []serviceNotes
	Drains   []drainNotes
}

// countNotes are counters by their labels: another fnatd may number them differently.
type countNotes struct{ Drops, Events map[string]uint64 }

func noteCounts(c *dataplane.Counts) countNotes {
	n := countNotes{map[string]uint64{}, map[string]uint64{}}
	for why, count := range c.Drops {
		if count > 0 {
			n.Drops[packet.Reason(why).String()] = count
		}
	}
	for event, count := range c.Events {
		if count > 0 {
			n.Events[dataplane.Event(event).String()] = count
		}
	}
	return n
}

func (n *countNotes) counts() (c dataplane.Counts) {
	for why := range c.Drops {
		c.Drops[why] = n.Drops[packet.Reason(why).String()]
	}
	for event := range c.Events {
		c.Events[event] = n.Events[dataplane.Event(event).String()]
	}
	return c
}

type serviceNotes struct {
	Proto   uint8
	Virtual netip.AddrPort
	Traffic dataplane.Traffic
	Guard   *dataplane.GuardMemory `json:",omitempty"`
	Zero    ctl.Traffic            `json:",omitzero"` // that ipvsadm -Z counts from
	XDP     bpf.GuardCounts        `json:",omitzero"`
	Servers []serverNotes
}

type serverNotes struct {
	Real    netip.AddrPort
	Traffic dataplane.Traffic
	Zero    ctl.Traffic    `json:",omitzero"`
	Offer   uint64         `json:",omitempty"` // that it was seen to make
	Health  *health.Memory `json:",omitempty"`
}

type drainNotes struct {
	Proto         uint8
	Virtual, Real netip.AddrPort
	Service, Home string
	Due           time.Time
	Ordered       bool
}

// takeNotes writes the notes again and again until ctx ends.
func (d *Daemon) takeNotes(ctx context.Context) {
	for wait := notesPeriod; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		began := time.Now()
		d.writeNotes()
		wait = max(notesPeriod, notesShare*time.Since(began))
	}
}

// writeNotes has the state file say what is known now.
func (d *Daemon) writeNotes() {
	d.notesLock.Lock()
	defer d.notesLock.Unlock()
	d.mu.Lock()
	n := d.gatherNotes()
	d.mu.Unlock()
	err := d.keepNotes(n)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noted(err)
}

// keepNotes puts notes into the state file. The caller holds d.notesLock.
func (d *Daemon) keepNotes(n *notes) error {
	b, err := json.Marshal(n)
	if err == nil {
		err = d.state.WriteNotes(b)
	}
	return err
}

// noted remembers how notes were taken. The caller holds d.mu.
func (d *Daemon) noted(err error) {
	if err == nil {
		d.notesTaken = time.Now()
	}
	if d.notesFailed.isNews(err) {
		d.log.Warn("notes for the next fnatd not taken: it will not know the health of servers, drains and counters", "error", err)
	}
}

// gatherNotes returns what is to be remembered. The caller holds d.mu.
func (d *Daemon) gatherNotes() *notes {
	v := d.engine.View()
	sum := d.sum()
	n := &notes{Began: d.notes.Began, Adopted: d.notes.Adopted, Counts: noteCounts(&sum), Homes: map[string]string{}}
	for a, home := range d.homes {
		n.Homes[a.Netip().String()] = home
	}
	for _, s := range v.Services {
		sn := serviceNotes{Proto: s.Proto, Virtual: s.Virtual.Netip(), Traffic: s.Meter.Read(), Zero: d.tallies.zeroOf(s.Meter), XDP: d.xdpCounts(s)}
		if s.Guard != nil {
			g := d.engine.Memory(s.Guard)
			sn.Guard = &g
		}
		for _, r := range s.Servers {
			m := v.ServerMeter(s, r)
			rn := serverNotes{Real: r.Real.Netip(), Traffic: m.Read(), Zero: d.tallies.zeroOf(m), Offer: m.Seen()}
			if h, ok := d.ward.monitor.Memory(healthID(s.Service), r.Real); ok {
				rn.Health = &h
			}
			sn.Servers = append(sn.Servers, rn)
		}
		n.Services = append(n.Services, sn)
	}
	for id, o := range d.drains.by {
		n.Drains = append(n.Drains, drainNotes{
			Proto: id.Proto, Virtual: id.Virtual.Netip(), Real: id.Real.Netip(),
			Service: o.service, Home: o.home, Due: o.due, Ordered: o.ordered,
		})
	}
	return n
}

// readNotes takes up the notes in f.
func (d *Daemon) readNotes(f annotated) {
	b, damaged := f.Notes()
	if damaged != nil {
		d.log.Warn("state: some notes are damaged, those before them are used", "error", damaged)
	}
	if b != nil {
		if err := json.Unmarshal(b, &d.notes); err != nil {
			d.log.Warn("state: notes cannot be read", "error", err)
			d.notes = notes{}
		}
	}
	if d.notes.Began.IsZero() {
		d.notes.Began = d.started
	}
	d.notes.Adopted++
}

// annotated is what has notes.
type annotated interface{ Notes() ([]byte, error) }

// recall gives everything that has just been made what the notes say of it. The health
// of servers is given when the checks begin.
func (d *Daemon) recall() {
	d.recalled = d.notes.Counts.counts()
	for a, home := range d.notes.Homes {
		if addr, err := netip.ParseAddr(a); err == nil {
			d.homes[packet.AddrFromNetip(addr)] = home
		}
	}
	v := d.engine.View()
	for i := range d.notes.Services {
		n := &d.notes.Services[i]
		s := v.Table.Service(n.Proto, packet.EndpointFrom(n.Virtual))
		if s == nil {
			continue
		}
		svc := v.Services[s.Index]
		svc.Meter.Remember(&n.Traffic, 0)
		d.tallies.begin(svc.Meter, n.Zero)
		if svc.Guard != nil && n.Guard != nil {
			d.engine.Remember(svc.Guard, n.Guard)
			d.guards.past[serviceKey(svc)] = n.XDP
		}
		for j := range n.Servers {
			r := &n.Servers[j]
			if server := s.Server(packet.EndpointFrom(r.Real)); server != nil {
				m := v.ServerMeter(svc, server)
				m.Remember(&r.Traffic, r.Offer)
				d.tallies.begin(m, r.Zero)
			}
		}
	}
}

// recallDrains returns t with what operators had drained, as far as it is configured
// still: what has left the configuration meanwhile has no connections any more.
func (d *Daemon) recallDrains(t *lb.Table) (*lb.Table, error) {
	for _, o := range d.notes.Drains {
		id := lb.Subject{Proto: o.Proto, Virtual: packet.EndpointFrom(o.Virtual), Real: packet.EndpointFrom(o.Real)}
		if s := t.Service(id.Proto, id.Virtual); o.Ordered && s != nil && s.Server(id.Real) != nil {
			d.drains.by[id] = &drain{service: s.Name, home: s.Interface, due: o.Due, ordered: true}
		}
	}
	if len(d.drains.by) == 0 {
		return t, nil
	}
	return compile(d.drains.applyTo(d.cfg), nil)
}

// recallHealth has the monitor begin with what was known of the servers.
func (d *Daemon) recallHealth() {
	known := map[verdictKey]*health.Memory{}
	for i := range d.notes.Services {
		n := &d.notes.Services[i]
		id := health.ID{Proto: n.Proto, Virtual: packet.EndpointFrom(n.Virtual)}
		for j := range n.Servers {
			known[verdictKey{id, packet.EndpointFrom(n.Servers[j].Real)}] = n.Servers[j].Health
		}
	}
	d.ward.monitor.Recall(func(id health.ID, real packet.Endpoint) *health.Memory { return known[verdictKey{id, real}] })
}
