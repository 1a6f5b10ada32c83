package lb

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fnatd/fnatd/config"
)

// failover sets what a service does about the health of its servers, where that
// is not the default.
func (o *object) failover(f *config.Failover) {
	usual := config.DefaultFailover()
	set := func(key, value, usual string) {
		if value != usual {
			o.set(key, value)
		}
	}
	set("on_down", string(f.OnDown), string(usual.OnDown))
	set("down_connections", string(f.DownConnections), string(usual.DownConnections))
	set("down_drain", f.DownDrain.String(), usual.DownDrain.String())
	set("damping", f.Damping.String(), usual.Damping.String())
	set("quorum", strconv.Itoa(f.Quorum), strconv.Itoa(usual.Quorum))
	set("hysteresis", strconv.Itoa(f.Hysteresis), strconv.Itoa(usual.Hysteresis))
	set("omega", flag(f.Omega), "")
	if f.Sorry.IsValid() {
		o.set("sorry_server", f.Sorry.String())
	}
	o.set("quorum_up", command(f.Scripts.QuorumUp))
	o.set("quorum_down", command(f.Scripts.QuorumDown))
	set("script_timeout", f.Scripts.Timeout.String(), usual.Scripts.Timeout.String())
	o.set("script_user", f.Scripts.User)
}

// checksOf has the checks that were made of configured ones, by the first of them.
type checksOf map[*config.Check][]Check

func (made checksOf) of(from []config.Check) []Check {
	if len(from) == 0 {
		return nil
	}
	all, ok := made[&from[0]]
	if !ok {
		for i := range from {
			all = append(all, Check{&from[i], describeCheck(&from[i])})
		}
		made[&from[0]] = all
	}
	return all
}

// checks describes the checks of a server.
func checks(all []Check) string {
	if len(all) == 1 {
		return all[0].Text
	}
	var texts []string
	for _, c := range all {
		texts = append(texts, c.Text)
	}
	return strings.Join(texts, " + ")
}

// describeCheck returns c as a line of keys and values, without those that are 0
// or empty.
func describeCheck(c *config.Check) string {
	b := &strings.Builder{}
	b.WriteString(string(c.Type))
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, " %s %s", key, value)
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"interval", c.Interval}, {"timeout", c.Timeout}, {"retry_delay", c.RetryDelay}, {"warmup", c.Warmup}, {"jitter", c.Jitter},
		{"min_tx", c.BFD.MinTx}, {"min_rx", c.BFD.MinRx}, {"idle_tx", c.BFD.IdleTx},
	} {
		add(d.key, span(d.value))
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"retry", c.Retry}, {"rise", c.Rise}, {"fall", c.Fall}, {"port", c.Port}, {"source_port", c.SourcePort},
		{"mark", c.Mark}, {"min_reply", c.MinReply}, {"max_reply", c.MaxReply}, {"factor", c.Factor},
		{"regex_min_offset", c.RegexMin}, {"multiplier", c.BFD.Multiplier}, {"ttl", c.BFD.TTL}, {"max_hops", c.BFD.MaxHops},
	} {
		add(n.key, count(n.value))
	}
	for _, on := range []struct {
		key   string
		value bool
	}{
		{"alpha", c.Alpha}, {"regex_not", c.RegexNot}, {"tls_verify", c.TLSVerify}, {"require_reply", c.Answer}, {"dynamic", c.Dynamic},
		{"passive", c.BFD.Passive}, {"multihop", c.BFD.Multihop},
	} {
		add(on.key, flag(on.value))
	}
	for _, s := range []struct{ key, value string }{
		{"interface", c.Interface}, {"path", c.Path}, {"method", c.Method}, {"host", c.Host}, {"digest", c.Digest},
		{"sni", c.SNI}, {"payload", c.Payload}, {"reply", c.Reply}, {"query", c.Query}, {"name", c.Name},
		{"transport", c.Transport}, {"user", c.User}, {"file", c.File}, {"command", command(c.Command)},
		{"ca", pemFile(c.CA)}, {"certificate", pemFile(c.Certificate)}, {"key", pemFile(c.Key)},
	} {
		add(s.key, s.value)
	}
	if c.Regex != "" {
		add("regex", strconv.Quote(c.Regex))
	}
	if c.RegexEnd > 0 {
		add("regex_max_offset", strconv.Itoa(c.RegexEnd-1))
	}
	if c.Address.IsValid() {
		add("address", c.Address.String())
	}
	if c.Source.IsValid() {
		add("source", c.Source.String())
	}
	if len(c.Status) > 0 {
		add("status", fmt.Sprint(c.Status))
	}
	return b.String()
}

// pemFile returns a file, and something that is another when its content is.
func pemFile(f config.PEMFile) string {
	if f == (config.PEMFile{}) {
		return ""
	}
	sum := sha256.Sum256([]byte(f.Text))
	return fmt.Sprintf("%s (sha256 %x)", f.Path, sum[:4])
}

// command returns a program and its arguments as one would type them.
func command(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if quoted[i] = a; a == "" || strings.ContainsAny(a, " \t\n\"'\\") {
			quoted[i] = strconv.Quote(a)
		}
	}
	return strings.Join(quoted, " ")
}
