package keepalived

import (
	"slices"
	"strings"
)

// realServer adds a real_server to v.
func (d *importer) realServer(v *service, s *statement) {
	r := server{table: table{at: s.at, source: strings.Join(s.words, " ")}, level: level{}}
	switch len(s.args()) {
	case 2:
		r.set("address", quote(join(s.args()[0], s.args()[1])), s.at)
	case 1:
		d.fail(s.at, "%s: the port is left out (write the one that the server listens on)", r.source)
	default:
		d.fail(s.at, "%s: want an address and a port", r.source)
	}
	for range v.targets {
		if !d.count(s.at) {
			return
		}
	}
	method := v.method // which that of a real server does not change
	v.in = &r
	d.apply(v, s.block, serverRules, "real_server: ")
	v.in, v.method = nil, method
	d.serverNumbers(&r.table, s.block)
	v.servers = append(v.servers, r)
}

// serverNumbers writes weight and thresholds, of each the last.
func (d *importer) serverNumbers(r *table, block []*statement) {
	found := map[string]*statement{}
	for _, s := range block {
		found[s.key()] = s
	}
	integer := func(from, to string) {
		if s := found[from]; s != nil {
			if text, ok := d.arg(s, "a number"); ok {
				r.set(to, number(text), s.at)
			}
		}
	}
	integer("weight", "weight")
	integer("uthreshold", "upper_threshold")
	if s := found["lthreshold"]; s != nil && (found["uthreshold"] == nil || isZero(found["uthreshold"])) {
		d.note(s.at, "real_server: lthreshold: has no effect without uthreshold, left out")
		return
	}
	integer("lthreshold", "lower_threshold")
}

func isZero(s *statement) bool { return len(s.args()) == 1 && number(s.args()[0]) == "0" }

// setting remembers what counts only when all of the virtual_server is read.
func (d *importer) setting(v *service, s *statement) {
	l := v.level
	if v.in != nil {
		l = v.in.level
	}
	l[canonical(s.key())] = s
}

// checker remembers a checker.
func (d *importer) checker(v *service, s *statement) {
	v.in.checkers = append(v.in.checkers, s)
}

// sorryServer takes the server that stands in for the others.
func (d *importer) sorryServer(v *service, s *statement) {
	switch {
	case len(s.args()) == 2 && !s.open:
		v.set("sorry_server", quote(join(s.args()[0], s.args()[1])), s.at)
	case len(s.args()) == 1:
		d.fail(s.at, "%s: the port is left out (write the one that the server listens on)", strings.Join(s.words, " "))
	default:
		d.fail(s.at, "%s: want an address and a port", strings.Join(s.words, " "))
	}
}

// sorryKind takes the forwarding method of the sorry server.
func (d *importer) sorryKind(v *service, s *statement) {
	method := v.method
	d.kind(v, s)
	v.method = method
}

// health makes the checks of all servers, and writes those that all have once.
func (d *importer) health(v *service) {
	for i := range v.servers {
		d.checks(v, &v.servers[i])
	}
	d.transitions(v)
	d.inhibit(v)
	d.expire(v)
	d.idle(v)
	if len(v.servers) == 0 || len(v.servers[0].checks) == 0 {
		return
	}
	for _, r := range v.servers[1:] {
		if !slices.EqualFunc(r.checks, v.servers[0].checks, (*table).same) {
			return
		}
	}
	v.checks = v.servers[0].checks
	for i := range v.servers {
		v.servers[i].checks = nil
	}
}

// expire writes expire_quiescent_conn of DPVS, by which the connections of a
// server that is down end.
func (d *importer) expire(v *service) {
	s := v.level["expire_quiescent_conn"]
	switch checked := slices.ContainsFunc(v.servers, func(r server) bool { return len(r.checks) > 0 }); {
	case s == nil || !checked || !d.truth(s): // without checks, idle says so
	case v.protocol == "udp":
		d.note(s.at, "virtual_server: expire_quiescent_conn: UDP flows of a server that is down always move, passed over")
	default:
		v.set("down_connections", quote("reset"), s.at)
	}
}

// idle notes what is set for checks where there are none.
func (d *importer) idle(v *service) {
	tell := func(context string, l level) {
		for key, s := range l {
			if key != "quorum" && key != "hysteresis" && key != "omega" {
				d.note(s.at, "%s: %s: has no effect without a checker, left out", context, key)
			}
		}
	}
	unchecked := func(r server) bool { return len(r.checks) == 0 }
	for _, r := range v.servers {
		if unchecked(r) {
			tell("real_server", r.level)
		}
	}
	if !slices.ContainsFunc(v.servers, func(r server) bool { return !unchecked(r) }) {
		tell("virtual_server", v.level)
	}
}

// same reports whether t and o set the same, wherever it stands.
func (t *table) same(o *table) bool {
	return slices.EqualFunc(t.settings, o.settings, func(a, b setting) bool { return a.key == b.key && a.value == b.value })
}

// inhibit writes inhibit_on_failure, which fnatd has for whole services.
func (d *importer) inhibit(v *service) {
	var given *statement
	checked, inhibited := 0, 0
	for i := range v.servers {
		r := &v.servers[i]
		if len(r.checks) == 0 {
			continue
		}
		checked++
		if s := (levels{r.level, v.level}).find("inhibit_on_failure"); s != nil && d.truth(s) {
			given = s
			inhibited++
		}
	}
	switch {
	case inhibited == 0:
	case inhibited == checked:
		v.set("on_down", quote("inhibit"), given.at)
	default:
		d.note(given.at, "real_server: inhibit_on_failure: fnatd has it for all servers of a service or none, left out")
	}
}

// truth returns the value of a statement that is on without one.
func (d *importer) truth(s *statement) bool {
	if len(s.args()) == 0 {
		return true
	}
	switch text, _ := d.arg(s, "on or off"); strings.ToLower(text) {
	case "on", "true", "yes":
		return true
	case "off", "false", "no":
		return false
	}
	d.fail(s.at, "%s: want on or off", strings.Join(s.words, " "))
	return false
}
