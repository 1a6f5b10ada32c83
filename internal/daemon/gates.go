package daemon

import (
	"errors"
	"slices"
	"time"

	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/lb"
)

// openGates makes the kernel hand over what belongs to table: its VIPs and
// LIPs are put on their interfaces and announced, and the XDP program is told
// the services and the LIPs' ports. What belongs to it no more is taken down.
// LIPs that still carry connections stay.
func (d *Daemon) openGates(table *lb.Table) error {
	var locals []bpf.LocalPorts
	var addresses []route.Address
	for _, s := range table.Services {
		vip := route.Address{Interface: s.Interface, Addr: s.Virtual.Addr.Netip()}
		if !slices.Contains(addresses, vip) { // several services may share a VIP
			addresses = append(addresses, vip)
		}
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

// closeGates stops the kernel from handing anything over. The addresses go first:
// what comes after is then nobody's, where a host that still had them would answer
// with RST.
func (d *Daemon) closeGates() {
	d.mu.Lock()
	defer d.mu.Unlock()
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

// meet has the kernel find the next hops of table's real servers, whose first
// packets would be lost otherwise.
func (d *Daemon) meet(table *lb.Table) {
	for deadline := time.Now().Add(meetTime); time.Now().Before(deadline); time.Sleep(meetLook) {
		hops, strangers := d.router.Table(), false
		for _, s := range table.Services {
			for _, server := range s.Servers {
				if id := hops.Lookup(server.Real.Addr); id != 0 && !hops.Hop(id).Resolved {
					d.router.Want(server.Real.Addr)
					strangers = true
				}
			}
		}
		if !strangers {
			return
		}
	}
}
