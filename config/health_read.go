package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// checkKeys are the keys that only some kinds of checks have.
var checkKeys = map[CheckType][]string{
	CheckTCP:   words(connection + " source_port port"),
	CheckHTTP:  words(connection + " source_port port path method host status digest regex regex_not regex_min_offset regex_max_offset"),
	CheckHTTPS: words(connection + " source_port port path method host status digest regex regex_not regex_min_offset regex_max_offset sni tls_verify ca certificate key"),
	CheckUDP:   words(connection + " source_port port payload reply require_reply min_reply max_reply"),
	CheckDNS:   words(connection + " source_port port query name transport"),
	CheckPing:  words(connection),
	CheckSMTP:  words(connection + " source_port port helo"),
	CheckExec:  {"command", "user", "dynamic"},
	CheckFile:  {"file", "dynamic", "factor"},
	CheckBFD:   words("address source min_tx min_rx idle_tx multiplier passive multihop ttl max_hops"),
}

const connection = "address source interface mark"

func words(s string) []string { return strings.Fields(s) }

// readChecks reads health: one table or an array of tables, as TOML lets one
// write a single check without the second pair of brackets. It reports whether
// the key is there.
func readChecks(t *table, to *[]Check) bool {
	const key = "health"
	if _, single := t.values[key].(map[string]any); single {
		*to = make([]Check, 1)
		c := &(*to)[0]
		c.read(t.sub(key, &c.Where))
		return true
	}
	all := t.subs(key)
	*to = zeros[Check](len(all))
	for i, e := range all {
		c := &(*to)[i]
		c.read(newTable(t.report, t.header(key), t.context+key+": ", e, &c.Where))
	}
	if n := len(*to); n > maxChecks {
		t.fail(key, fmt.Sprintf("%d checks of a server are too many (want at most %d)", n, maxChecks))
	}
	return t.where.has(key)
}

// maxOffset is as much of a body as is read, in bytes.
const maxOffset = 1 << 20

// maxChecks is how many checks a real server may have.
const maxChecks = 16

func (c *Check) read(t *table) {
	oneOf(t, "type", &c.Type, CheckTCP, CheckHTTP, CheckHTTPS, CheckUDP, CheckDNS, CheckPing, CheckSMTP, CheckExec, CheckFile, CheckBFD)
	t.require("type", `"tcp"`)
	if c.Type != CheckBFD {
		c.readTiming(t)
	}
	c.readConnection(t)
	switch c.Type {
	case CheckHTTP, CheckHTTPS:
		c.readHTTP(t)
	case CheckUDP:
		c.readUDP(t)
	case CheckDNS:
		c.readDNS(t)
	case CheckSMTP:
		c.Name = "fnatd.invalid"
		t.text("helo", func(s string) error { c.Name = s; return checkHostName(s) })
	case CheckExec:
		t.command("command", &c.Command)
		t.require("command", `["/usr/lib/nagios/plugins/check_tcp", "-p", "80"]`)
		t.str("user", &c.User)
		t.boolean("dynamic", &c.Dynamic)
	case CheckFile:
		c.Factor = 1
		t.text("file", func(s string) error { c.File = s; return checkPath(s) })
		t.require("file", `"/run/weight"`)
		t.boolean("dynamic", &c.Dynamic)
		integer(t, "factor", &c.Factor, -maxWeight, maxWeight)
		if t.where.has("factor") && !c.Dynamic {
			t.fail("factor", "has no effect without dynamic = true (add that or remove this)")
		}
	case CheckBFD:
		c.readBFD(t)
	}
	c.others(t)
	t.finish()
}

// others reports the keys of other kinds of checks.
func (c *Check) others(t *table) {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if slices.Contains(t.known, key) {
			continue
		}
		for _, kind := range slices.Sorted(maps.Keys(checkKeys)) {
			if !slices.Contains(checkKeys[kind], key) {
				continue
			}
			t.known = append(t.known, key)
			if c.Type != "" { // else it may well be right
				t.fail(key, fmt.Sprintf("a check of type %s has no such key, one of type %s has (remove it, or change the type)", c.Type, kind))
			}
			break
		}
	}
}

