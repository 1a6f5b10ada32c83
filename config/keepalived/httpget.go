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

// regexFlags are the options of keepalived's regular expressions (PCRE2's) that
// fnatd's have as well; without a flag those that fnatd's do as they are, or that
// change nothing of what matches.
var regexFlags = map[string]string{
	"caseless": "i", "multiline": "m", "dotall": "s", "ungreedy": "U",
	"dollar_endonly": "", "utf": "",
	"auto_callout": "", "no_auto_capture": "", "no_auto_possess": "", "no_dotstar_anchor": "", "no_start_optimize": "", "use_offset_limit": "",
	"never_backslash_c": "", "never_ucp": "",
}

const regexOptions = "caseless, multiline, dotall, ungreedy, dollar_endonly and utf"

func (d *importer) regex(c *table, own level, context string) {
	if k := own["regex_stack"]; k != nil {
		d.note(k.at, "%surl: regex_stack: fnatd's regular expressions need none, left out", context)
	}
	re := own["regex"]
	if re == nil {
		for _, key := range []string{"regex_no_match", "regex_options", "regex_min_offset", "regex_max_offset"} {
			if k := own[key]; k != nil {
				d.note(k.at, "%surl: %s: there is no regex, left out", context, key)
			}
		}
		return
	}
	text, ok := d.arg(re, "one regular expression, in quotes")
	flags := ""
	endOnly := false // $ is the end of the body, and no line end before it
	if o := own["regex_options"]; o != nil {
		for _, name := range o.args() {
			name = strings.ToLower(name)
			endOnly = endOnly || name == "dollar_endonly" || name == "multiline"
			if flag, known := regexFlags[name]; known {
				flags += flag
			} else {
				d.fail(o.at, "%surl: regex_options %s: fnatd has %s, and needs none of those that concern speed alone (remove it, and write the expression without)", context, name, regexOptions)
			}
		}
	}
	if strings.Contains(text, "$") && !endOnly {
		d.note(re.at, `%surl: regex: $ is the end of the body, where keepalived's may stand before a last newline, too: write \n?$ for that`, context)
	}
	if flags != "" {
		text = "(?" + flags + ")" + text
	}
	if ok {
		c.set("regex", quote(text), re.at)
	}
	d.text(c, own, "regex_min_offset", "regex_min_offset", number)
	d.text(c, own, "regex_max_offset", "regex_max_offset", number)
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
