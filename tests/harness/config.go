package harness

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/fnatd/fnatd/internal/netns"
)

// A Service is one [[service]] of a configuration. What it does not name is
// fnatd's default.
type Service struct {
	Name     string
	Protocol string // empty is tcp
	Virtual  netip.AddrPort
	Keys     string // further lines, as scheduler = "rr"
	Timeout  string // lines of its [service.timeout]
	Health   string // lines of its [service.health]
	Servers  []Server
}

// A Server is one [[service.real_server]].
type Server struct {
	Real netip.AddrPort
	Keys string // further lines, as weight = 2
}

// Config returns a configuration for the rig: the tables that every fnatd
// needs, with extra lines for [dataplane], and the services. The local pool
// "lan" has two LIPs of either family.
func Config(rig *netns.Rig, dir, dataplane string, services ...Service) string {
	var interfaces []string
	for _, name := range rig.Interfaces() {
		interfaces = append(interfaces, fmt.Sprintf("%q", name))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `[daemon]
control = %q
metrics = %q

[dataplane]
interfaces      = [%s]
max_connections = 100_000
%s

[[local_pool]]
name      = "lan"
interface = %q
addresses = ["%s-%s", "%s-%s"]
ports     = "1024-65535"
`, Socket(dir), Metrics, strings.Join(interfaces, ", "), dataplane, rig.ServerSide(), netns.LIP(0), netns.LIP(1), netns.LIP6(0), netns.LIP6(1))
	for _, s := range services {
		s.write(&b, rig.ClientSide())
	}
	return b.String()
}

func (s *Service) write(b *strings.Builder, ifname string) {
	protocol := s.Protocol
	if protocol == "" {
		protocol = "tcp"
	}
	fmt.Fprintf(b, "\n[[service]]\nname = %q\nprotocol = %q\naddress = %q\ninterface = %q\n%s\n",
		s.Name, protocol, s.Virtual, ifname, s.Keys)
	if s.Timeout != "" {
		fmt.Fprintf(b, "\n[service.timeout]\n%s\n", s.Timeout)
	}
	if s.Health != "" {
		fmt.Fprintf(b, "\n[service.health]\n%s\n", s.Health)
	}
	for _, r := range s.Servers {
		fmt.Fprintf(b, "\n[[service.real_server]]\naddress = %q\n%s\n", r.Real, r.Keys)
	}
}

// Metrics is where fnatd serves its metrics, in the Balancer's namespace.
const Metrics = "127.0.0.1:9632"

// State returns where a fnatd that runs in dir keeps its state.
func State(dir string) string { return filepath.Join(dir, "state") }

// Socket returns the control socket of a fnatd that runs in dir.
func Socket(dir string) string { return filepath.Join(dir, "fnatd.sock") }
