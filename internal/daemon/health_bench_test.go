package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/lb/health"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// thousand is a configuration of 1,000 services with 10 real servers each, which
// are checked.
func thousand() string {
	var b strings.Builder
	b.WriteString("[dataplane]\ninterfaces = [\"eth0\"]\n[[local_pool]]\nname = \"lan\"\naddresses = [\"10.0.1.1-200\"]\nports = \"1024-65535\"\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\nprotocol = \"tcp\"\naddress = \"203.0.%d.%d:80\"\n[service.health]\ntype = \"http\"\nregex = \"ok\"\ninterval = \"1h\"\n", i, i/250, i%250+1)
		for j := range 10 {
			fmt.Fprintf(&b, "[[service.real_server]]\naddress = \"10.1.%d.%d:8080\"\nweight = %d\n", i%250, j+1, j+1)
		}
	}
	return b.String()
}

// reread reads and compiles the file while before and prev are in force.
func reread(file string, before *config.Config, prev *lb.Table) (*lb.Table, error) {
	cfg, _, err := readConfig(file, before)
	if err != nil {
		return nil, err
	}
	return compile(cfg, prev)
}

// BenchmarkReload1000Services does what a reload does besides packets: read,
// compile, compare, and set what is checked.
func BenchmarkReload1000Services(b *testing.B) {
	file := filepath.Join(b.TempDir(), "lb.toml")
	if err := os.WriteFile(file, []byte(thousand()), 0o644); err != nil {
		b.Fatal(err)
	}
	l, err := load(file)
	if err != nil {
		b.Fatal(err)
	}
	m := health.NewMonitor(nil, bfd.NewSpeaker(slog.Default(), bfd.UDP), func([]health.Change) {})
	defer m.Close()
	table := l.table
	services, known := checked(table, nil)
	m.Set(services)
	b.Run("reload", func(b *testing.B) {
		for b.Loop() {
			next, err := reread(file, l.cfg, table)
			if err != nil {
				b.Fatal(err)
			}
			if changes := lb.Diff(table, next); len(changes) != 0 {
				b.Fatal(changes)
			}
			services, _ := checked(next, known)
			m.Set(services)
		}
	})
	b.Run("reload_all", func(b *testing.B) {
		changed := filepath.Join(b.TempDir(), "lb.toml")
		if err := os.WriteFile(changed, []byte(strings.ReplaceAll(thousand(), "weight = 10", "weight = 11")), 0o644); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			next, err := reread(changed, l.cfg, table)
			if err != nil {
				b.Fatal(err)
			}
			if changes := lb.Diff(table, next); len(changes) != 1000 {
				b.Fatal(len(changes), " changes")
			}
			services, _ := checked(next, known)
			m.Set(services)
		}
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			_, _ = reread(file, l.cfg, table)
		}
	})
	b.Run("load_anew", func(b *testing.B) {
		for b.Loop() {
			_, _ = reread(file, nil, table)
		}
	})
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			lb.Diff(table, table)
		}
	})
	b.Run("set", func(b *testing.B) {
		for b.Loop() {
			services, _ := checked(table, nil)
			m.Set(services)
		}
	})
	b.Run("judge", func(b *testing.B) {
		down := false
		for b.Loop() {
			down = !down
			_, err := table.Judge(func(s *lb.Server) lb.Verdict { return lb.Verdict{Down: down && s.Index == 0 && s.Service.Index == 0} }, func(*lb.Service) bool { return false })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
