package daemon

import (
	"iter"
	"os"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// The Daemon is the control socket's Backend.
var _ ctl.Backend = (*Daemon)(nil)

// Services implements ctl.Backend.
func (d *Daemon) Services() (all []ctl.Service) {
	v := d.engine.View()
	for _, s := range v.Services {
		t := s.Meter.Read()
		svc := ctl.Service{
			Name:               s.Name,
			Protocol:           protocol(s.Proto),
			Virtual:            s.Virtual.Netip(),
			Interface:          s.Interface,
			Scheduler:          s.Scheduler,
			HashPort:           s.HashPort,
			Fallback:           s.Fallback,
			LocalPool:          s.Pool.Name,
			ClientAddress:      s.ClientAddress.String(),
			PersistenceSeconds: s.Persistence.Seconds(),
			EstablishedSeconds: s.IdleTimeout().Seconds(),
			SYNProxy:           s.SYNProxy.Mode.String(),
			Traffic:            traffic(&t),
			ClientAddresses:    clientCounts(&t),
			QuorumLost:         s.NoQuorum,
		}
		svc.PersistenceGranularity = s.Granularity()
		svc.SinceZero, svc.Rates = d.tallies.show(s.Meter, svc.Traffic)
		for _, server := range s.Servers {
			m := v.ServerMeter(s, server)
			a := serverAnswer(server, m, d.downReason(server))
			a.SinceZero, a.Rates = d.tallies.show(m, a.Traffic)
			svc.Servers = append(svc.Servers, a)
		}
		all = append(all, svc)
	}
	return all
}

func serverAnswer(s *lb.Server, m *dataplane.Meter, reason string) ctl.Server {
	t := m.Read()
	return ctl.Server{
		Real:           s.Real.Netip(),
		Weight:         s.Weight,
		Configured:     s.Configured,
		Health:         healthOf(s),
		Reason:         reason,
		Removed:        s.Removed(),
		Sorry:          s.Sorry,
		UpperThreshold: s.Upper,
		LowerThreshold: s.Lower,
		Overloaded:     s.Load.Over(s.Upper, s.Lower),
		Active:         atLeastNone(s.Load.Active.Load()),
		Inactive:       atLeastNone(s.Load.Inactive.Load()),
		Traffic:        traffic(&t),
	}
}

// atLeastNone returns a number of connections: for a moment more may have ended by one worker
// than have been activated by another.
func atLeastNone(n int32) int { return int(max(n, 0)) }

func traffic(t *dataplane.Traffic) ctl.Traffic {
	return ctl.Traffic{
		Connections: t.Connections,
		InPackets:   t.InPackets, OutPackets: t.OutPackets,
		InBytes: t.InBytes, OutBytes: t.OutBytes,
		Refused: t.Refused, Unanswered: t.Unanswered,
	}
}

func clientCounts(t *dataplane.Traffic) ctl.ClientCounts {
	return ctl.ClientCounts{
		Inserted:    t.Inserted,
		NotInserted: ctl.NotInserted{NoRoom: t.NoRoom, OverMTU: t.TooLong},
		Stripped:    t.Forged,
		Notices:     ctl.Notices{Sent: t.NoticeSent, Acknowledged: t.NoticeAcked, Resent: t.NoticeResent, GivenUp: t.NoticeGivenUp},
	}
}

func protocol(p uint8) string {
	if p == packet.ProtoUDP {
		return "udp"
	}
	return "tcp"
}

// walkSlice is how many connections are copied under a shard's lock at a time.
const walkSlice = 256

// eachConn calls f with a copy of each connection that is not a persistence
// template, until it returns false.
func (d *Daemon) eachConn(f func(*conntrack.Conn) bool) {
	slice := make([]conntrack.Conn, walkSlice)
	for shard := range d.conns.Shards() {
		for from, more := 0, true; more; more = from != 0 {
			var n int
			n, from = d.conns.Walk(shard, from, slice)
			for i := range n {
				if slice[i].State != conntrack.Template && !f(&slice[i]) {
					return
				}
			}
		}
	}
}

// Connections implements ctl.Backend.
func (d *Daemon) Connections() iter.Seq[ctl.Connection] {
	return func(yield func(ctl.Connection) bool) {
		d.eachConn(func(c *conntrack.Conn) bool { return yield(d.connection(c)) })
	}
}

// connection describes c.
func (d *Daemon) connection(c *conntrack.Conn) ctl.Connection {
	b, lip := d.conns.Binding(c.Binding()), d.conns.Local(c.Local)
	answer := ctl.Connection{
		Protocol:       protocol(b.Proto),
		State:          c.State.String(),
		ExpiresSeconds: max(float64(int32(c.Deadline-d.engine.Now()))/1000, 0),
		Client:         packet.Endpoint{Addr: c.Client, Port: c.ClientPort}.Netip(),
		Virtual:        b.Virtual.Netip(),
		Local:          packet.Endpoint{Addr: lip.Addr, Port: c.LocalPort}.Netip(),
		Real:           b.Real.Netip(),
	}
	if t := d.engine.View().Target(c.Binding()); t != nil {
		answer.Service = t.Service.Name
	}
	return answer
}

// Locals implements ctl.Backend.
func (d *Daemon) Locals() (all []ctl.Local) {
	use := map[packet.Addr]conntrack.LocalStats{}
	for _, l := range d.conns.Stats().Locals {
		use[l.Addr] = l
	}
	for _, pool := range d.engine.View().Table.Pools {
		for _, addr := range pool.Addrs {
			l := use[addr]
			all = append(all, ctl.Local{
				Pool:        pool.Name,
				Interface:   pool.Interface,
				Address:     addr.Netip(),
				PortMin:     pool.PortMin,
				PortMax:     pool.PortMax,
				PortsInUse:  l.InUse,
				PortsFree:   l.Free,
				Connections: l.Connections,
				Conflicts:   l.Conflicts,
			})
		}
	}
	return all
}

// Stats implements ctl.Backend.
func (d *Daemon) Stats() ctl.Stats {
	d.mu.Lock()
	loaded, reloadError := d.loaded, d.reloadError
	d.mu.Unlock()
	t := d.conns.Stats()
	s := ctl.Stats{
		Version:       d.opts.Version,
		PID:           os.Getpid(),
		Started:       d.started,
		UptimeSeconds: time.Since(d.started).Seconds(),
		ConfigFile:    d.opts.ConfigFile,
		ConfigLoaded:  loaded,
		ReloadError:   reloadError,
		Table: ctl.Table{
			Capacity:    t.Capacity,
			Connections: t.Connections,
			HalfOpen:    t.HalfOpen,
			Templates:   t.Templates,
			Bytes:       uint64(conntrack.Measure(conntrack.Config{MaxConnections: t.Capacity}).Total),
		},
	}
	defaults := conntrack.DefaultTimeouts()
	seconds := func(st conntrack.State) float64 { return float64(defaults[st]) / 1000 }
	s.Timeouts = ctl.Timeouts{
		Established: seconds(conntrack.Established), FinWait: seconds(conntrack.FinWait), UDP: seconds(conntrack.UDP),
	}
	counts := d.sum()
	for e, n := range counts.Events {
		s.Events = append(s.Events, ctl.Event{Name: dataplane.Event(e).String(), Count: n})
	}
	s.Guards = d.guardAnswers()
	for _, svc := range d.Services() {
		s.ClientAddresses.Add(svc.ClientAddresses)
	}
	d.fleet.mu.RLock()
	defer d.fleet.mu.RUnlock()
	for i, p := range d.ports {
		s.Interfaces = append(s.Interfaces, ctl.Interface{Name: p.name, Mode: p.frames.String(), Reason: p.reason + "; " + p.since, Queues: d.fleet.counts[i]})
	}
	for i, w := range d.engine.Workers() {
		s.Workers = append(s.Workers, d.worker(i, w))
	}
	return s
}

// worker describes worker i. The caller holds the fleet's lock.
func (d *Daemon) worker(i int, w *dataplane.Worker) ctl.Worker {
	c := w.Counts()
	census := w.Census()
	answer := ctl.Worker{
		ID:          i,
		CPU:         -1,
		RxPackets:   c.RxPackets,
		RxBytes:     c.RxBytes,
		TxPackets:   c.TxPackets,
		TxBytes:     c.TxBytes,
		Dropped:     c.Dropped(),
		BatchSizes:  c.BatchSizes[:],
		IdleSeconds: time.Duration(c.Asleep).Seconds(),
		IdleShare:   float64(c.Asleep) / float64(time.Since(d.started)),
		Frames: ctl.Frames{
			Fill: census.Fill, Rx: census.RX, Tx: census.TX,
			Completion: census.Completion, Free: census.Free, Held: census.Held,
		},
	}
	for _, n := range c.BatchSizes {
		answer.Batches += n
	}
	if answer.Batches > 0 {
		answer.MeanBatch = float64(c.RxPackets) / float64(answer.Batches)
	}
	if i >= len(d.fleet.queues) { // at rest since there are fewer queues
		return answer
	}
	answer.CPU = d.fleet.queues[i].cpu
	d.fleet.eachOf(i, func(at spot, s *xsk.Socket) {
		st := d.fleet.stats(at, s)
		answer.Rings = append(answer.Rings, ring(d.ports[at.port].name, at.queue, s.Mode(), &st))
	})
	return answer
}

// ring describes a socket.
func ring(name string, queue int, mode xsk.Mode, st *xsk.Stats) ctl.Ring {
	return ctl.Ring{
		Interface:     name,
		Queue:         queue,
		Mode:          mode.String(),
		RxDropped:     st.Kernel.Dropped,
		RxRingFull:    st.Kernel.RingFull,
		FillRingEmpty: st.Kernel.FillEmpty,
		RxInvalid:     st.Kernel.BadFill,
		TxInvalid:     st.Kernel.BadTX,
		TxRingEmpty:   st.Kernel.TXRingEmpty,
		KickErrors:    st.Refused,
	}
}

// sum adds up the counters of all workers, those of earlier processes included.
func (d *Daemon) sum() dataplane.Counts {
	all := d.recalled
	for _, w := range d.engine.Workers() {
		c := w.Counts()
		for i, n := range c.Drops {
			all.Drops[i] += n
		}
		for i, n := range c.Events {
			all.Events[i] += n
		}
	}
	return all
}

// Drops implements ctl.Backend.
func (d *Daemon) Drops() []ctl.Drop {
	counts := d.sum()
	d.fleet.mu.RLock()
	rings := d.fleet.total().Kernel
	d.fleet.mu.RUnlock()
	xdp, err := d.program.Counters()
	if err != nil {
		d.log.Warn("counters of the XDP program", "error", err)
	}
	counts.Drops[packet.BadCookie] += xdp[bpf.BadCookie]
	return append(ctl.NewDrops(&counts.Drops),
		ctl.NewDrop(ctl.RxRingFull, rings.RingFull),
		ctl.NewDrop(ctl.FillRingEmpty, rings.FillEmpty),
		ctl.NewDrop(ctl.Unserved, xdp[bpf.Unserved]),
		ctl.NewDrop(ctl.Orphaned, xdp[bpf.Orphaned]))
}