func (c *Check) readTiming(t *table) {
	c.Interval, c.Timeout, c.RetryDelay = 2*time.Second, 2*time.Second, time.Second
	c.Rise, c.Fall = 2, 3
	if c.Type == CheckExec {
		c.Timeout = 5 * time.Second
	}
	t.duration("interval", &c.Interval, minInterval, false)
	t.duration("timeout", &c.Timeout, minTimeout, false)
	integer(t, "retry", &c.Retry, 0, 100)
	t.duration("retry_delay", &c.RetryDelay, 0, true)
	c.Warmup = c.Interval
	t.duration("warmup", &c.Warmup, 0, true)
	t.duration("jitter", &c.Jitter, 0, true)
	integer(t, "rise", &c.Rise, 1, 1000)
	integer(t, "fall", &c.Fall, 1, 1000)
	t.boolean("alpha", &c.Alpha)
}

// Our choices: more than ten times a second nobody needs to know how a server is,
// and checks would be a load on it.
const (
	minInterval = 100 * time.Millisecond
	minTimeout  = 10 * time.Millisecond
)

func (c *Check) readConnection(t *table) {
	own := func(key string) bool { return slices.Contains(checkKeys[c.Type], key) }
	if own("address") {
		t.text("address", func(s string) (err error) { c.Address, err = parseAddress(s); return err })
		t.text("source", func(s string) (err error) { c.Source, err = parseAddress(s); return err })
	}
	if own("interface") {
		t.text("interface", func(s string) error { c.Interface = s; return checkInterface(s) })
		integer(t, "mark", &c.Mark, 0, 1<<32-1)
	}
	if own("port") {
		integer(t, "port", &c.Port, 1, 65535)
		integer(t, "source_port", &c.SourcePort, 1, 65535)
	}
}

func (c *Check) readHTTP(t *table) {
	c.Path, c.Method = "/", "GET"
	t.text("path", func(s string) error { c.Path = s; return checkURLPath(s) })
	oneOf(t, "method", &c.Method, "GET", "HEAD")
	t.text("host", func(s string) error { c.Host = s; return checkHostField(s) })
	c.Status = []StatusRange{{200, 299}}
	if t.where.has("status") {
		c.Status = nil
	}
	t.list("status", `of codes and ranges, as [200, "300-399"]`, func(v any, _ int, fail func(string)) {
		r, err := parseStatus(v)
		if err != nil {
			fail(err.Error())
		}
		c.Status = append(c.Status, r)
	})
	if len(c.Status) == 0 {
		t.fail("status", `empty (want at least one code, as [200])`)
	}
	t.text("digest", func(s string) error { c.Digest = strings.ToLower(s); return checkDigest(s) })
	t.text("regex", func(s string) error { c.Regex = s; return checkRegex(s) })
	t.boolean("regex_not", &c.RegexNot)
	if t.where.has("regex_not") && !t.where.has("regex") {
		t.fail("regex_not", "has no effect without regex (add that or remove this)")
	}
	integer(t, "regex_min_offset", &c.RegexMin, 0, maxOffset)
	last := -1
	integer(t, "regex_max_offset", &last, 0, maxOffset)
	c.RegexEnd = last + 1
	for _, key := range []string{"regex_min_offset", "regex_max_offset"} {
		if t.where.has(key) && !t.where.has("regex") {
			t.fail(key, "has no effect without regex (add that or remove this)")
		}
	}
	if last >= 0 && c.RegexMin > last {
		t.fail("regex_min_offset", fmt.Sprintf("above regex_max_offset %d (want it lower)", last))
	}
	if c.Method == "HEAD" && (c.Digest != "" || c.Regex != "") {
		t.fail("method", "an answer to HEAD has no body for digest or regex to be about (want GET)")
	}
	if c.Type == CheckHTTPS {
		c.readTLS(t)
	}
}

