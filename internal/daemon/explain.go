package daemon

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/packet"
)

// An explainer follows a flow the way that a worker would, and writes down what
// it finds. It changes nothing: no connection, nobody's turn.
type explainer struct {
	d    *Daemon
	view *dataplane.View
	flow packet.Flow
	ctl.Explanation
}

// Explain implements ctl.Backend.
func (d *Daemon) Explain(f ctl.Flow) ctl.Explanation {
	e := &explainer{d: d, Explanation: ctl.Explanation{Flow: f}}
	client, virtual := packet.EndpointFrom(f.Client), packet.EndpointFrom(f.Virtual)
	e.flow = packet.Flow{Src: client.Addr, SrcPort: client.Port, Dst: virtual.Addr, DstPort: virtual.Port, Proto: packet.ProtoTCP}
	if f.Protocol == "udp" {
		e.flow.Proto = packet.ProtoUDP
	}
	c, ok := d.find(&e.flow)
	e.view = d.engine.View() // not older than the connection, so that it knows its target
	if ok {
		e.connected(&c)
	} else {
		e.admitted()
	}
	return e.Explanation
}

// find returns a copy of the connection of a client's flow.
func (d *Daemon) find(f *packet.Flow) (conntrack.Conn, bool) {
	k := d.conns.InboundKey(f)
	s := d.conns.Lock(k)
	defer s.Unlock()
	if c := s.Find(k, f); c != nil {
		return c.Copy(), true
	}
	return conntrack.Conn{}, false
}

func (e *explainer) step(what, format string, args ...any) {
	e.Steps = append(e.Steps, ctl.Step{What: what, Text: fmt.Sprintf(format, args...)})
}

// connected explains a flow that has a connection.
func (e *explainer) connected(c *conntrack.Conn) {
	answer := e.d.connection(c)
	e.Verdict, e.Connection = ctl.Forwarded, &answer
	t := e.view.Target(c.Binding())
	e.service(t.Service)
	e.step("connection", "%s, expires in %v if nothing comes", answer.State, time.Duration(answer.ExpiresSeconds*float64(time.Second)).Round(time.Second))
	if t.Gone {
		e.step("real server", "%s, which has left the configuration: see fnatctl drain", answer.Real)
	} else {
		e.server(t, "as chosen when the connection was made")
	}
	e.step("local", "%s", answer.Local)
	e.step("queue", "%s", e.queues(dataplane.Home(c, len(e.d.engine.Workers()))))
	e.hops(packet.EndpointFrom(answer.Real).Addr)
	in, out := e.d.conns.InboundFlow(c), e.d.conns.OutboundFlow(c)
	e.lastDrop(in, out, reply(out), reply(in))
}

// admitted explains a flow whose next packet would open a connection.
func (e *explainer) admitted() {
	defer e.lastDrop(e.flow)
	s := e.view.Table.Service(e.flow.Proto, e.flow.Destination())
	if s == nil {
		e.Verdict = ctl.WouldNotArrive
		e.step("service", "none at %s %s: the kernel keeps the packet", e.Protocol, e.Virtual)
		return
	}
	svc := e.view.Services[s.Index]
	e.service(svc)
	server, why := e.choice(svc)
	if server == nil {
		e.step("real server", "none: %s", why)
		e.drop(packet.NoServer)
		return
	}
	e.server(server, why)
	st := e.d.conns.Stats()
	e.step("table", "%d of %d connections, %d half-open", st.Connections+st.Templates, st.Capacity, st.HalfOpen)
	if st.Connections+st.Templates >= st.Capacity && st.HalfOpen == 0 {
		e.drop(packet.TableFull)
		return
	}
	if !e.locals(svc, &st, server) {
		e.drop(packet.NoLocalPort)
		return
	}
	e.step("queue", "%s", e.arrival(svc))
	if !e.hops(server.Server.Real.Addr) {
		e.drop(packet.NoRoute)
		return
	}
	e.Verdict = ctl.WouldForward
}

func (e *explainer) drop(why packet.Reason) { e.Verdict, e.Reason = ctl.WouldDrop, why.String() }

func (e *explainer) service(s *dataplane.Service) {
	text := fmt.Sprintf("%s: %s, pool %s, client address %s", s.Name, s.Scheduler, s.Pool.Name, s.ClientAddress)
	if s.Persistence > 0 {
		text += fmt.Sprintf(", persistent %v", s.Persistence)
	}
	e.step("service", "%s", text)
}

// choice returns the real server that a new connection would go to, and why.
func (e *explainer) choice(s *dataplane.Service) (*dataplane.Target, string) {
	if t := e.persisted(s); t != nil {
		return t, "this client's, by persistence"
	}
	server, why := s.Explain(e.flow.Source())
	if server == nil {
		return nil, why
	}
	return &dataplane.Target{Service: s, Server: server}, why
}

