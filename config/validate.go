package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A validator checks what no single value shows: names that must exist, things
// that may be there only once, keys that have no effect with others. Values that
// could not be read are reported by then and left out here.
type validator struct {
	*report
	config *Config
}

func (c *Config) validate(r *report) {
	v := &validator{r, c}
	v.settings()
	v.pools()
	names, addresses := map[string]int{}, map[string]*Service{}
	for i := range c.Services {
		s := &c.Services[i]
		v.service(s, names, addresses)
	}
	v.addresses()
}

// fail reports that the value of key in the table at w is wrong, unless it was
// reported before.
func (v *validator) fail(w *Where, context, key string, value any, format string, args ...any) {
	if !w.bad[key] {
		v.add(w.LineOf(key), message(context, key, value, fmt.Sprintf(format, args...)))
	}
}

// settings checks that each [[dataplane.interface]] is about an interface of its
// own that is served, and that no key of [dataplane] is without effect.
func (v *validator) settings() {
	d := &v.config.Dataplane
	if d.Orphaned != OrphanedPass && d.has("orphaned_after") && !d.bad["orphaned"] {
		v.fail(&d.Where, "dataplane: ", "orphaned_after", nil, `has no effect without orphaned = "pass" (add that or remove this)`)
	}
	lines := map[string]int{}
	for i := range d.Settings {
		s := &d.Settings[i]
		if line, dup := lines[s.Name]; dup && s.Name != "" {
			v.fail(&s.Where, "dataplane: interface: ", "name", s.Name, "has a table already in line %d (write both into one)", line)
		}
		lines[s.Name] = s.LineOf("name")
		if !d.bad["interfaces"] && !slices.Contains(d.Interfaces, s.Name) {
			v.fail(&s.Where, "dataplane: interface: ", "name", s.Name, "not in dataplane.interfaces (want %s, or add it there)", list(d.Interfaces, "or"))
		}
	}
}

func (v *validator) pools() {
	names := map[string]int{}
	locals := 0
	for i := range v.config.Pools {
		p := &v.config.Pools[i]
		if line, dup := names[p.Name]; dup && p.Name != "" {
			v.fail(&p.Where, "local_pool: ", "name", p.Name, "already the name of the one in line %d (choose another)", line)
		}
		names[p.Name] = p.LineOf("name")
		v.knownInterface(&p.Where, p.label, p.Interface)
		if locals += len(p.Addresses); locals > maxLocals {
			v.fail(&p.Where, p.label, "addresses", nil, "with it there are more than %d local addresses (use smaller ranges)", maxLocals)
			return
		}
	}
}

// service checks s. names has the line of each service before it, and addresses
// the service at each address and port.
func (v *validator) service(s *Service, names map[string]int, addresses map[string]*Service) {
	if line, dup := names[s.Name]; dup && s.Name != "" {
		v.fail(&s.Where, "service: ", "name", s.Name, "already the name of the one in line %d (choose another)", line)
	}
	names[s.Name] = s.LineOf("name")

	if key := string(s.Protocol) + s.Address.String(); s.Address.IsValid() && s.Protocol != "" {
		if other, dup := addresses[key]; dup {
			v.fail(&s.Where, s.label, "address", s.Address.String(), "already the %s address of %s (choose another port or merge the two)", s.Protocol, other.describe())
		} else {
			addresses[key] = s
		}
	}
	v.knownInterface(&s.Where, s.label, s.Interface)
	v.pool(s)
	v.flags(s)
	v.realServers(s)
	v.health(s)
}

func (v *validator) knownInterface(w *Where, context, name string) {
	d := &v.config.Dataplane
	switch {
	case d.bad["interfaces"] || d.bad["vlans"] || len(d.Interfaces) == 0 || slices.Contains(d.carriers(), name):
	case name == "":
		v.fail(w, context, "interface", nil, "missing (want %s)", list(d.carriers(), "or"))
	default:
		v.fail(w, context, "interface", name, "in neither dataplane.interfaces nor dataplane.vlans (want %s, or add it there)", list(d.carriers(), "or"))
	}
}

