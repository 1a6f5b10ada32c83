package ipvsadm

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fnatd/fnatd/internal/ctl"
)

// Widths of the columns of names.
const (
	serviceWidth = 33
	serverWidth  = 28
)

// kernelVersion is that of IPVS in all kernels of this decade; scripts look at
// the line that it stands in to find where the list begins.
const kernelVersion = "1.2.1"

// list is -L in all its forms.
func (p *program) list(r *request) error {
	switch {
	case r.has[connection]:
		return p.listConnections(r)
	case r.has[timeout]:
		return p.listTimeouts()
	}
	services, err := p.sortedServices(r)
	if err != nil {
		return err
	}
	if r.has[serviceAddress] {
		services = slices.DeleteFunc(services, func(s ctl.Service) bool { return s.Protocol != r.protocol || s.Virtual != r.virtual })
		if len(services) == 0 {
			return &failure{exitMissing, "No such service"}
		}
	} else {
		stats, err := p.Server.Stats(p.ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.out, "IP Virtual Server version %s (size=%d)\n", kernelVersion, stats.Table.Capacity)
	}
	p.title(r)
	for i := range services {
		p.service(&services[i], r)
	}
	return nil
}

func (p *program) title(r *request) {
	row := "%-33s %8s %8s %8s %8s %8s\n"
	columns := []any{"Prot LocalAddress:Port"}
	switch {
	case r.has[stats]:
		columns = append(columns, "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes")
	case r.has[rate]:
		columns = append(columns, "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")
	case r.has[thresholds]:
		row = "%-33s %-10s %-10s %-10s %-10s\n"
		columns = append(columns, "Uthreshold", "Lthreshold", "ActiveConn", "InActConn")
	default:
		fmt.Fprint(p.out, "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n")
		return
	}
	fmt.Fprintf(p.out, row, columns...)
	fmt.Fprint(p.out, "  -> RemoteAddress:Port\n")
}

// service prints the lines of one service.
func (p *program) service(s *ctl.Service, r *request) {
	name := fmt.Sprintf("%-4s %s", strings.ToUpper(s.Protocol), p.name(s.Virtual, s.Protocol, r))
	if s.Virtual.Addr().Is4() {
		name = cut(name, serviceWidth)
	}
	switch {
	case r.has[stats]:
		fmt.Fprintf(p.out, "%-33s", name)
		p.traffic(&s.SinceZero, r)
	case r.has[rate]:
		fmt.Fprintf(p.out, "%-33s", name)
		for _, n := range s.Rates.List() {
			p.large(n, r)
		}
	default:
		fmt.Fprintf(p.out, "%s %s%s", name, s.Scheduler, settings(s))
	}
	fmt.Fprintln(p.out)
	for i := range s.Servers {
		if d := &s.Servers[i]; !absent(d) {
			p.server(d, s.Protocol, r)
		}
	}
}

// absent reports whether d is not of its service at the moment, as keepalived
// would have taken it out: it is down, or a sorry server that is not needed.
func absent(d *ctl.Server) bool { return d.Removed || d.Sorry && d.Weight == 0 }

// server prints the line of one real server.
func (p *program) server(d *ctl.Server, protocol string, r *request) {
	name := p.name(d.Real, protocol, r)
	if d.Real.Addr().Is4() {
		name = cut(name, serverWidth)
	}
	fmt.Fprintf(p.out, "  -> %-28s", name)
	switch {
	case r.has[stats]:
		p.traffic(&d.SinceZero, r)
	case r.has[rate]:
		all := d.Rates.List()
		fmt.Fprintf(p.out, " %8d %8d %8d", all[0], all[1], all[2])
		p.large(all[3], r)
		p.large(all[4], r)
	case r.has[thresholds]:
		fmt.Fprintf(p.out, " %-10d %-10d %-10d %-10d", d.UpperThreshold, d.LowerThreshold, d.Active, d.Inactive)
	default:
		fmt.Fprintf(p.out, " %-7s %-6d %-10d %-10d", "FullNat", d.Weight, d.Active, d.Inactive)
	}
	fmt.Fprintln(p.out)
}

// settings returns what follows the scheduler of a service in a list.
func settings(s *ctl.Service) (text string) {
	if f := flagsOf(s); f != "" {
		text = " (" + f + ")"
	}
	if s.PersistenceSeconds > 0 {
		text += fmt.Sprintf(" persistent %.0f", s.PersistenceSeconds)
		if m := mask(s); m != "" {
			text += " mask " + m
		}
	}
	return text
}

