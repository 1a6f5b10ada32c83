package keepalived

import (
	"slices"
	"strings"
)

// chooseInterfaces decides which interfaces fnatd serves, and gives each service
// and pool that does not name one the only one there is.
func (d *importer) chooseInterfaces(out *draft) {
	if d.opts.Interface != "" {
		d.override(out)
	}
	for _, p := range out.pools {
		out.serve(p.ifname)
	}
	for _, s := range out.services {
		out.serve(s.ifname)
	}
	all := slices.Concat(out.interfaces, out.vlans)
	if len(all) == 1 || len(out.services) == 0 && len(out.pools) == 0 {
		return // config gives everything the only one
	}
	const remedy = "or say fnatctl import --interface eth0"
	for _, p := range out.pools {
		if p.ifname == "" {
			d.fail(p.at, "local_address_group %s: on which interface is not said (write it behind the addresses, %s)", p.name, remedy)
			if len(all) == 0 {
				return // once is enough
			}
		}
	}
	for _, s := range out.services {
		if s.ifname == "" {
			d.fail(s.at, "virtual_server: on which interface is not said (add vip_bind_dev, %s)", remedy)
			if len(all) == 0 {
				return
			}
		}
	}
}

// override puts everything on the interface of the command line.
func (d *importer) override(out *draft) {
	change := func(name *string, at pos) {
		if *name != "" && *name != d.opts.Interface {
			d.note(at, "interface %s: --interface %s takes its place", *name, d.opts.Interface)
		}
		*name = d.opts.Interface
	}
	for _, p := range out.pools {
		change(&p.ifname, p.ifAt)
	}
	for _, s := range out.services {
		change(&s.ifname, s.ifAt)
	}
}

// serve adds an interface. A VLAN interface is named after the card below it.
func (out *draft) serve(name string) {
	add := func(names *[]string, name string) {
		if name != "" && !slices.Contains(*names, name) {
			*names = append(*names, name)
		}
	}
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		card, _, _ := strings.Cut(name, ".")
		add(&out.interfaces, card)
		add(&out.vlans, name)
		return
	}
	add(&out.interfaces, name)
}
