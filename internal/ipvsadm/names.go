package ipvsadm

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// Names knows what addresses and ports are called.
type Names interface {
	Host(context.Context, netip.Addr) (string, bool)    // the name of an address
	Address(context.Context, string) (netip.Addr, bool) // the address of a name
	Port(port uint16, protocol string) (string, bool)   // the name of a port
}

// name returns an address and port as lists show them: in numbers with -n.
func (p *program) name(at netip.AddrPort, protocol string, r *request) string {
	if r.has[numeric] {
		return at.String()
	}
	host, ok := p.Names.Host(p.ctx, at.Addr())
	if !ok {
		host = at.Addr().String()
	}
	port, ok := p.Names.Port(at.Port(), protocol)
	if !ok {
		port = strconv.Itoa(int(at.Port()))
	}
	if at.Addr().Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// lookTime is how long a name server may take for one answer.
const lookTime = 5 * time.Second

// System asks the host: its name servers and /etc/services. It remembers the
// answers. It is for one goroutine.
type System struct {
	hosts map[netip.Addr]string // "" for none
	ports map[string]string     // "80/tcp" to "http"; nil before it is read
}

// Host implements Names.
func (s *System) Host(ctx context.Context, a netip.Addr) (string, bool) {
	name, known := s.hosts[a]
	if !known {
		ctx, done := context.WithTimeout(ctx, lookTime)
		defer done()
		if all, err := net.DefaultResolver.LookupAddr(ctx, a.String()); err == nil && len(all) > 0 {
			name = strings.TrimSuffix(all[0], ".")
		}
		if s.hosts == nil {
			s.hosts = map[netip.Addr]string{}
		}
		s.hosts[a] = name
	}
	return name, name != ""
}

// Address implements Names. It is an IPv4 address, as ipvsadm looks for no other.
func (s *System) Address(ctx context.Context, name string) (netip.Addr, bool) {
	ctx, done := context.WithTimeout(ctx, lookTime)
	defer done()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err != nil || len(all) == 0 {
		return netip.Addr{}, false
	}
	return all[0].Unmap(), true
}

// Port implements Names.
func (s *System) Port(port uint16, protocol string) (string, bool) {
	if s.ports == nil {
		s.ports = readServices("/etc/services")
	}
	name, ok := s.ports[strconv.Itoa(int(port))+"/"+protocol]
	return name, ok
}

// readServices reads a file of services(5): of a port with several names the
// first.
func readServices(file string) map[string]string {
	ports := map[string]string{}
	f, err := os.Open(file)
	if err != nil {
		return ports // numbers, then
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if words := strings.Fields(text); len(words) >= 2 {
			if _, known := ports[words[1]]; !known {
				ports[words[1]] = words[0]
			}
		}
	}
	return ports
}