// flagsOf returns the flags of a service's scheduler, separated by commas.
func flagsOf(s *ctl.Service) string {
	var flags []string
	if s.Fallback {
		flags = append(flags, s.Scheduler+"-fallback")
	}
	if s.HashPort {
		flags = append(flags, s.Scheduler+"-port")
	}
	return strings.Join(flags, ",")
}

// mask returns the granularity of a service's persistence as ipvsadm writes it,
// or "" if it is one address.
func mask(s *ctl.Service) string {
	ones, bits := s.PersistenceGranularity, s.Virtual.Addr().BitLen()
	switch {
	case ones == 0 || ones == bits:
		return ""
	case bits == 32:
		return net.IP(net.CIDRMask(ones, bits)).String()
	}
	return strconv.Itoa(ones)
}

func (p *program) traffic(t *ctl.Traffic, r *request) {
	for _, n := range [...]uint64{t.Connections, t.InPackets, t.OutPackets, t.InBytes, t.OutBytes} {
		p.large(n, r)
	}
}

// large prints a counter in nine places, scaled unless --exact.
func (p *program) large(n uint64, r *request) {
	if r.has[exact] {
		text := strconv.FormatUint(n, 10)
		fmt.Fprintf(p.out, "%*s", max(9, len(text)+1), text)
		return
	}
	for _, unit := range [...]struct {
		below, by uint64
		letter    string
	}{{1e8, 1, ""}, {1e9, 1e3, "K"}, {1e11, 1e6, "M"}, {1e14, 1e9, "G"}, {^uint64(0), 1e12, "T"}} {
		if n < unit.below {
			fmt.Fprintf(p.out, "%*d%s", 9-len(unit.letter), n/unit.by, unit.letter)
			return
		}
	}
}

func (p *program) listConnections(r *request) error {
	const row = "%-3s %-6s %-11s %-18s %-18s %s\n"
	fmt.Fprint(p.out, "IPVS connection entries\n")
	fmt.Fprintf(p.out, row, "pro", "expire", "state", "source", "virtual", "destination")
	for c, err := range p.Server.Connections(p.ctx, ctl.Filter{}) {
		if err != nil {
			return err
		}
		name := func(at netip.AddrPort) string { return p.name(at, c.Protocol, r) }
		state := c.State
		if state == "UDP_ONE_WAY" {
			state = "UDP"
		}
		seconds := int(c.ExpiresSeconds)
		fmt.Fprintf(p.out, row, strings.ToUpper(c.Protocol), fmt.Sprintf("%02d:%02d", seconds/60, seconds%60), state,
			name(c.Client), name(c.Virtual), name(c.Real))
	}
	return nil
}

// listTimeouts prints the timeouts of services that set none.
func (p *program) listTimeouts() error {
	s, err := p.Server.Stats(p.ctx)
	if err == nil {
		t := &s.Timeouts
		fmt.Fprintf(p.out, "Timeout (tcp tcpfin udp): %.0f %.0f %.0f\n", t.Established, t.FinWait, t.UDP)
	}
	return err
}

// getLocals is -G: the local addresses of services.
func (p *program) getLocals(r *request) error {
	services, err := p.sortedServices(r)
	if err != nil {
		return err
	}
	if r.has[serviceAddress] {
		services = slices.DeleteFunc(services, func(s ctl.Service) bool { return s.Protocol != r.protocol || s.Virtual != r.virtual })
		if len(services) == 0 {
			return &failure{exitMissing, "No such service"}
		}
	}
	locals, err := p.localsOf()
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "%-20s %-8s %-20s %-10s %-10s\n", "VIP:VPORT", "TOTAL", "SNAT_IP", "CONFLICTS", "CONNS")
	for i := range services {
		s := &services[i]
		lips := locals[s.LocalPool]
		fmt.Fprintf(p.out, "%-20s %-8d \n", p.name(s.Virtual, s.Protocol, r), len(lips))
		for _, l := range lips {
			fmt.Fprintf(p.out, "%-20s %-8s %-20s %-10d %-10d\n", "", "", l.Address, l.Conflicts, l.Connections)
		}
	}
	return nil
}

// localsOf returns the local addresses by their pool.
func (p *program) localsOf() (map[string][]ctl.Local, error) {
	all, err := p.Server.Locals(p.ctx)
	locals := map[string][]ctl.Local{}
	for _, l := range all {
		locals[l.Pool] = append(locals[l.Pool], l)
	}
	return locals, err
}

// cut cuts a name that is too long for its column.
func cut(name string, width int) string { return name[:min(len(name), width)] }
