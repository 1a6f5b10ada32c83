package daemon

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/lb/health"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// The health of real servers: what lb/health finds out is put in force here, by
// the same way as a reload, and whoever wants to know is told.

// A ward looks after the health of the real servers.
type ward struct {
	speaker *bfd.Speaker
	monitor *health.Monitor
	checked map[*lb.Service]health.Service // the daemon's mu guards it
	scripts *lanes
	ctx     context.Context // ends with fnatd: what is to be closed later is not
	cancel  context.CancelFunc
	closing sync.WaitGroup
}

// listen opens the sockets that BFD with the servers of a table takes, or none if another
// fnatd has them yet: they are opened when it is gone.
func (w *ward) listen(d *Daemon, t *lb.Table, undo *cleanup) error {
	w.speaker = bfd.NewSpeaker(d.log, bfd.UDP)
	undo.add(func() error { w.speaker.Close(); return nil })
	if d.heir != nil {
		return nil
	}
	return w.speaker.Listen(sessionKeys(t))
}

// open makes w ready for services.
func (w *ward) open(d *Daemon) {
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.scripts = newLanes(d.log)
	w.monitor = health.NewMonitor(d.checkFrom, w.speaker, d.judge)
	d.recallHealth()
}

// check has the servers of a table that is in force checked, and puts in force
// what is known of them. The caller holds d.mu.
func (d *Daemon) check(t *lb.Table) error {
	w := &d.ward
	var services []health.Service
	services, w.checked = checked(t, w.checked)
	w.monitor.Set(services)
	return d.applyHealth()
}

// announce runs the scripts for the quorums that there are at the start.
func (d *Daemon) announce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.engine.View().Table.Services {
		if !s.NoQuorum {
			d.ward.scripts.quorum(s, true, "fnatd starts")
		}
	}
}

// stopHealth ends all checks and scripts.
func (d *Daemon) stopHealth() {
	w := &d.ward
	w.monitor.Close()
	w.cancel()
	w.closing.Wait()
	w.scripts.stop()
	for _, s := range d.engine.View().Table.Services {
		if s.Failover.Omega {
			w.scripts.omega(s)
		}
	}
	w.scripts.wait()
}

// judge puts in force what has changed in the health of the servers.
func (d *Daemon) judge(changes []health.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.applyHealth(); err != nil {
		d.log.Error("health of the real servers is not put in force", "error", err)
		return
	}
	var cut [2][]conntrack.Binding // by dataplane.CloseMode
	for _, c := range changes {
		s := d.engine.View().Table.Service(c.Service.Proto, c.Service.Virtual)
		if s == nil {
			continue // a reload was quicker
		}
		d.tellChange(s, c)
		for mode, b := range d.cut(s, c) {
			cut[mode] = append(cut[mode], b...)
		}
	}
	for mode, servers := range cut {
		d.close(servers, dataplane.CloseMode(mode))
	}
}

// applyHealth makes the table in force one in which the servers are as the
// monitor knows them. The caller holds d.mu.
func (d *Daemon) applyHealth() error {
	now := d.engine.View().Table
	quorumLost := make([]bool, len(now.Services))
	verdicts := make([][]lb.Verdict, len(now.Services))
	d.ward.monitor.Look(func(l health.Look) {
		for i, s := range now.Services {
			quorum, known := l.Quorum(healthID(s))
			quorumLost[i] = known && !quorum
			verdicts[i] = make([]lb.Verdict, len(s.Servers))
			for j, server := range s.Servers {
				if st, known := l.State(healthID(s), j, server.Real); known {
					verdicts[i][j] = verdictOf(st)
				}
			}
		}
	})
	next, err := now.Judge(
		func(s *lb.Server) lb.Verdict { return verdicts[s.Service.Index][s.Index] },
		func(s *lb.Service) bool { return quorumLost[s.Index] })
	if err != nil || next == now {
		return err
	}
	return d.engine.Apply(next)
}

func verdictOf(s health.State) lb.Verdict {
	v := lb.Verdict{Down: !s.Up, Weighted: s.Weighted}
	if s.Weighted {
		v.CheckWeight = s.Weight
	}
	return v
}

