package daemon

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/lb"
)

// tenThousand is a configuration of 1,000 services with 10 real servers each.
func tenThousand(scheduler string) string {
	var b strings.Builder
	b.WriteString("[dataplane]\ninterfaces = [\"eth0\"]\n[[local_pool]]\nname = \"lan\"\naddresses = [\"10.0.1.10-13\"]\nports = \"1024-65535\"\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\nprotocol = \"tcp\"\naddress = \"100.64.%d.%d:80\"\nscheduler = %q\n", i, i>>8, i&255, scheduler)
		for j := range 10 {
			fmt.Fprintf(&b, "[[service.real_server]]\naddress = \"10.0.2.%d:80\"\nweight = 3\n", j+1)
		}
	}
	return b.String()
}

// BenchmarkPlan is what a reload of 10,000 real servers takes before it touches
// the packet path, of which one is changed.
func BenchmarkPlan(b *testing.B) {
	for _, scheduler := range []string{"wlc", "mh"} {
		b.Run(scheduler, func(b *testing.B) {
			text := tenThousand(scheduler)
			old := must(lb.Compile(must(config.Parse("lb.toml", []byte(text))), nil))
			changed := []byte(strings.Replace(text, "weight = 3", "weight = 4", 1))
			for b.Loop() {
				cfg := must(config.Parse("lb.toml", changed))
				if got := lb.Diff(old, must(lb.Compile(cfg, old))); len(got) != 1 {
					b.Fatalf("got %d changes", len(got))
				}
			}
		})
	}
}

// BenchmarkRestore is what the rules of 10,000 real servers take, as ipvsadm -R
// sends them.
func BenchmarkRestore(b *testing.B) {
	empty, _, _ := strings.Cut(tenThousand("wlc"), "[[service]]")
	cfg := must(config.Parse("lb.toml", []byte(empty)))
	full := must(config.Parse("lb.toml", []byte(tenThousand("wlc"))))
	var edits []ctl.Edit
	for i := range full.Services {
		s := &full.Services[i]
		edits = append(edits, ctl.Edit{Op: ctl.AddService, Protocol: "tcp", Virtual: s.Address, Service: &ctl.ServiceSettings{Scheduler: "wlc"}})
		for _, r := range s.Servers {
			edits = append(edits, ctl.Edit{Op: ctl.AddServer, Protocol: "tcp", Virtual: s.Address, Real: r.Address, Server: &ctl.ServerSettings{Weight: 1}})
		}
	}
	for b.Loop() {
		next, refused, err := edited(cfg, edits, nil)
		if err != nil || len(refused) > 0 || len(next.Services) != len(full.Services) {
			b.Fatal(err, refused)
		}
	}
}
