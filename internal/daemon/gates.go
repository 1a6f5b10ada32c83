package daemon

import (
	"errors"
	"time"

	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// claim tells the XDP program, before it is attached, what the gates will be opened
// for. Where it takes the place of a dead fnatd's it then drops what that one has
// dropped; the kernel, which still has the addresses, would answer RST until then.
func (d *Daemon) claim(table *lb.Table) error {
	services := map[bpf.ServiceKey]*bpf.Guard{}
	for _, s := range table.Services {
		services[bpf.ServiceKey{Proto: s.Proto, Virtual: s.Virtual}] = nil
	}
	var locals []bpf.LocalPorts
	if d.heir == nil { // else the table is not at hand yet, and all are in force still
		for _, l := range d.conns.Stats().Locals {
			locals = append(locals, bpf.LocalPorts{Addr: l.Addr, PortMin: l.PortMin, PortMax: l.PortMax})
		}
	}
	for _, p := range table.Pools {
		for _, a := range p.Addrs {
			locals = append(locals, bpf.LocalPorts{Addr: a, PortMin: p.PortMin, PortMax: p.PortMax})
		}
	}
	return errors.Join(d.program.SetServices(services), d.program.SetLocals(locals))
}

// openGates makes the kernel hand over what belongs to table: its VIPs and
// LIPs are put on their interfaces and announced, and the XDP program is told
// the services and the LIPs' ports. What belongs to it no more is taken down.
// LIPs that still carry connections stay, and so do the services whose connections
// may go on for a while.
func (d *Daemon) openGates(table *lb.Table) error {
	var locals []bpf.LocalPorts
	var addresses []route.Address
	vips := map[route.Address]bool{} // several services may share one
	add := func(virtual packet.Endpoint, home string) {
		vip := route.Address{Interface: home, Addr: virtual.Addr.Netip()}
		if !vips[vip] {
			addresses, vips[vip] = append(addresses, vip), true
		}
	}
	for _, s := range table.Services {
		add(s.Virtual, s.Interface)
	}
	for id, home := range d.lingering(table) {
		add(id.Virtual, home)
	}
	for _, p := range table.Pools {
		for _, a := range p.Addrs {
			d.homes[a] = p.Interface
		}
	}
	for _, l := range d.engine.Locals() {
		locals = append(locals, bpf.LocalPorts{Addr: l.Addr, PortMin: l.PortMin, PortMax: l.PortMax})
		addresses = append(addresses, route.Address{Interface: d.homes[l.Addr], Addr: l.Addr.Netip()})
	}
	if d.cfg.Dataplane.ManageAddresses {
		if err := d.addresses.Set(addresses); err != nil {
			return err
		}
	}
	return errors.Join(d.setServices(d.engine.View()), d.program.SetLocals(locals))
}

// lingering returns the services that are not in table and whose connections may go on
// for a while, with the interfaces that their addresses are on.
func (d *Daemon) lingering(table *lb.Table) map[bpf.ServiceKey]string {
	all := map[bpf.ServiceKey]string{}
	for id, o := range d.drains.by {
		if !o.ordered && table.Service(id.Proto, id.Virtual) == nil {
			all[bpf.ServiceKey{Proto: id.Proto, Virtual: id.Virtual}] = o.home
		}
	}
	return all
}

// closeGates stops the kernel from handing anything over. The addresses go first:
// what comes after is then nobody's, where a host that still had them would answer
// with RST.
func (d *Daemon) closeGates() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.guards.at { // whose counters end with it
		d.keepCounts(key)
	}
	d.guards.at = nil
	if err := errors.Join(d.addresses.Set(nil), d.program.SetServices(nil), d.program.SetLocals(nil)); err != nil {
		d.log.Error("services not taken down", "error", err)
	}
}

// Our choices. A server on the link answers within a millisecond; one that does
// not answer at all holds a start or a reload up for no longer than this.
const (
	meetTime = 500 * time.Millisecond
	meetLook = 5 * time.Millisecond
)

// meet has the kernel find the next hops of the real servers that are new in
// table, whose first packets would be lost otherwise.
func (d *Daemon) meet(old, table *lb.Table) {
	known := map[packet.Addr]bool{}
	for _, s := range old.Services {
		for _, server := range s.Servers {
			known[server.Real.Addr] = true
		}
	}
	var fresh []packet.Addr
	for _, s := range table.Services {
		for _, server := range s.Servers {
			if rip := server.Real.Addr; !known[rip] {
				known[rip] = true
				fresh = append(fresh, rip)
			}
		}
	}
	for deadline := time.Now().Add(meetTime); time.Now().Before(deadline); time.Sleep(meetLook) {
		hops, strangers := d.router.Table(), false
		for _, rip := range fresh {
			if id := hops.Lookup(rip); id != 0 && !hops.Hop(id).Resolved {
				d.router.Want(rip)
				strangers = true
			}
		}
		if !strangers {
			return
		}
	}
}