func (c *Check) readUDP(t *table) {
	c.MaxReply = 65535
	t.text("payload", func(s string) (err error) { c.Payload, err = parseHex(s, false); return err })
	t.text("reply", func(s string) (err error) { c.Reply, err = parseHex(s, true); return err })
	c.Answer = c.Reply != "" || t.where.has("min_reply") || t.where.has("max_reply")
	t.boolean("require_reply", &c.Answer)
	integer(t, "min_reply", &c.MinReply, 0, 65535)
	integer(t, "max_reply", &c.MaxReply, 0, 65535)
	if c.MinReply > c.MaxReply {
		t.fail("min_reply", fmt.Sprintf("above max_reply %d (want it lower)", c.MaxReply))
	}
	if !c.Answer && (c.Reply != "" || t.where.has("min_reply") || t.where.has("max_reply")) {
		t.fail("require_reply", "without a reply there is nothing for reply, min_reply and max_reply to be about (want true, or remove those)")
	}
}

// queryTypes are the types of records that a dns check can ask for.
var queryTypes = []string{"A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA"}

func (c *Check) readDNS(t *table) {
	c.Query, c.Name, c.Transport = "SOA", ".", "udp"
	oneOf(t, "query", &c.Query, queryTypes...)
	t.text("name", func(s string) error { c.Name = s; return checkDNSName(s) })
	oneOf(t, "transport", &c.Transport, "udp", "tcp")
}

// DefaultFailover returns what a service does that says nothing of it.
func DefaultFailover() Failover {
	return Failover{
		OnDown:          Remove,
		DownConnections: Keep,
		DownDrain:       30 * time.Second,
		Damping:         10 * time.Second,
		Quorum:          1,
		Scripts:         Scripts{Timeout: 30 * time.Second},
	}
}

func (f *Failover) read(t *table) {
	oneOf(t, "on_down", &f.OnDown, Remove, Inhibit)
	oneOf(t, "down_connections", &f.DownConnections, Keep, Drain, Reset)
	t.duration("down_drain", &f.DownDrain, time.Second, false)
	if t.where.has("down_drain") && f.DownConnections != Drain {
		t.fail("down_drain", `has no effect without down_connections = "drain" (add that or remove this)`)
	}
	t.duration("damping", &f.Damping, time.Second, true)
	integer(t, "quorum", &f.Quorum, 1, 1<<30)
	integer(t, "hysteresis", &f.Hysteresis, 0, 1<<30)
	if f.Hysteresis >= f.Quorum {
		t.fail("hysteresis", fmt.Sprintf("not below quorum %d, so the quorum could not be lost (want it lower)", f.Quorum))
	}
	t.boolean("omega", &f.Omega)
	t.text("sorry_server", func(s string) (err error) { f.Sorry, err = parseEndpoint(s); return err })
	t.command("notify_up", &f.Scripts.NotifyUp)
	t.command("notify_down", &f.Scripts.NotifyDown)
	t.command("quorum_up", &f.Scripts.QuorumUp)
	t.command("quorum_down", &f.Scripts.QuorumDown)
	t.duration("script_timeout", &f.Scripts.Timeout, time.Second, false)
	t.str("script_user", &f.Scripts.User)
}

// command reads a program and its arguments.
func (t *table) command(key string, to *[]string) {
	if !t.where.has(key) {
		t.known = append(t.known, key)
		return
	}
	*to = nil
	t.list(key, `of a program and its arguments, as ["/usr/local/bin/tell", "web"]`, func(v any, _ int, fail func(string)) {
		s, ok := v.(string)
		switch {
		case !ok:
			fail("want a string in quotes")
		case strings.ContainsRune(s, 0):
			fail("has a zero byte in it (remove it)")
		case len(*to) == 0 && (s == "" || strings.Contains(s, "/") && checkPath(s) != nil):
			fail("want the absolute path of a program, or its name alone")
		}
		*to = append(*to, s)
	})
	if len(*to) == 0 {
		t.fail(key, "empty (want a program, as [\"/usr/local/bin/tell\"])")
	}
}
