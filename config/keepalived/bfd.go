package keepalived

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// instanceKeys are the keywords of a bfd_instance.
const instanceKeys = "neighbor_ip neighbour_ip source_ip min_rx min_tx idle_tx multiplier passive ttl hoplimit max_hops multihop weight vrrp checker"

// What keepalived does where fnatd does something else unless it is told.
const (
	hoplimit = "64" // TTL of IPv6
	anyHops  = "255"
)

// A session is a bfd_instance.
type session struct {
	*statement
	level level // what is in it
	used  bool
}

// session remembers a bfd_instance. Of two with a name keepalived takes the first.
func (d *importer) session(s *statement) {
	name := s.args()[0]
	if first := d.sessions[name]; first != nil {
		d.note(s.at, "bfd_instance %s: there is one at %v already, which counts", name, first.at)
		return
	}
	d.sessions[name] = &session{statement: s, level: levelOf(s.block)}
}

// bfdCheck makes a check of the session that a bfd_instance block describes.
func (d *importer) bfdCheck(r *server, s *statement, at levels) {
	named := at[0]["name"]
	if named == nil {
		d.fail(s.at, "real_server: BFD_CHECK: there is no name (write that of a bfd_instance)")
		return
	}
	name, ok := d.arg(named, "the name of a bfd_instance")
	if !ok {
		return
	}
	b := d.sessions[name]
	if b == nil {
		d.fail(named.at, "real_server: BFD_CHECK: name %q: there is no such bfd_instance (add it, or correct the name)", name)
		return
	}
	if !b.used {
		b.used = true
		d.instance(b)
	}
	c := &table{at: s.at, source: s.key() + " " + name}
	c.set("type", `"bfd"`, s.at)
	if a := at.find("alpha"); a != nil && d.truth(a) {
		c.set("alpha", "true", a.at)
	}
	d.neighbor(c, b, r)
	d.text(c, b.level, "source_ip", "source", quote)
	for _, key := range []string{"min_tx", "min_rx", "idle_tx"} {
		if k := b.level[key]; k != nil {
			if text, ok := d.arg(k, "a number of milliseconds"); ok {
				c.set(key, quote(text+"ms"), k.at)
			}
		}
	}
	d.text(c, b.level, "multiplier", "multiplier", number)
	if p := b.level["passive"]; p != nil {
		c.set("passive", "true", p.at)
	}
	d.hops(c, b)
	r.checks = append(r.checks, c)
}

// instance checks a bfd_instance that a check uses.
func (d *importer) instance(b *session) {
	context := "bfd_instance " + b.args()[0] + ": "
	d.checkBlock(b.statement, context, instanceKeys)
	if v := b.level["vrrp"]; v != nil && b.level["checker"] == nil {
		d.fail(v.at, "%svrrp: it is VRRP's alone, and a BFD_CHECK names it (remove this, or add checker)", context)
	}
	if w := b.level["weight"]; w != nil {
		d.note(w.at, "%sweight: of concern to VRRP only, passed over", context)
	}
}

// last returns the last statement of keywords that mean the same, or nil.
func (b *session) last(keys ...string) (last *statement) {
	for _, s := range b.block {
		if slices.Contains(keys, s.key()) {
			last = s
		}
	}
	return last
}

// peer returns the statement of the neighbor's address, or nil.
func (b *session) peer() *statement { return b.last("neighbor_ip", "neighbour_ip") }

// neighbor sets where the session goes, unless that is the real server.
func (d *importer) neighbor(c *table, b *session, r *server) {
	n := b.peer()
	if n == nil {
		d.fail(b.at, "bfd_instance %s: there is no neighbor_ip (write the address of the host that speaks BFD)", b.args()[0])
		return
	}
	if text, ok := d.arg(n, "an address"); ok && !r.isAt(text) {
		c.set("address", quote(text), n.at)
	}
}

// isAt reports whether an address is that of r.
func (r *server) isAt(text string) bool {
	a, err := netip.ParseAddr(text)
	i := slices.IndexFunc(r.settings, func(s setting) bool { return s.key == "address" })
	if err != nil || i < 0 {
		return false
	}
	unquoted, _ := strconv.Unquote(r.settings[i].value)
	real, err := netip.ParseAddrPort(unquoted)
	return err == nil && real.Addr() == a
}

// hops sets what concerns the way to the neighbor.
func (d *importer) hops(c *table, b *session) {
	multihop := b.level["multihop"]
	if multihop != nil && !d.truth(multihop) {
		multihop = nil
	}
	if multihop != nil {
		c.set("multihop", "true", multihop.at)
	}
	switch t, n := b.last("ttl", "hoplimit"), b.peer(); {
	case t != nil:
		if text, ok := d.arg(t, "a number"); ok {
			c.set("ttl", number(text), t.at)
		}
	case n != nil && strings.Contains(strings.Join(n.args(), " "), ":"):
		c.set("ttl", hoplimit, b.at)
	}
	switch m := b.level["max_hops"]; {
	case m != nil:
		if text, ok := d.arg(m, "a number"); ok && text == "-1" {
			c.set("max_hops", anyHops, m.at)
		} else if ok {
			c.set("max_hops", number(text), m.at)
		}
	case multihop != nil:
		c.set("max_hops", "0", multihop.at)
	}
}
