package keepalived

import "strings"

// split takes a command line apart as keepalived does, which starts programs
// without a shell: at blanks, with quotes and backslashes.
func split(line string) (words []string, closed bool) {
	var word strings.Builder
	quote, begun := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			begun = true
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, begun = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words, quote == 0
}

// command returns the program and arguments that a statement names. What follows
// them are a user and a group.
func (d *importer) command(s *statement) (words []string, ok bool) {
	if len(s.args()) == 0 || len(s.args()) > 3 || s.open {
		d.fail(s.at, "%s: want a command in quotes, and perhaps a user and a group", strings.Join(s.words, " "))
		return nil, false
	}
	words, closed := split(s.args()[0])
	if !closed || len(words) == 0 {
		d.fail(s.at, "%s %q: not a command (close the quotes, and name a program)", s.key(), s.args()[0])
		return nil, false
	}
	return words, true
}

// list returns words as a TOML array.
func list(words []string) string { return "[" + quoted(words) + "]" }

// scriptUser sets a user; a group besides his own fnatd does not set.
func (d *importer) scriptUser(c *table, key string, s *statement, args []string) {
	if len(args) > 1 {
		d.note(s.at, "%s: programs run with all groups of their user, the group is left out", s.key())
	}
	if len(args) > 0 {
		c.set(key, quote(args[0]), s.at)
	}
}

// script takes a command that runs at a transition of the virtual_server, or of
// the real server that is being read.
func (d *importer) script(v *service, s *statement) {
	if _, ok := d.command(s); !ok {
		return
	}
	if v.in != nil {
		v.in.scripts = append(v.in.scripts, s)
	} else {
		v.scripts = append(v.scripts, s)
	}
}

// transitions writes the scripts, once it is known which servers have checks, and
// whose they run as: fnatd has one user for all of a service.
func (d *importer) transitions(v *service) {
	var users []*statement
	add := func(t *table, s *statement) {
		words, _ := d.command(s)
		t.set(s.key(), list(words), s.at)
		users = append(users, s)
	}
	for _, s := range v.scripts {
		add(&v.table, s)
	}
	for i := range v.servers {
		r := &v.servers[i]
		for _, s := range r.scripts {
			if len(r.checks) == 0 {
				d.note(s.at, "real_server: %s: has no effect without a checker, left out", s.key())
				continue
			}
			add(&r.table, s)
		}
	}
	if o := v.level["omega"]; o != nil && d.truth(o) {
		if len(users) > 0 {
			v.set("omega", "true", o.at)
		} else {
			d.note(o.at, "virtual_server: omega: has no effect without scripts, left out")
		}
	}
	d.user1(v, users)
}

// user1 sets the one user of all scripts of a service.
func (d *importer) user1(v *service, scripts []*statement) {
	of := func(s *statement) []string {
		if len(s.args()) > 1 {
			return s.args()[1:]
		}
		if d.user != nil {
			return d.user.args()
		}
		return nil
	}
	for i, s := range scripts {
		now, first := strings.Join(of(s), " "), strings.Join(of(scripts[0]), " ")
		switch {
		case i > 0 && now != first:
			d.fail(s.at, "%s: runs as %q and the script at %v as %q (fnatd has one user for all scripts of a service: write the same for both)", s.key(), now, scripts[0].at, first)
		case i == 0 && now != "":
			d.scriptUser(&v.table, "script_user", s, of(s))
		}
	}
}
