package keepalived

import (
	"slices"
	"strings"
)

// A level is where settings of checks may stand: the virtual_server, the
// real_server, the checker. What is nearer counts. It has the last statement of
// each keyword.
type level map[string]*statement

// levels are those of one checker, the nearest first.
type levels []level

func (all levels) find(key string) *statement {
	for _, l := range all {
		if s := l[key]; s != nil {
			return s
		}
	}
	return nil
}

// timers are the keywords that may stand at every level.
const timers = "delay_loop connect_timeout retry nb_get_retry delay_before_retry warmup"

// connection are the keywords that all checkers of a connection have.
const connection = "connect_ip connect_port bindto bind_if bind_port fwmark alpha log_all_failures " + timers

// A checker says what becomes of one of keepalived's.
type checker struct {
	kind  string // type of fnatd's check
	keys  string // keywords that may stand in it
	retry string // default of retry
	delay string // default of delay_before_retry, in seconds; "" is delay_loop
}

const url = " url http_protocol fast_recovery virtualhost enable_sni sni_name tls_compliant"

// checkers are keepalived's, by their keywords.
var checkers = map[string]checker{
	"TCP_CHECK":  {"tcp", connection, "1", "1"},
	"PING_CHECK": {"ping", connection, "1", "1"},
	"HTTP_GET":   {"http", connection + url, "1", "3"},
	"SSL_GET":    {"https", connection + url, "1", "3"},
	"SMTP_CHECK": {"smtp", connection + " helo_name host", "1", "1"},
	"DNS_CHECK":  {"dns", connection + " type name", "3", ""},
	"UDP_CHECK":  {"udp", connection + " payload require_reply min_reply_length max_reply_length", "1", "1"},
	"MISC_CHECK": {"exec", "misc_path misc_timeout misc_dynamic user alpha log_all_failures " + timers, "0", "1"},
	"BFD_CHECK":  {"bfd", "name alpha", "", ""},
	"FILE_CHECK": {"file", "track_file dynamic weight alpha log_all_failures " + timers, "0", "1"},
}

// inBlocks are the keywords of the blocks in checkers.
var inBlocks = map[string]string{
	"url":  "path digest status_code virtualhost regex regex_no_match regex_options regex_stack regex_min_offset regex_max_offset tls_compliant",
	"host": "connect_ip connect_port bindto bind_port bind_if fwmark connect_timeout",
}

// checks makes the checks of a real server of its checkers, once all of the
// virtual_server is read.
func (d *importer) checks(v *service, r *server) {
	for _, s := range r.checkers {
		before := len(d.errors)
		d.checkBlock(s, "real_server: "+s.key()+": ", checkers[s.key()].keys)
		own := level{}
		for _, c := range s.block {
			key := canonical(c.key())
			if old := own[key]; old != nil && inBlocks[key] == "" {
				d.note(old.at, "real_server: %s: %s: given again at %v, which counts", s.key(), key, c.at)
			}
			own[key] = c
		}
		if len(d.errors) == before {
			d.makeChecks(r, s, levels{own, r.level, v.level})
		}
	}
}

// makeChecks makes the checks of one checker.
func (d *importer) makeChecks(r *server, s *statement, at levels) {
	switch checkers[s.key()].kind {
	case "http", "https":
		d.httpChecks(r, s, at)
	case "smtp":
		d.smtpChecks(r, s, at)
	case "dns":
		d.dnsCheck(r, s, at)
	case "udp":
		d.udpCheck(r, s, at)
	case "exec":
		d.miscCheck(r, s, at)
	case "file":
		d.fileCheck(r, s, at)
	case "bfd":
		d.bfdCheck(r, s, at)
	default:
		d.plainCheck(r, s, at)
	}
}

// checkBlock reports the keywords in a checker that no checker of its kind has.
func (d *importer) checkBlock(s *statement, context, known string) {
	words := strings.Fields(known)
	if words == nil && s.open {
		d.fail(s.at, "%sno block belongs here (remove it)", context)
		return
	}
	for _, c := range s.block {
		if !slices.Contains(words, c.key()) {
			d.unknown(c, context, words)
			continue
		}
		d.checkBlock(c, context+c.key()+": ", inBlocks[c.key()])
	}
}

