package keepalived

import (
	"maps"
	"slices"
	"strings"
)

// virtualServer makes a service of a virtual_server; nil if it has no addresses
// that could be used, which is reported.
func (d *importer) virtualServer(s *statement) *service {
	v := &service{table: table{at: s.at, source: strings.Join(s.words, " ")}, level: level{}}
	v.targets = d.targets(s)
	if !s.open {
		d.fail(s.at, "%s: want a block behind it, as { real_server 10.0.2.11 80 { } }", v.source)
	}
	d.apply(v, s.block, virtualRules, "virtual_server: ")
	switch {
	case v.protocol == "":
		d.note(s.at, "virtual_server: protocol is left out, taken for TCP (write protocol UDP if that is meant)")
		v.protocol = "tcp"
	case v.protocol == "udp":
		for i := range v.targets {
			v.targets[i].name += "/udp"
		}
	}
	if v.method == "" {
		d.note(s.at, becomesFULLNAT, "virtual_server", "NAT, which a lb_kind left out means,")
	}
	d.dependent(v)
	if v.targets == nil {
		return nil
	}
	return v
}

// targets returns the addresses of a virtual_server.
func (d *importer) targets(s *statement) []target {
	args := s.args()
	switch {
	case len(args) > 0 && args[0] == "fwmark":
		d.fail(s.at, "virtual_server: fwmark: %s", noFwmark)
	case len(args) == 1:
		d.fail(s.at, "virtual_server %s: %s", args[0], noPort)
	case len(args) != 2:
		d.fail(s.at, "%s: want an address and a port, or group NAME", strings.Join(s.words, " "))
	case args[0] == "match":
		d.fail(s.at, "virtual_server: match: %s", noSourceNAT)
	case args[0] != "group":
		address := join(args[0], args[1])
		return []target{{name: address, address: address, at: s.at}}
	default:
		return d.groupTargets(args[1], s.at)
	}
	return nil
}

// groupTargets returns the addresses of a virtual_server_group.
func (d *importer) groupTargets(name string, at pos) (all []target) {
	g := d.groups[name]
	if g == nil {
		d.fail(at, "virtual_server: group %q: there is no such virtual_server_group (add it, or correct the name)", name)
		return nil
	}
	if len(g.members) == 0 {
		d.fail(at, "virtual_server: group %q has no address (add one, or remove the virtual_server)", name)
	}
	for _, m := range g.members {
		t := target{name, true, join(m.addr.String(), m.port), m.at}
		if len(g.members) > 1 {
			t.name += " " + t.address
		}
		all = append(all, t)
	}
	return all
}

// join puts address and port together as TOML has them. It leaves what is no
// address as it is, for config to say so.
func join(addr, port string) string {
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return addr + ":" + port
}

// apply follows the rules for each statement of a block.
func (d *importer) apply(v *service, block []*statement, rules map[string]rule, context string) {
	last := map[string]*statement{}
	for _, s := range block {
		last[canonical(s.key())] = s
	}
	for _, s := range block {
		key := s.key()
		r, known := rules[key]
		switch counts := last[canonical(key)]; {
		case !known:
			d.unknown(s, context, slices.Collect(maps.Keys(rules)))
		case r.last && counts != s:
			d.note(s.at, "%s%s: given again at %v, which counts", context, key, counts.at)
		case r.refuse != "":
			d.fail(s.at, "%s%s: %s", context, key, r.refuse)
		case r.foreign:
			d.note(s.at, "%s%s: not a balancer's, passed over", context, key)
		case r.remark != "":
			d.note(s.at, "%s%s: %s, passed over", context, key, r.remark)
		case r.later:
			d.leaveOut(v, s, context)
		case r.take != nil:
			r.take(d, v, s)
		}
	}
}

// leaveOut notes that s has no counterpart yet, and remembers it for the comment
// above the service.
func (d *importer) leaveOut(v *service, s *statement, context string) {
	d.note(s.at, "%s%s: not supported yet by this version, left out", context, s.key())
	if !slices.Contains(v.leftOut, s.key()) {
		v.leftOut = append(v.leftOut, s.key())
	}
}