// persisted returns the real server that the client is persisted to, if it takes
// connections.
func (e *explainer) persisted(s *dataplane.Service) *dataplane.Target {
	if s.Persistence == 0 {
		return nil
	}
	who := s.PersistenceKey(e.flow.Src)
	k := e.d.conns.TemplateKey(s.Proto, who, s.Virtual)
	shard := e.d.conns.Lock(k)
	defer shard.Unlock()
	c := shard.FindTemplate(k, s.Proto, who, s.Virtual)
	if c == nil {
		return nil
	}
	if t := e.view.Target(c.Binding()); t != nil && !t.Gone && t.Server.Available() {
		return t
	}
	return nil
}

func (e *explainer) server(t *dataplane.Target, why string) {
	s := t.Server
	text := fmt.Sprintf("%s: %s; weight %d, %d active, %d inactive", s.Real, why, s.Weight, atLeastNone(s.Load.Active.Load()), atLeastNone(s.Load.Inactive.Load()))
	if s.Upper > 0 {
		text += fmt.Sprintf(", no more than %d", s.Upper)
	}
	e.step("real server", "%s", text)
}

// locals says which local addresses there are to choose from, and reports whether
// any has a port.
func (e *explainer) locals(s *dataplane.Service, st *conntrack.Stats, t *dataplane.Target) bool {
	is4, free, conflicting := t.Server.Real.Addr.Is4(), 0, 0
	var lips []string
	for _, l := range st.Locals {
		for _, a := range s.Pool.Addrs {
			if a == l.Addr && a.Is4() == is4 {
				lips = append(lips, a.String())
				free += l.Free
				conflicting += l.InUse
			}
		}
	}
	e.step("local", "one of %d idle ports of %s, or of %d that lead to other real servers", free, strings.Join(lips, ", "), conflicting)
	return free+conflicting > 0
}

// arrival says by which queue the client's next packet comes.
func (e *explainer) arrival(s *dataplane.Service) string {
	for i, p := range e.d.ports {
		if p.name != s.Interface {
			continue
		}
		if w, ok := e.d.engine.ArrivesBy(i, &e.flow); ok {
			return e.queues([]int{w})
		}
	}
	return fmt.Sprintf("any of %d workers': %s does not tell how it spreads packets", len(e.d.engine.Workers()), s.Interface)
}

// queues names workers and their queues.
func (e *explainer) queues(workers []int) string {
	e.d.fleet.mu.RLock()
	defer e.d.fleet.mu.RUnlock()
	var all []string
	for _, w := range workers {
		if w >= len(e.d.fleet.queues) {
			continue
		}
		var rings []string
		e.d.fleet.eachOf(w, func(at spot, _ *xsk.Socket) {
			rings = append(rings, fmt.Sprintf("%s/%d", e.d.ports[at.port].name, at.queue))
		})
		all = append(all, fmt.Sprintf("worker %d (%s)", w, strings.Join(rings, ", ")))
	}
	if len(all) == 0 {
		return "of a worker that rests"
	}
	return strings.Join(all, " or ")
}

// hops says where packets go next, and reports whether there is a route to the
// real server.
func (e *explainer) hops(real packet.Addr) bool {
	table := e.d.router.Table()
	toReal := table.Lookup(real)
	e.step("to real server", "%s", e.hop(table, toReal))
	e.step("to client", "%s", e.hop(table, table.Lookup(e.flow.Src)))
	return toReal != 0
}

func (e *explainer) hop(table *route.Table, id route.HopID) string {
	if id == 0 {
		return "no route through the interfaces that fnatd serves"
	}
	h := table.Hop(id)
	text := "by " + e.d.ports[h.Port].name
	if h.Gateway != (packet.Addr{}) {
		text += " via " + h.Gateway.String()
	}
	if !h.Resolved {
		return text + ", whose MAC address is not known yet"
	}
	return fmt.Sprintf("%s at %s, MTU %d", text, net.HardwareAddr(h.Dst[:]), h.MTU)
}

// lastDrop adds why a packet of one of these flows was dropped last.
func (e *explainer) lastDrop(flows ...packet.Flow) {
	why, ago := e.d.engine.LastDrop(flows...)
	if why == packet.Kept {
		return
	}
	e.LastDrop = &ctl.LastDrop{Drop: ctl.NewDrop(why.String(), 0), AgoSeconds: float64(ago) / 1000}
}

// reply returns the flow in the other direction.
func reply(f packet.Flow) packet.Flow {
	f.Src, f.Dst = f.Dst, f.Src
	f.SrcPort, f.DstPort = f.DstPort, f.SrcPort
	return f
}
