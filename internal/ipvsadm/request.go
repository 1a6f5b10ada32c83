package ipvsadm

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/fnatd/fnatd/internal/ctl"
)

// A request is a command line, understood.
type request struct {
	command  command
	has      [numOptions]bool
	protocol string         // tcp or udp
	virtual  netip.AddrPort // its port may be 0
	real     netip.AddrPort
	local    netip.Addr
	service  ctl.ServiceSettings
	server   ctl.ServerSettings
	flags    string // of the scheduler, as given
}

// Our choices where ipvsadm has them, too.
const (
	defaultScheduler   = "wlc"
	defaultPersistence = 360        // seconds, of -p alone
	maxTimeout         = 86400 * 31 // seconds
)

// synproxyModes are the arguments of -j.
var synproxyModes = map[string]string{"enable": "on", "disable": "off"}

// parse understands a command line. The command comes first.
func (p *program) parse(args []string) (*request, error) {
	s := scanner{args: args}
	first, err := s.next()
	if err != nil || first == nil || first.command == none {
		return nil, p.tryHelp()
	}
	r := &request{command: first.command}
	r.server.Weight = 1
	s.command = r.command
	if first.why != "" {
		return nil, usage("%s", first.why)
	}
	if r.command == help || r.command == version {
		return r, nil
	}
	for {
		g, err := s.next()
		if err != nil {
			return nil, err
		}
		if g == nil {
			break
		}
		if err := p.take(r, g); err != nil {
			return nil, err
		}
	}
	if len(s.left) > 0 {
		return nil, usage("unexpected argument %s", s.left[0])
	}
	if err := check(r.command, &r.has); err != nil {
		return nil, err
	}
	return r, r.finish()
}

// take enters one option into r.
func (p *program) take(r *request, g *given) error {
	switch {
	case g.command != none:
		return usage("invalid option `%s'", g.text)
	case g.why != "":
		return usage("%s", g.why)
	case r.has[g.option] && g.option != sorted:
		return usage("multiple '%s' options specified", optionNames[g.option])
	}
	r.has[g.option] = true
	var ok bool
	switch g.option {
	case serviceAddress:
		if r.protocol = "tcp"; g.short == 'u' {
			r.protocol = "udp"
		}
		if r.virtual, _, ok = p.endpoint(g.argument, r.protocol); !ok {
			return usage("illegal virtual server address[:port] specified")
		}
		r.service.PersistenceGranularity = r.virtual.Addr().BitLen()
	case realServer:
		var hasPort bool
		if r.real, hasPort, ok = p.endpoint(g.argument, r.protocol); !ok {
			return usage("illegal real server address[:port] specified")
		}
		if !hasPort {
			r.real = netip.AddrPortFrom(r.real.Addr(), r.virtual.Port())
		}
	case local:
		lip, err := netip.ParseAddr(g.argument)
		if err != nil {
			return usage("illegal local address specified")
		}
		r.local = lip.Unmap()
	case scheduler:
		r.service.Scheduler = g.argument
	case persistent:
		r.service.PersistenceSeconds = defaultPersistence
		if !g.absent {
			if r.service.PersistenceSeconds, ok = number(g.argument, 1, maxTimeout); !ok {
				return usage("invalid timeout value `%s' specified", g.argument)
			}
		}
	case netmask:
		return r.netmask(g.argument)
	case schedFlags:
		r.flags = g.argument
	case weight:
		if r.server.Weight, ok = number(g.argument, 0, 1<<31-1); !ok {
			return usage("illegal weight specified")
		}
	case upper:
		if r.server.UpperThreshold, ok = number(g.argument, 0, 1<<31-1); !ok {
			return usage("illegal u_threshold specified")
		}
	case lower:
		if r.server.LowerThreshold, ok = number(g.argument, 0, 1<<31-1); !ok {
			return usage("illegal l_threshold specified")
		}
	case established:
		if r.service.EstablishedSeconds, ok = number(g.argument, 1, maxTimeout); !ok {
			return usage("invalid timeout value `%s' specified", g.argument)
		}
	case synproxy:
		if r.service.SYNProxy, ok = synproxyModes[g.argument]; !ok {
			return usage("synproxy: want enable or disable, not `%s'", g.argument)
		}
	}
	return nil
}

// netmask reads -M: a mask for IPv4, the length of a prefix for IPv6.
func (r *request) netmask(text string) error {
	if r.virtual.Addr().Is6() {
		ones, ok := number(text, 1, 128)
		if !ok {
			return usage("illegal ipv6 netmask specified")
		}
		r.service.PersistenceGranularity = ones
		return nil
	}
	mask, err := netip.ParseAddr(text)
	if err != nil || !mask.Is4() {
		return usage("illegal virtual server persistent mask specified")
	}
	ones, bits := net.IPMask(mask.AsSlice()).Size()
	if bits == 0 || ones == 0 {
		return usage("persistent mask %s: want ones followed by zeros, as 255.255.255.0", text)
	}
	r.service.PersistenceGranularity = ones
	return nil
}

// finish checks what needs all options.
func (r *request) finish() error {
	if r.command == addService || r.command == editService {
		if r.service.Scheduler == "" {
			r.service.Scheduler = defaultScheduler
		}
		return r.schedulerFlags()
	}
	return nil
}

// schedulerFlags reads -b of a service.
func (r *request) schedulerFlags() error {
	if r.flags == "" {
		return nil
	}
	s := r.service.Scheduler
	for flag := range strings.SplitSeq(r.flags, ",") {
		switch flag {
		case "flag-1":
			flag = s + "-fallback"
		case "flag-2":
			flag = s + "-port"
		case "sh-fallback", "sh-port", "mh-fallback", "mh-port":
			if !strings.HasPrefix(flag, s+"-") {
				return usage("incompatible scheduler flag `%s'", flag)
			}
		default:
			return usage("invalid scheduler flag `%s'", flag)
		}
		switch {
		case s != "sh" && s != "mh":
			return usage("scheduler %s has no flags in fnatd", s)
		case strings.HasSuffix(flag, "-port"):
			r.service.HashPort = true
		default:
			r.service.Fallback = true
		}
	}
	return nil
}

// endpoint reads an address with or without a port, either of which may be a name.
func (p *program) endpoint(s, protocol string) (at netip.AddrPort, hasPort, ok bool) {
	host, port := s, ""
	if rest, bracketed := strings.CutPrefix(s, "["); bracketed {
		host, port, hasPort = strings.Cut(rest, "]:")
		if !hasPort {
			return at, false, false
		}
	} else if addr, err := netip.ParseAddr(s); err != nil || addr.Is4() {
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			host, port, hasPort = s[:i], s[i+1:], true
		}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if strings.Trim(host, "0123456789") == "" { // a port alone, and no name
			return at, false, false
		}
		if addr, ok = p.Names.Address(p.ctx, host); !ok {
			return at, false, false
		}
	}
	n := 0
	if hasPort {
		if n, ok = number(port, 0, 65535); !ok {
			if n, err = net.DefaultResolver.LookupPort(context.Background(), protocol, port); err != nil {
				return at, false, false
			}
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), hasPort, true
}

func number(s string, low, high int) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && low <= n && n <= high
}