// Defaults of upstream. That of LVS-FULLNAT and DPVS for connect_timeout is 0, by
// which no check could ever pass.
const (
	delayLoop      = "60"
	connectTimeout = "5"
)

// check begins a check of the kind that s makes, with when to make it.
func (d *importer) check(s *statement, at levels) *table {
	kind := checkers[s.key()]
	c := &table{at: s.at, source: s.key()}
	c.set("type", quote(kind.kind), s.at)
	interval := d.timer(c, "interval", at.find("delay_loop"), delayLoop)
	if kind.kind == "exec" {
		d.timer(c, "timeout", at.find("misc_timeout"), interval)
	} else if kind.kind != "file" { // which takes no time
		d.timer(c, "timeout", at.find("connect_timeout"), connectTimeout)
	}
	retry, retryAt := kind.retry, s.at
	if r := at.find("retry"); r != nil {
		text, _ := d.arg(r, "a number")
		retry, retryAt = text, r.at
	}
	if number(retry) != "0" {
		c.set("retry", number(retry), retryAt)
		delay := kind.delay
		if delay == "" {
			delay = interval
		}
		d.timer(c, "retry_delay", at.find("delay_before_retry"), delay)
	}
	if w := at.find("warmup"); w != nil {
		d.timer(c, "warmup", w, "")
	}
	c.set("fall", "1", s.at)
	c.set("rise", "1", s.at)
	if a := at.find("alpha"); a != nil && d.truth(a) {
		c.set("alpha", "true", a.at)
	}
	if l := at.find("log_all_failures"); l != nil {
		d.note(l.at, "real_server: %s: log_all_failures: fnatctl health shows them, passed over", s.key())
	}
	return c
}

// timer sets a time, which the statement gives in seconds, or usual if there is
// none. It returns the seconds.
func (d *importer) timer(c *table, key string, s *statement, usual string) string {
	text, at := usual, c.at
	if s != nil {
		var ok bool
		if text, ok = d.decimal(s); !ok {
			text = usual
		}
		at = s.at
	}
	c.set(key, quote(text+"s"), at)
	return text
}

// via sets where a check goes.
func (d *importer) via(c *table, s *statement, at level) {
	for _, k := range []struct {
		from, to string
		literal  func(string) string
	}{
		{"connect_ip", "address", quote}, {"connect_port", "port", number}, {"bindto", "source", quote},
		{"bind_port", "source_port", number}, {"bind_if", "interface", quote}, {"fwmark", "mark", number},
	} {
		given := at[k.from]
		if given == nil {
			continue
		}
		if s.key() == "PING_CHECK" && strings.HasSuffix(k.from, "_port") {
			d.note(given.at, "real_server: %s: %s: a ping has no port, left out", s.key(), k.from)
		} else if text, ok := d.arg(given, "one value"); ok {
			c.set(k.to, k.literal(text), given.at)
		}
	}
}

func (d *importer) plainCheck(r *server, s *statement, at levels) {
	c := d.check(s, at)
	d.via(c, s, at[0])
	r.checks = append(r.checks, c)
}

// text sets what a keyword of the checker itself gives.
func (d *importer) text(c *table, at level, from, to string, literal func(string) string) {
	if s := at[from]; s != nil {
		if text, ok := d.arg(s, "one value"); ok {
			c.set(to, literal(text), s.at)
		}
	}
}

func (d *importer) dnsCheck(r *server, s *statement, at levels) {
	c := d.check(s, at)
	d.via(c, s, at[0])
	d.text(c, at[0], "type", "query", func(t string) string { return quote(strings.ToUpper(t)) })
	d.text(c, at[0], "name", "name", quote)
	r.checks = append(r.checks, c)
}

// smtpPort is where a host in an SMTP_CHECK is asked that says no port.
const smtpPort = "25"

