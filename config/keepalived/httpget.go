package keepalived

import "strings"

// httpChecks makes a check for each url of an HTTP_GET or SSL_GET: fnatd asks for
// one page at a time, and a server must pass all of its checks.
func (d *importer) httpChecks(r *server, s *statement, at levels) {
	context := "real_server: " + s.key() + ": "
	for _, key := range []string{"fast_recovery", "tls_compliant"} {
		if k := at[0][key]; k != nil {
			d.note(k.at, "%s%s: fnatd has no such thing, left out", context, key)
		}
	}
	if p := at[0]["http_protocol"]; p != nil && (len(p.args()) != 1 || p.args()[0] != "1.1") {
		d.note(p.at, "%s%s: fnatd asks by HTTP/1.1, with Connection: close", context, strings.Join(p.words, " "))
	}
	urls := 0
	for _, u := range s.block {
		if u.key() != "url" {
			continue
		}
		urls++
		own := level{}
		for _, c := range u.block {
			own[c.key()] = c
		}
		c := d.check(s, at)
		d.via(c, s, at[0])
		d.url(c, own, context)
		d.host(c, s, append(levels{own}, at...))
		r.checks = append(r.checks, c)
	}
	if urls == 0 {
		d.fail(s.at, "%sthere is no url (write url { path / })", context)
	}
}

// url sets which page a check asks for and what it shall be.
func (d *importer) url(c *table, own level, context string) {
	d.text(c, own, "path", "path", quote)
	d.text(c, own, "digest", "digest", quote)
	if codes := own["status_code"]; codes != nil {
		var all []string
		for _, code := range codes.args() {
			all = append(all, number(code))
		}
		c.set("status", "["+strings.Join(all, ", ")+"]", codes.at)
	}
	d.regex(c, own, context)
	if k := own["tls_compliant"]; k != nil {
		d.note(k.at, "%surl: tls_compliant: fnatd has no such thing, left out", context)
	}
}

// regexFlags are the options of keepalived's regular expressions that fnatd's
// have as well.
var regexFlags = map[string]string{"caseless": "i", "multiline": "m", "dotall": "s", "ungreedy": "U"}

func (d *importer) regex(c *table, own level, context string) {
	for _, key := range []string{"regex_min_offset", "regex_max_offset"} {
		if k := own[key]; k != nil {
			d.fail(k.at, "%surl: %s: fnatd looks at the whole body (remove it, and let the expression itself say where)", context, key)
		}
	}
	if k := own["regex_stack"]; k != nil {
		d.note(k.at, "%surl: regex_stack: fnatd's regular expressions need none, left out", context)
	}
	re := own["regex"]
	if re == nil {
		return
	}
	text, ok := d.arg(re, "one regular expression, in quotes")
	flags := ""
	if o := own["regex_options"]; o != nil {
		for _, name := range o.args() {
			flag := regexFlags[strings.ToLower(name)]
			if flag == "" {
				d.fail(o.at, "%surl: regex_options %s: fnatd has caseless, multiline, dotall and ungreedy (remove it, and write the expression without)", context, name)
			}
			flags += flag
		}
	}
	if flags != "" {
		text = "(?" + flags + ")" + text
	}
	if ok {
		c.set("regex", quote(text), re.at)
	}
	if no := own["regex_no_match"]; no != nil && d.truth(no) {
		c.set("regex_not", "true", no.at)
	}
}

// host sets the names by which the server is asked.
func (d *importer) host(c *table, s *statement, at levels) {
	host := at.find("virtualhost")
	if host != nil {
		if name, ok := d.arg(host, "a host name"); ok {
			c.set("host", quote(name), host.at)
		}
	}
	own := at[1]
	switch {
	case s.key() != "SSL_GET":
	case own["sni_name"] != nil && own["enable_sni"] != nil:
		d.text(c, own, "sni_name", "sni", quote)
	case own["enable_sni"] == nil && host != nil: // which fnatd would take for the name to send
		c.set("sni", quote(""), s.at)
	}
}