// pool checks that the service has a local pool and that its addresses are of
// the families of the real servers, which they talk to.
func (v *validator) pool(s *Service) {
	var names []string
	for i := range v.config.Pools {
		p := &v.config.Pools[i]
		if p.Name == s.Pool && s.Pool != "" {
			v.families(s, p)
			return
		}
		if p.Name != "" && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	switch {
	case len(v.config.Pools) == 0:
		v.fail(&s.Where, s.label, "local_pool", nil, "there is no pool (add a [[local_pool]])")
	case len(names) == 0: // and that is reported
	case s.Pool == "":
		v.fail(&s.Where, s.label, "local_pool", nil, "missing (want %s)", list(names, "or"))
	default:
		v.fail(&s.Where, s.label, "local_pool", s.Pool, "unknown pool (want %s)", list(names, "or"))
	}
}

func (v *validator) families(s *Service, p *LocalPool) {
	if p.bad["addresses"] {
		return
	}
	real := []netip.Addr{s.Failover.Sorry.Addr()}
	for i := range s.Servers {
		real = append(real, s.Servers[i].Address.Addr())
	}
	for _, rip := range real {
		serves := func(lip netip.Addr) bool { return lip.Is4() == rip.Is4() }
		if !rip.IsValid() || slices.ContainsFunc(p.Addresses, serves) {
			continue
		}
		family := "IPv6"
		if rip.Is4() {
			family = "IPv4"
		}
		v.fail(&s.Where, s.label, "local_pool", s.Pool, "has no %s address to reach real server %s from (add one to the pool)", family, rip)
		return
	}
}

// flags reports the keys that have no effect with the others: an operator who
// writes one expects something of it.
func (v *validator) flags(s *Service) {
	only := func(ok bool, need string, keys ...string) {
		for _, key := range keys {
			if !ok && s.has(key) {
				v.fail(&s.Where, s.label, key, nil, "has no effect without %s (add that or remove this)", need)
			}
		}
	}
	only(s.Scheduler == "sh" || s.bad["scheduler"], `scheduler = "sh"`, "sh_port", "sh_fallback")
	only(s.Scheduler == "mh" || s.bad["scheduler"], `scheduler = "mh"`, "mh_port", "mh_fallback")
	only(s.Persistence > 0 || s.bad["persistence"], "persistence", "persistence_granularity")
	if s.bad["client_address"] || s.bad["protocol"] {
		return
	}
	only(s.Protocol == TCP, `protocol = "tcp"`, "timestamps")
	only(s.ClientAddress == TOA, `client_address = "toa"`, "toa_kind6", "toa_on_syn")
	only(s.ClientAddress == TTM, `client_address = "ttm"`, "ttm_kind", "ttm_length")
	only(s.ClientAddress == ICMPEcho, `client_address = "icmp-echo"`, "notice_length")
	if s.ClientAddress == TTM {
		v.ttmKind(s)
	}
}

// ttmLength6 is the length of the shortest TTM option that holds an IPv6 address.
const ttmLength6 = 22

// ttmKind checks that the option's kind is given, since nobody has published it,
// and that it is none that TCP itself uses.
func (v *validator) ttmKind(s *Service) {
	taken := []uint8{0, 1, 2, 3, 4, 5, 8, 19, 29, 30, 34} // IANA: in use, from end of list to fast open
	switch {
	case !s.has("ttm_kind"):
		v.fail(&s.Where, s.label, "ttm_kind", nil, "missing (give the option kind that the real servers' module reads)")
	case slices.Contains(taken, s.TTMKind):
		v.fail(&s.Where, s.label, "ttm_kind", s.TTMKind, "the kind of one of TCP's own options (want one that the real servers' module reads)")
	}
	if s.Address.Addr().Is6() && s.TTMLength < ttmLength6 {
		v.fail(&s.Where, s.label, "ttm_length", s.TTMLength, "too short for an IPv6 client (want %d or more)", ttmLength6)
	}
}

func (v *validator) realServers(s *Service) {
	if n := len(s.Servers); n > maxServers {
		v.fail(&s.Where, s.label, "real_server", n, "too many (want at most %d in a service)", maxServers)
		return
	}
	lines := make(map[netip.AddrPort]int)
	for i := range s.Servers {
		r := &s.Servers[i]
		if line, dup := lines[r.Address]; dup && r.Address.IsValid() {
			v.fail(&r.Where, s.label+"real_server: ", "address", r.Address.String(), "already in line %d (remove one, or add up their weights)", line)
		}
		lines[r.Address] = r.LineOf("address")
	}
}

// describe names s in a message about another.
func (s *Service) describe() string {
	if s.Name == "" {
		return strings.TrimSuffix(s.label, ": ")
	}
	if s.Line == 0 { // of an edit
		return fmt.Sprintf("service %q", s.Name)
	}
	return fmt.Sprintf("service %q in line %d", s.Name, s.LineOf("address"))
}