// smtpChecks makes a check for each host block, or for the server.
func (d *importer) smtpChecks(r *server, s *statement, at levels) {
	hosts := false
	for _, h := range s.block {
		if h.key() != "host" {
			continue
		}
		hosts = true
		own := level{}
		for _, c := range h.block {
			own[c.key()] = c
		}
		c := d.check(s, append(levels{own}, at...))
		d.via(c, s, own)
		if own["connect_port"] == nil {
			c.set("port", smtpPort, h.at)
		}
		d.text(c, at[0], "helo_name", "helo", quote)
		r.checks = append(r.checks, c)
	}
	if !hosts {
		c := d.check(s, at)
		d.via(c, s, at[0])
		d.text(c, at[0], "helo_name", "helo", quote)
		r.checks = append(r.checks, c)
	}
}

func (d *importer) udpCheck(r *server, s *statement, at levels) {
	c := d.check(s, at)
	d.via(c, s, at[0])
	if p := at[0]["payload"]; p != nil {
		c.set("payload", quote(strings.Join(p.args(), " ")), p.at)
	} else {
		d.note(s.at, "real_server: UDP_CHECK: without payload fnatd sends an empty datagram, not random bytes")
	}
	reply := at[0]["require_reply"]
	if reply == nil {
		for _, key := range []string{"min_reply_length", "max_reply_length"} {
			if k := at[0][key]; k != nil {
				d.note(k.at, "real_server: UDP_CHECK: %s: has no effect without require_reply, left out", key)
			}
		}
		r.checks = append(r.checks, c)
		return
	}
	if len(reply.args()) > 0 {
		c.set("reply", quote(strings.Join(reply.args(), " ")), reply.at)
	} else {
		c.set("require_reply", "true", reply.at)
	}
	d.text(c, at[0], "min_reply_length", "min_reply", number)
	if at[0]["max_reply_length"] == nil {
		c.set("max_reply", "255", s.at) // keepalived's default
	}
	d.text(c, at[0], "max_reply_length", "max_reply", number)
	r.checks = append(r.checks, c)
}

func (d *importer) miscCheck(r *server, s *statement, at levels) {
	path := at[0]["misc_path"]
	if path == nil {
		d.fail(s.at, "real_server: MISC_CHECK: there is no misc_path (write the program to run)")
		return
	}
	c := d.check(s, at)
	words, ok := d.command(path)
	if !ok {
		return
	}
	c.set("command", list(words), path.at)
	if u := at[0]["user"]; u != nil {
		d.scriptUser(c, "user", u, u.args())
	} else if d.user != nil {
		d.scriptUser(c, "user", d.user, d.user.args())
	}
	if dynamic := at[0]["misc_dynamic"]; dynamic != nil {
		c.set("dynamic", "true", dynamic.at)
	}
	r.checks = append(r.checks, c)
}

// fileCheck makes a check of a file that a track_file block names.
func (d *importer) fileCheck(r *server, s *statement, at levels) {
	named := at[0]["track_file"]
	if named == nil {
		d.fail(s.at, "real_server: FILE_CHECK: there is no track_file (write the name of a track_file block)")
		return
	}
	name, ok := d.arg(named, "the name of a track_file block")
	if !ok {
		return
	}
	f := d.trackFiles[name]
	if f == nil || f.level["file"] == nil {
		d.fail(named.at, "real_server: FILE_CHECK: track_file %q: there is no such track_file block with a file (add it, or correct the name)", name)
		return
	}
	f.used = true
	c := d.check(s, at)
	d.text(c, f.level, "file", "file", quote)
	weight := at[0]["weight"]
	if weight == nil {
		weight = f.level["weight"]
	}
	if weight != nil && len(weight.args()) > 0 && number(weight.args()[0]) != "0" {
		factor := weight.args()[0]
		if len(weight.args()) > 1 && weight.args()[1] == "reverse" {
			factor = negative(factor)
		}
		c.set("dynamic", "true", weight.at)
		c.set("factor", number(factor), weight.at)
	}
	r.checks = append(r.checks, c)
}

// negative returns a number with its sign turned.
func negative(text string) string {
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		return rest
	}
	return "-" + text
}
