package keepalived

import (
	"fmt"
	"math"
	"strconv"
)

// fnatd does not speak BFD (RFC 5880). A BFD_CHECK is refused, with what to write for
// the session that it names: a ping as often as BFD would have found out.

// Defaults of a bfd_instance, upstream's: how often the neighbor is heard, and how
// many times it may be missed.
const (
	bfdMinRx      = 10 // ms
	bfdMultiplier = 5
)

// shortestPing is the shortest interval of a check that config takes, in seconds.
const shortestPing = 0.1

func (d *importer) bfdCheck(_ *service, s *statement) {
	const context = "real_server: BFD_CHECK: "
	named := levelOf(s.block)["name"]
	if named == nil {
		d.fail(s.at, context+"there is no name (fnatd does not speak BFD: write PING_CHECK { } in its place)")
		return
	}
	name, ok := d.arg(named, "the name of a bfd_instance")
	if !ok {
		return
	}
	b := d.sessions[name]
	if b == nil {
		d.fail(named.at, context+"name %q: there is no such bfd_instance (fnatd does not speak BFD: write PING_CHECK { } in its place)", name)
		return
	}
	d.fail(s.at, context+"fnatd does not speak BFD (write in its place, for bfd_instance %s at %v: %s)", name, b.at, b.ping())
}

// A session is a bfd_instance.
type session struct {
	at    pos
	level level // what is in it
}

// ping returns a PING_CHECK that finds out about as soon as the session does, and no
// sooner than that.
func (b *session) ping() string {
	to := ""
	for _, k := range []struct{ from, to string }{{"neighbor_ip", "connect_ip"}, {"source_ip", "bindto"}} {
		if s := b.level[k.from]; s != nil && len(s.args()) == 1 {
			to += k.to + " " + s.args()[0] + ", "
		}
	}
	// RFC 5880, section 6.8.4: the neighbor is lost when nothing has come for so long.
	detection := b.number("min_rx", bfdMinRx) * b.number("multiplier", bfdMultiplier) / 1000
	seconds := strconv.FormatFloat(max(shortestPing, math.Ceil(detection*10)/10), 'f', -1, 64)
	return fmt.Sprintf("PING_CHECK with %sdelay_loop %s, connect_timeout %[2]s and retry 0", to, seconds)
}

// number returns what a keyword gives, or usual if that is no number that BFD knows.
func (b *session) number(key string, usual float64) float64 {
	if s := b.level[key]; s != nil && len(s.args()) == 1 {
		if n, err := strconv.ParseUint(s.args()[0], 10, 16); err == nil && n > 0 {
			return float64(n)
		}
	}
	return usual
}
