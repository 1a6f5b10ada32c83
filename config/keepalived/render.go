package keepalived

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

// A writer writes TOML and remembers where each line comes from.
type writer struct {
	text   strings.Builder
	origin []pos
	name   string // of the file that was imported
}

// line writes a line that comes from at.
func (w *writer) line(at pos, format string, args ...any) {
	fmt.Fprintf(&w.text, format+"\n", args...)
	w.origin = append(w.origin, at)
}

// from says where a table comes from.
func (w *writer) from(indent string, t *table, more string) {
	w.line(t.at, "%s# %s", indent, printable(fmt.Sprintf("%v: %s%s", w.short(t.at), t.source, more)))
}

// short returns a place with its file as seen from the imported one's directory.
func (w *writer) short(at pos) pos {
	if rel, err := filepath.Rel(filepath.Dir(w.name), at.file); err == nil && !strings.HasPrefix(rel, "..") {
		at.file = rel
	}
	return at
}

// render writes the draft, made of the file name, as TOML. origin has the place
// that each line comes from.
func (out *draft) render(name string) (text []byte, origin []pos) {
	w := &writer{name: name}
	top := pos{file: name, line: 1}
	w.line(top, "# fnatd's configuration, made of %s by fnatctl import.", printable(filepath.Base(name)))
	w.line(top, "# Check it with fnatd -t; what else can be set, the README says.")
	w.line(top, "")
	w.line(top, "[dataplane]")
	w.line(top, "interfaces = [%s]", quoted(out.interfaces))
	if len(out.vlans) > 0 {
		w.line(top, "vlans = [%s]", quoted(out.vlans))
	}
	for _, p := range out.pools {
		w.pool(p, out.several())
	}
	for _, s := range out.services {
		for _, t := range s.targets {
			w.service(s, t, out)
		}
	}
	return []byte(w.text.String()), w.origin
}

// several reports whether there are several interfaces, so that each pool and
// service has to say which.
func (out *draft) several() bool { return len(out.interfaces)+len(out.vlans) > 1 }

// allPorts are the ports of a LIP: neither LVS nor DPVS lets one choose.
const allPorts = "1024-65535"

func (w *writer) pool(p *pool, several bool) {
	w.line(p.at, "")
	w.from("", &p.table, "")
	w.line(p.at, "[[local_pool]]")
	w.line(p.at, "name = %s", quote(p.name))
	if several {
		w.line(p.ifAt, "interface = %s", quote(p.ifname))
	}
	if len(p.addresses) == 1 {
		w.line(p.addresses[0].at, "addresses = [%s]", quote(p.addresses[0].value))
	} else {
		w.line(p.at, "addresses = [")
		for _, a := range p.addresses {
			w.line(a.at, "  %s,", quote(a.value))
		}
		w.line(p.at, "]")
	}
	w.line(p.at, "ports = %q", allPorts)
}

func (w *writer) service(s *service, t target, out *draft) {
	w.line(s.at, "")
	member := ""
	if t.member {
		member = fmt.Sprintf(", address of %s", w.short(t.at))
	}
	w.from("", &s.table, member)
	if len(s.leftOut) > 0 {
		w.line(s.at, "# Left out, not supported yet: %s", printable(strings.Join(s.leftOut, ", ")))
	}
	w.line(s.at, "[[service]]")
	w.line(s.at, "name = %s", quote(t.name))
	w.line(s.at, "protocol = %s", quote(s.protocol))
	w.line(t.at, "address = %s", quote(t.address))
	if out.several() {
		w.line(s.ifAt, "interface = %s", quote(s.ifname))
	}
	if len(out.pools) > 1 {
		w.line(s.poolAt, "local_pool = %s", quote(s.pool))
	}
	for _, k := range s.settings {
		w.line(k.at, "%s = %s", k.key, k.value)
	}
	if e := s.timeout; e != nil {
		key := map[string]string{"tcp": "established", "udp": "udp"}[s.protocol]
		w.line(e.at, "")
		w.line(e.at, "  [service.timeout]")
		w.line(e.at, "  %s = %s", key, quote(e.args()[0]+"s"))
	}
	w.checks("service.health", s.checks)
	for i := range s.servers {
		w.server(&s.servers[i])
	}
}

// checks writes checks: a single one with one pair of brackets.
func (w *writer) checks(name string, all []*table) {
	if len(all) != 1 {
		name = "[" + name + "]"
	}
	for _, c := range all {
		w.line(c.at, "")
		w.from("  ", c, "")
		w.line(c.at, "  [%s]", name)
		for _, k := range c.settings {
			w.line(k.at, "  %s = %s", k.key, k.value)
		}
	}
}

func (w *writer) server(r *server) {
	w.line(r.at, "")
	w.from("  ", &r.table, "")
	w.line(r.at, "  [[service.real_server]]")
	for _, k := range r.settings {
		w.line(k.at, "  %s = %s", k.key, k.value)
	}
	w.checks("service.real_server.health", r.checks)
}

// quote returns s as a TOML string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

func quoted(all []string) string {
	var q []string
	for _, s := range all {
		q = append(q, quote(s))
	}
	return strings.Join(q, ", ")
}

// printable returns s without what may not be in a comment.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}
