package daemon

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/lb"
)

// Check reads the configuration and prints to w what fnatd would use with it:
// services, local ports, memory. It changes nothing and needs no privilege.
func Check(file string, w io.Writer) error {
	l, err := load(file)
	if err != nil {
		return err
	}
	cfg, table := l.cfg, l.table
	for _, n := range l.notes {
		fmt.Fprintln(w, n)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s: ok\n", file)
	checkServices(t, table)
	checkPools(t, table)
	checkMemory(t, cfg, table)
	return t.Flush()
}

func checkServices(w io.Writer, table *lb.Table) {
	fmt.Fprintf(w, "\nSERVICE\tPROTO\tVIRTUAL\tSCHEDULER\tREAL SERVERS\tLOCAL POOL\tCLIENT ADDRESS\tCHECKS\n")
	for _, s := range table.Services {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			s.Name, protocol(s.Proto), s.Virtual, s.Scheduler, len(s.Servers), s.Pool.Name, s.ClientAddress, kinds(s))
	}
}

// kinds returns the kinds of checks that the servers of s have.
func kinds(s *lb.Service) string {
	var all []string
	for _, server := range s.Servers {
		for _, c := range server.Checks {
			if kind := string(c.Type); !slices.Contains(all, kind) {
				all = append(all, kind)
			}
		}
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

func checkPools(w io.Writer, table *lb.Table) {
	fmt.Fprintf(w, "\nLOCAL POOL\tINTERFACE\tADDRESSES\tPORTS\tCONNECTIONS PER REAL SERVER\n")
	for _, p := range table.Pools {
		ports := int(p.PortMax) - int(p.PortMin) + 1
		fmt.Fprintf(w, "%s\t%s\t%d\t%d-%d\t%d\n", p.Name, p.Interface, len(p.Addrs), p.PortMin, p.PortMax, len(p.Addrs)*ports)
	}
}

func checkMemory(w io.Writer, cfg *config.Config, table *lb.Table) {
	size := conntrack.Measure(conntrack.Config{MaxConnections: cfg.Dataplane.MaxConnections})
	lies := "memory only"
	if path := cfg.Daemon.State; path != "" {
		lies = path + ", reserved at the start: belongs on a tmpfs"
	}
	locals := 0
	for _, p := range table.Pools {
		locals += len(p.Addrs)
	}
	fmt.Fprintf(w, "\nMEMORY\tMIB\t\n")
	fmt.Fprintf(w, "connection table\t%.1f\t%d connections of %.1f bytes, everything included\n",
		mib(size.Total), cfg.Dataplane.MaxConnections, size.PerConnection())
	fmt.Fprintf(w, "state\t%.1f\t%s; it holds the table and the notes beside it\n",
		mib(int64(state.Size(size.Memory()))), lies)
	fmt.Fprintf(w, "local ports\t%.1f\t%d addresses\n", mib(size.PerLocal*int64(locals)), locals)
	if slices.ContainsFunc(table.Services, (*lb.Service).Guarded) {
		fmt.Fprintf(w, "synproxy\t%.1f\tin the kernel: which flows have a connection, and which SYNs were shed\n", mib(size.Known+bpf.ShedMemory))
	}
	small, large := xsk.FrameSizes[0], xsk.FrameSizes[1]
	fmt.Fprintf(w, "frames\t%.1f\tfor each worker, %.1f if an interface's MTU exceeds %d; there are as many workers as the interface with the fewest queues has, or as queues says\n",
		mib(int64(cfg.Dataplane.Frames*small)), mib(int64(cfg.Dataplane.Frames*large)), mtuOf(small))
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
