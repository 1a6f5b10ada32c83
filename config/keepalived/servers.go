package keepalived

import "strings"

// realServer adds a real_server to v.
func (d *importer) realServer(v *service, s *statement) {
	r := table{at: s.at, source: strings.Join(s.words, " ")}
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
	d.apply(v, s.block, serverRules, "real_server: ")
	v.method = method
	d.serverNumbers(&r, s.block)
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
