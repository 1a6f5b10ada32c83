package keepalived

import (
	"net/netip"
	"strings"
)

// A group is a virtual_server_group.
type group struct {
	name    string
	members []member
}

// A member is one address of a group.
type member struct {
	addr netip.Addr
	port string
	at   pos
}

func (d *importer) virtualGroup(s *statement) {
	name, ok := d.groupName(s)
	if !ok {
		return
	}
	if d.groups[name] != nil {
		d.fail(s.at, "virtual_server_group %s: there is one of this name already (choose another)", name)
		return
	}
	g := &group{name: name}
	d.groups[name] = g
	for _, m := range s.block {
		switch {
		case m.key() == "fwmark":
			d.fail(m.at, "virtual_server_group %s: fwmark: %s", name, noFwmark)
		case len(m.words) == 1:
			d.fail(m.at, "virtual_server_group %s: %s: %s", name, m.key(), noPort)
		case len(m.words) > 2 || m.open:
			d.fail(m.at, "virtual_server_group %s: %q: want an address or range and a port, as 203.0.113.10-12 80", name, strings.Join(m.words, " "))
		default:
			d.expand(g, m)
		}
	}
}

const (
	noSourceNAT = "fnatd does no source NAT (leave it to nftables, and remove it)"
	noFwmark    = "fnatd has no firewall marks (write the addresses and ports that the mark stands for)"
	noPort      = "the port is left out, and fnatd balances single ports (write a service for each port)"
)

// groupName returns the name of a group.
func (d *importer) groupName(s *statement) (string, bool) {
	if len(s.words) != 2 || !s.open {
		d.fail(s.at, "%s: want a name and a block, as %s NAME { … }", strings.Join(s.words, " "), s.key())
		return "", false
	}
	return s.words[1], true
}

// expand adds the addresses of a range to g.
func (d *importer) expand(g *group, m *statement) {
	from, to, err := parseRange(m.key())
	if err != "" {
		d.fail(m.at, "virtual_server_group %s: %q: %s", g.name, m.key(), err)
		return
	}
	if strings.Contains(m.key(), "/") {
		d.note(m.at, "virtual_server_group %s: %s: is every address from %v to %v, the ends included", g.name, m.key(), from, to)
	}
	for addr := from; addr.IsValid() && !to.Less(addr); addr = addr.Next() {
		if !d.count(m.at) {
			return
		}
		g.members = append(g.members, member{addr, m.words[1], m.at})
	}
}

// count counts an address or a real server against the limit, and reports
// whether it is within.
func (d *importer) count(at pos) bool {
	if d.entries--; d.entries == -1 {
		d.fail(at, "with it there are more addresses and real servers than fnatd imports (use smaller ranges)")
	}
	return d.entries >= 0
}

// parseRange returns the ends of a range: a.b.c.d, a.b.c.d-e, a.b.c.d-e.f.g.h or
// a network, and what is wrong with it.
func parseRange(s string) (from, to netip.Addr, wrong string) {
	const want = "not an address or range (want it as 203.0.113.10, 203.0.113.10-12 or 203.0.113.8/29)"
	if p, err := netip.ParsePrefix(s); err == nil {
		from = p.Masked().Addr()
		return from, lastOf(p), ""
	}
	low, high, isRange := strings.Cut(s, "-")
	from, err := netip.ParseAddr(low)
	if err != nil || from.Zone() != "" {
		return from, to, want
	}
	if !isRange {
		return from, from, ""
	}
	if !strings.ContainsAny(high, ".:") {
		high = low[:strings.LastIndexAny(low, ".:")+1] + high
	}
	if to, err = netip.ParseAddr(high); err != nil || to.BitLen() != from.BitLen() || to.Zone() != "" {
		return from, to, want
	}
	if to.Less(from) {
		return from, to, "the range is backwards (write the lower address first)"
	}
	return from, to, ""
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// localGroup takes a local_address_group: addresses and ranges, and behind each,
// in DPVS, the interface.
func (d *importer) localGroup(s *statement) {
	name, ok := d.groupName(s)
	if !ok {
		return
	}
	if d.pools[name] != nil {
		d.fail(s.at, "local_address_group %s: there is one of this name already (choose another)", name)
		return
	}
	p := &pool{name: name, table: table{at: s.at, source: strings.Join(s.words, " ")}}
	d.pools[name] = p
	d.order = append(d.order, p)
	for _, a := range s.block {
		if len(a.words) > 2 || a.open {
			d.fail(a.at, "local_address_group %s: %q: want an address or range, and its interface if the group needs one", name, strings.Join(a.words, " "))
			continue
		}
		from, to, wrong := parseRange(a.key())
		switch {
		case wrong != "":
			d.fail(a.at, "local_address_group %s: %q: %s", name, a.key(), wrong)
			continue
		case from == to:
			p.addresses = append(p.addresses, setting{value: from.String(), at: a.at})
		default:
			p.addresses = append(p.addresses, setting{value: from.String() + "-" + to.String(), at: a.at})
		}
		if len(a.words) == 2 {
			d.poolInterface(p, a)
		}
	}
}

// poolInterface notes the interface of an address; all of a pool are on one.
func (d *importer) poolInterface(p *pool, a *statement) {
	switch ifname := a.words[1]; {
	case p.ifname == "":
		p.ifname, p.ifAt = ifname, a.at
	case p.ifname != ifname && d.opts.Interface == "":
		d.fail(a.at, "local_address_group %s: %s is on %s and those before on %s (make a group for each interface, or say fnatctl import --interface)", p.name, a.key(), ifname, p.ifname)
	}
}