type verdictKey struct {
	health.ID
	real packet.Endpoint
}

// tellChange logs a transition and runs what is to be run at it.
func (d *Daemon) tellChange(s *lb.Service, c health.Change) {
	w := &d.ward
	switch up := map[bool]string{true: "up", false: "down"}[c.Up]; {
	case c.Real == packet.Endpoint{} && c.Up:
		d.log.Warn("quorum is up", "service", s.Name)
		w.scripts.quorum(s, true, "")
	case c.Real == packet.Endpoint{}:
		d.log.Warn("quorum is lost", "service", s.Name, "because", c.Reason)
		w.scripts.quorum(s, false, c.Reason)
	case !c.Turned:
		d.log.Info("real server has another weight", "service", s.Name, "real", c.Real, "weight", c.Weight)
	default:
		d.log.Warn("real server is "+up, "service", s.Name, "real", c.Real, "because", c.Reason)
		if server := s.Server(c.Real); server != nil {
			w.scripts.notify(s, server, c.Up, c.Reason)
		}
	}
}

// cut returns the servers whose connections are to be closed after a change. What
// a client sends again shall reach a server that is up: SYNs that were not
// answered, and all of UDP. Other TCP connections are the service's to decide on.
func (d *Daemon) cut(s *lb.Service, c health.Change) (by [2][]conntrack.Binding) {
	bind := func(real packet.Endpoint) conntrack.Binding {
		return conntrack.Binding{Proto: s.Proto, Virtual: s.Virtual, Real: real}
	}
	udp := s.Proto == packet.ProtoUDP
	switch {
	case c.Real == packet.Endpoint{}:
		if c.Up && udp && s.Failover.Sorry.IsValid() { // it has stood in for long enough
			by[dataplane.CloseAll] = append(by[dataplane.CloseAll], bind(packet.EndpointFrom(s.Failover.Sorry)))
		}
	case !c.Turned || c.Up:
	case udp || s.Failover.DownConnections == config.Reset:
		by[dataplane.CloseAll] = append(by[dataplane.CloseAll], bind(c.Real))
	default:
		by[dataplane.CloseUnanswered] = append(by[dataplane.CloseUnanswered], bind(c.Real))
		if s.Failover.DownConnections == config.Drain {
			d.closeLater(s, bind(c.Real))
		}
	}
	return by
}

// close ends connections while everything else goes on.
func (d *Daemon) close(servers []conntrack.Binding, mode dataplane.CloseMode) {
	w := &d.ward
	if len(servers) == 0 || w.ctx.Err() != nil {
		return
	}
	w.closing.Go(func() {
		n, err := d.engine.Close(w.ctx, servers, mode)
		if err == nil && n > 0 {
			d.log.Info("connections closed", "count", n, "servers", len(servers))
		}
	})
}

// closeLater ends the connections of a server when the time to drain is over, if
// it is down all that while.
func (d *Daemon) closeLater(s *lb.Service, b conntrack.Binding) {
	went := time.Now()
	w := &d.ward
	id := healthID(s)
	w.closing.Go(func() {
		select {
		case <-w.ctx.Done():
			return
		case <-time.After(s.Failover.DownDrain):
		}
		if st, ok := w.monitor.State(id, b.Real); ok && !st.Up && !st.Since.After(went) {
			d.close([]conntrack.Binding{b}, dataplane.CloseAll)
		}
	})
}

// checkFrom says where a check of dst comes from. The kernel is right to choose,
// but for a host that has no address towards dst except a local one of fnatd's:
// replies to that, on a port of its range, are not the kernel's.
func (d *Daemon) checkFrom(dst netip.Addr) (src netip.Addr, taken health.PortRange) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 9)))
	if err != nil {
		return // and so will the check
	}
	defer conn.Close()
	src = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	for _, p := range d.engine.View().Table.Pools {
		for _, a := range p.Addrs {
			if a == packet.AddrFromNetip(src) {
				return src, health.PortRange{Min: p.PortMin, Max: p.PortMax}
			}
		}
	}
	return netip.Addr{}, taken
}
