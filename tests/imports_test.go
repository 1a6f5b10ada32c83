package tests

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/fnatd/fnatd/"

// arrows is the architecture: for each package, the packages of this module
// that its code may import. A package that is absent may import none. Test
// files are free.
var arrows = map[string][]string{
	"cmd/fnatctl": {"config/keepalived", "internal/cli", "internal/ctl", "internal/ipvsadm"},
	"cmd/fnatd":   {"internal/daemon"},
	"cmd/fnatrs":  {"internal/cli", "realserver", "realserver/selftest"},
	"internal/daemon": {
		"config", "config/keepalived", "conntrack", "dataplane", "dataplane/bpf", "dataplane/route", "dataplane/xsk",
		"internal/ctl", "internal/packet", "internal/siphash", "internal/state", "internal/unit", "lb", "lb/health", "lb/health/bfd", "lb/sched", "synproxy",
	},
	"internal/ctl":     {"internal/packet"},
	"internal/ipvsadm": {"internal/ctl"},
	"realserver":       {"internal/cgroup", "internal/unit"},
	// On a rig of its own, whose other end speaks TCP by hand.
	"realserver/selftest": {"internal/cgroup", "internal/netns", "internal/packet", "realserver"},

	"dataplane":       {"conntrack", "dataplane/route", "dataplane/xsk", "internal/packet", "internal/siphash", "lb", "synproxy"},
	"dataplane/bpf":   {"internal/packet", "internal/siphash", "synproxy"},
	"dataplane/route": {"internal/packet"},
	"dataplane/xsk":   {"internal/prefetch"},

	"conntrack": {"internal/packet", "internal/prefetch", "internal/siphash"},
	"synproxy":  {"internal/packet", "internal/siphash"},
	"lb":        {"config", "internal/packet", "lb/sched"},
	"lb/health": {"internal/packet", "lb/health/bfd"},
	"lb/sched":  {"internal/packet"},
	"config":    {"lb/sched"}, // the names of the schedulers

	"config/keepalived": {"config"},

	// For tests and the demo; no package above may import them.
	"internal/packettest": {"internal/packet"},
	"tests/harness":       {"internal/ctl", "internal/netns", "internal/packet", "realserver"},
	"tests/demo":          {"internal/cgroup", "internal/netns", "internal/packet", "tests/harness"},
	"tests/bench": {
		"dataplane/xsk", "internal/netns", "internal/packet", "internal/packettest", "tests/bench/load", "tests/bench/traffic", "tests/harness",
	},
	"tests/bench/load":    {"internal/netns", "tests/bench/traffic"},
	"tests/bench/traffic": {"internal/netns", "internal/packettest"},
}

// unsafeFiles are the files, or the packages, that may import unsafe.
var unsafeFiles = []string{"dataplane/xsk", "conntrack/arena.go", "internal/prefetch", "internal/state/map.go", "realserver/selftest/mapping.go"}

// testOnly are the modules that serve tests and tools; no program contains them.
var testOnly = []string{"github.com/asavie/xdp", "github.com/gopacket/gopacket", "github.com/google/go-cmp", "golang.org/x/perf"}

// testPackages may import what is in testOnly.
var testPackages = []string{"internal/netns", "internal/packettest", "tests"}

// The files are read here and not by running go list, because go test caches a
// pass until a file that the test itself opened changes.
func TestImports(t *testing.T) {
	root := os.DirFS("..")
	seen := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && name != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		seen[path.Dir(name)] = true
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			if imp, _ := strconv.Unquote(spec.Path.Value); !mayImport(name, imp) {
				t.Errorf("%s: may not import %q", name, imp)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for from := range arrows {
		if !seen[from] {
			t.Errorf("arrows: no such package %q", from)
		}
	}
}

// mayImport reports whether the rules let the file name import imp.
func mayImport(name, imp string) bool {
	from := path.Dir(name)
	if to, ours := strings.CutPrefix(imp, module); ours {
		return slices.Contains(arrows[from], to)
	}
	switch {
	case imp == "C":
		return false
	case imp == "unsafe":
		return slices.Contains(unsafeFiles, name) || slices.Contains(unsafeFiles, from)
	case slices.ContainsFunc(testOnly, func(m string) bool { return within(imp, m) }):
		return slices.ContainsFunc(testPackages, func(p string) bool { return within(from, p) })
	}
	return true
}

// within reports whether name is dir or below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

func TestMayImport(t *testing.T) {
	for _, test := range []struct {
		file, imp string
		want      bool
	}{
		{"dataplane/worker.go", module + "conntrack", true},
		{"conntrack/table.go", module + "lb", false},
		{"internal/packet/tcp.go", module + "conntrack", false},
		{"conntrack/table.go", module + "config", false},
		{"conntrack/arena.go", "unsafe", true},
		{"conntrack/table.go", "unsafe", false},
		{"dataplane/xsk/ring.go", "unsafe", true},
		{"dataplane/xsk/ring.go", "C", false},
		{"dataplane/worker.go", "github.com/gopacket/gopacket/layers", false},
		{"internal/packettest/sums.go", "github.com/gopacket/gopacket/layers", true},
		{"dataplane/worker.go", module + "internal/netns", false},
		{"dataplane/worker.go", "time", true},
	} {
		if got := mayImport(test.file, test.imp); got != test.want {
			t.Errorf("%s imports %s: got %t, want %t", test.file, test.imp, got, test.want)
		}
	}
}
