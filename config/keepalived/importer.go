package keepalived

import (
	"strings"

	"github.com/fnatd/fnatd/config"
)

// An importer makes a draft of statements.
type importer struct {
	*report
	limits
	opts   Options
	groups map[string]*group // virtual_server_group by name
	pools  map[string]*pool  // local_address_group by name
	order  []*pool           // in the order of the file

	trackFiles map[string]*trackFile // by name
	sessions   map[string]*session   // bfd_instance by name
	user       *statement            // script_user of global_defs, or nil
}

// A trackFile is a track_file block.
type trackFile struct {
	*statement
	level level // what is in it
	used  bool
}

func newImporter(r *report, o Options, l limits) *importer {
	return &importer{report: r, limits: l, opts: o, groups: map[string]*group{}, pools: map[string]*pool{}, trackFiles: map[string]*trackFile{}, sessions: map[string]*session{}}
}

// draft makes the draft. Groups may stand behind the services that name them,
// so they come first.
func (d *importer) draft(blocks []*statement) *draft {
	out := &draft{}
	for _, s := range blocks {
		switch s.key() {
		case "virtual_server_group":
			d.virtualGroup(s)
		case "local_address_group":
			d.localGroup(s)
		case "track_file", "vrrp_track_file":
			if len(s.args()) == 1 {
				d.trackFiles[s.args()[0]] = &trackFile{statement: s, level: levelOf(s.block)}
			}
		case "bfd_instance":
			if len(s.args()) == 1 {
				d.session(s)
			}
		case "global_defs":
			if u := levelOf(s.block)["script_user"]; u != nil {
				d.user = u
			}
		}
	}
	for _, s := range blocks {
		if s.key() == "virtual_server" {
			if v := d.virtualServer(s); v != nil {
				out.services = append(out.services, v)
			}
		} else {
			d.others(s)
		}
	}
	for _, f := range d.trackFiles {
		if !f.used {
			d.note(f.at, "%s: no FILE_CHECK uses it, passed over", strings.Join(f.words, " "))
		}
	}
	for name, b := range d.sessions {
		if !b.used {
			d.note(b.at, "bfd_instance %s: no BFD_CHECK uses it, passed over", name)
		}
	}
	before := len(d.errors)
	d.choosePools(out)
	d.chooseInterfaces(out)
	out.incomplete = len(d.errors) > before
	return out
}

// levelOf returns the last statement of each keyword in a block.
func levelOf(block []*statement) level {
	l := level{}
	for _, s := range block {
		l[s.key()] = s
	}
	return l
}

// others takes the statements of the outermost level that are no services.
func (d *importer) others(s *statement) {
	switch key := s.key(); {
	case key == "virtual_server_group", key == "local_address_group":
	case key == "deny_address_group", key == "allow_address_group", key == "tunnel_group":
		d.note(s.at, "%s: not supported yet by this version, left out", key)
	case (key == "track_file" || key == "vrrp_track_file") && len(s.args()) == 1, key == "bfd_instance" && len(s.args()) == 1: // told of when it is known whether it is used
	case key == "global_defs" && d.user != nil:
		d.note(s.at, "global_defs: not a balancer's but for script_user, passed over")
	case foreign(key):
		d.note(s.at, "%s: not a balancer's, passed over", strings.Join(s.words[:min(2, len(s.words))], " "))
	default:
		d.unknown(s, "", append(foreignBlocks(), "virtual_server", "virtual_server_group", "local_address_group", "include"))
	}
}

// maxKeyword is how much of an unknown keyword is looked at and printed.
const maxKeyword = 40

// unknown reports a keyword that nobody knows.
func (d *importer) unknown(s *statement, context string, known []string) {
	key := s.key()[:min(len(s.key()), maxKeyword)]
	d.fail(s.at, "%s%q: unknown keyword (%s)", context, key, config.Suggest(key, known))
}

// arg returns the only argument of s; if there is none, or there are more, it
// reports what would be right.
func (d *importer) arg(s *statement, want string) (string, bool) {
	if len(s.args()) == 1 && !s.open {
		return s.args()[0], true
	}
	d.fail(s.at, "%s: want %s", strings.Join(s.words, " "), want)
	return "", false
}

// choosePools gives every service the pool that it is to use.
func (d *importer) choosePools(out *draft) {
	var given *pool
	if d.opts.LocalPool != "" {
		at := pos{file: "--local-pool"}
		given = &pool{name: "local", table: table{at: at, source: d.opts.LocalPool}}
		for d.pools[given.name] != nil {
			given.name += "-pool"
		}
		for _, a := range strings.Split(d.opts.LocalPool, ",") {
			given.addresses = append(given.addresses, setting{value: strings.TrimSpace(a), at: at})
		}
	}
	missing := false
	for _, s := range out.services {
		if s.pool != "" {
			if p := d.pools[s.pool]; p != nil {
				p.used = true
				continue
			}
			for _, p := range d.order { // one of them is meant
				p.used = true
			}
			continue
		}
		switch {
		case given != nil:
			given.used = true
			s.pool, s.poolAt = given.name, s.at
		case len(d.order) == 1:
			d.order[0].used = true
			s.pool, s.poolAt = d.order[0].name, s.at
		case missing:
		case len(d.order) == 0:
			missing = true
			d.fail(s.at, "virtual_server: there are no local addresses for FULLNAT to use (add a local_address_group, or say fnatctl import --local-pool 10.9.0.1-10.9.0.4)")
		default:
			d.fail(s.at, "virtual_server: no laddr_group_name (add one that says which of the local_address_groups, or say fnatctl import --local-pool)")
		}
	}
	for _, p := range append(d.order, given) {
		switch {
		case p == nil:
		case p.used:
			out.pools = append(out.pools, p)
		case p == given:
			d.note(p.at, "no virtual_server needs it, left out")
		default:
			d.note(p.at, "local_address_group %s: no virtual_server uses it, left out", p.name)
		}
	}
}
