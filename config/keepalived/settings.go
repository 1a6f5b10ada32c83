package keepalived

import (
	"strconv"
	"strings"
)

const becomesFULLNAT = "%s: %s becomes FULLNAT: real servers see connections come from a local address"

// instead says what to write for the schedulers that fnatd does not have.
var instead = map[string]string{
	"lblc":    "write dh or mh for caches",
	"lblcr":   "write dh or mh for caches",
	"twos":    "write wlc",
	"conhash": "write mh, which is consistent as well",
}

func (d *importer) scheduler(v *service, s *statement) {
	name, ok := d.arg(s, "one scheduler, as wlc")
	if remedy := instead[name]; ok && remedy != "" {
		d.fail(s.at, "virtual_server: %s %s: fnatd does not have it (%s)", s.key(), name, remedy)
	} else if ok {
		v.set("scheduler", quote(name), s.at)
	}
}

// kind takes the forwarding method: of the service, or of one real server.
func (d *importer) kind(v *service, s *statement) {
	if len(s.args()) == 0 {
		d.fail(s.at, "%s: want a method, as FNAT", s.key())
		return
	}
	method := strings.ToUpper(s.args()[0])
	v.method = method
	switch {
	case method == "FNAT" || method == "FULLNAT":
	case method == "NAT":
		d.note(s.at, becomesFULLNAT, s.key(), method)
	case (method == "DR" || method == "TUN") && d.opts.Convert:
		d.note(s.at, becomesFULLNAT, s.key(), method)
		return // with what follows, such as the type of the tunnel
	case method == "DR" || method == "TUN":
		d.fail(s.at, "%s %s: fnatd forwards by FULLNAT (say fnatctl import --convert to make FULLNAT of it; real servers then need no VIP)", s.key(), s.args()[0])
		return
	case method == "SNAT":
		d.fail(s.at, "%s %s: %s", s.key(), s.args()[0], noSourceNAT)
		return
	default:
		d.fail(s.at, "%s %q: unknown method (want FNAT, NAT, DR or TUN)", s.key(), s.args()[0])
		return
	}
	if len(s.args()) > 1 {
		d.fail(s.at, "%s: nothing may follow %s (remove it)", strings.Join(s.words, " "), method)
	}
}

func (d *importer) protocol(v *service, s *statement) {
	name, ok := d.arg(s, "TCP or UDP")
	v.protocol = strings.ToLower(name)
	if ok && v.protocol != "tcp" && v.protocol != "udp" {
		d.fail(s.at, "virtual_server: protocol %s: fnatd balances TCP and UDP (write one of them, or remove the service)", name)
		v.protocol = "tcp"
	} else if !ok {
		v.protocol = "tcp"
	}
}

// bareTimeout is what a persistence_timeout without a number is in keepalived.
const bareTimeout = "360"

func (d *importer) persistence(v *service, s *statement) {
	text := bareTimeout
	if len(s.args()) > 0 {
		var ok bool
		if text, ok = d.seconds(s); !ok {
			return
		}
	}
	if text != "0" {
		v.persistent = true
		v.set("persistence", quote(text+"s"), s.at)
	}
}

// seconds returns the argument of s, a whole number.
func (d *importer) seconds(s *statement) (string, bool) {
	text, ok := d.arg(s, "a number of seconds")
	if !ok {
		return "", false
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		d.fail(s.at, "%s %q: want a number of seconds", s.key(), text)
	}
	return strconv.FormatUint(n, 10), err == nil
}

// decimal returns the argument of s, a number that may have a fraction.
func (d *importer) decimal(s *statement) (string, bool) {
	text, ok := d.arg(s, "a number of seconds")
	if !ok {
		return "", false
	}
	if f, err := strconv.ParseFloat(text, 64); err != nil || f < 0 || strings.ContainsAny(text, "eExXpPnN_+") {
		d.fail(s.at, "%s %q: want a number of seconds", s.key(), text)
		return "", false
	}
	return text, true
}

func (d *importer) granularity(v *service, s *statement) {
	if _, ok := d.arg(s, "a netmask, or for IPv6 a prefix length"); ok {
		v.granular = s
	}
}

func (d *importer) established(v *service, s *statement) {
	if text, ok := d.seconds(s); ok && text != "0" {
		v.timeout = s
	}
}

func (d *importer) localPool(v *service, s *statement) {
	name, ok := d.arg(s, "the name of a local_address_group")
	if !ok {
		return
	}
	v.pool, v.poolAt = name, s.at
	if d.pools[name] == nil {
		d.fail(s.at, "virtual_server: laddr_group_name %q: there is no such local_address_group (add it, or correct the name)", name)
	}
}

func (d *importer) bindDevice(v *service, s *statement) {
	name, ok := d.arg(s, "the name of an interface")
	switch {
	case !ok:
	case name == "lo" && d.opts.Interface == "":
		d.fail(s.at, "virtual_server: vip_bind_dev lo: fnatd answers for its addresses on the interface where clients' packets arrive (write that, or say fnatctl import --interface eth0)")
	default:
		v.ifname, v.ifAt = name, s.at
	}
}

// switchOn returns what takes a keyword without arguments, which turns something on.
func switchOn(key string) func(*importer, *service, *statement) {
	return func(d *importer, v *service, s *statement) {
		if len(s.args()) > 0 || s.open {
			d.fail(s.at, "%s: want nothing behind %s", strings.Join(s.words, " "), s.key())
			return
		}
		for _, have := range v.settings {
			if have.key == key {
				return // said twice is said
			}
		}
		v.set(key, "true", s.at)
	}
}

// dependent writes the settings whose meaning depends on others, once all of the
// virtual_server is read.
func (d *importer) dependent(v *service) {
	if s := v.granular; s != nil && !v.persistent {
		d.note(s.at, "virtual_server: persistence_granularity: has no effect without persistence_timeout, left out")
	} else if s != nil && s.args()[0] != "255.255.255.255" {
		v.set("persistence_granularity", number(s.args()[0]), s.at)
	}
	d.quorum(v)
	d.health(v)
}

// quorum writes quorum and hysteresis. What keepalived logs and does not follow
// is a note.
func (d *importer) quorum(v *service) {
	quorum := int64(1)
	if s := v.level["quorum"]; s != nil {
		text, ok := d.arg(s, "a number")
		switch n, err := strconv.ParseInt(text, 10, 32); {
		case !ok:
		case err == nil && n < 1:
			d.note(s.at, "virtual_server: quorum %s: taken for 1, as keepalived does", text)
		default:
			quorum = n
			v.set("quorum", number(text), s.at)
		}
	}
	s := v.level["hysteresis"]
	if s == nil {
		return
	}
	text, ok := d.arg(s, "a number")
	switch n, err := strconv.ParseInt(text, 10, 32); {
	case !ok:
	case err == nil && (n < 0 || n >= quorum):
		if n != 0 {
			d.note(s.at, "virtual_server: hysteresis %s: is not from 0 to below the quorum, taken for 0, as keepalived does", text)
		}
	default:
		v.set("hysteresis", number(text), s.at)
	}
}

// number returns a TOML literal: a number if that is what was written, and a
// string otherwise, for config to say that it should be one.
func number(text string) string {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return quote(text)
}
