package realserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/netns"
)

// What no kernel has plays the part of what an older one has not: this one refuses
// it in its own words.
var (
	noHelper = func(p *ebpf.ProgramSpec) {
		for i := range p.Instructions {
			if p.Instructions[i].IsBuiltinCall() {
				p.Instructions[i].Constant = 9999
				return
			}
		}
	}
	noKfunc = func(p *ebpf.ProgramSpec) {
		for i, ins := range p.Instructions {
			if ins.IsKfuncCall() {
				p.Instructions[i] = asm.BuiltinFunc(9999).Call().WithMetadata(ins.Metadata)
			}
		}
	}
	noType       = func(p *ebpf.ProgramSpec) { p.Type = 250 }
	noAttachType = func(p *ebpf.ProgramSpec) { p.AttachType = 250 }
	// otherHook is taken by the verifier, but not by the hook.
	otherHook = func(p *ebpf.ProgramSpec) { p.AttachType = ebpf.AttachCGroupInet4Bind }
)

// TestOlderKernels takes a feature away and looks at what is left: status names
// the reason, and the others go on.
func TestOlderKernels(t *testing.T) {
	netns.RequireRoot(t)
	for _, test := range []struct {
		name, program, feature string
		lacks                  func(*ebpf.ProgramSpec)
		want                   string // in the reason
	}{
		{"both_hooks_of_syn", "fnatrs_syn", "syn", noHelper, "invalid func unknown#9999"},
		{"hook", "fnatrs_connect4", "udp", otherHook, "attach to connect4: "},
		{"attach_type", "fnatrs_recv6", "udp", noAttachType, "program fnatrs_recv6: load program: "},
		{"program_type", "fnatrs_mapping", "uoa", noType, "program fnatrs_mapping: load program: "},
		{"helper_of_uoa", "fnatrs_mapping", "uoa", noHelper, "invalid func unknown#9999"},
		{"socket_filter", "fnatrs_icmp", "notices", noHelper, "invalid func unknown#9999"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			s, metrics := runOlder(t, &log, func(spec *ebpf.CollectionSpec) {
				noType(spec.Programs["fnatrs_request"])
				test.lacks(spec.Programs[test.program])
			})
			if len(s.Features) != 5 {
				t.Errorf("got features %+v, want all five", s.Features)
			}
			for _, f := range s.Features {
				if f.Name == test.feature && !strings.Contains(f.Missing, test.want) || f.Name != test.feature && f.Missing != "" {
					t.Errorf("%s: got missing %q, want only %s, by %q", f.Name, f.Missing, test.feature, test.want)
				}
				if strings.Contains(f.Missing, "\n") {
					t.Errorf("%s: reason has several lines: %q", f.Name, f.Missing)
				}
			}
			for _, a := range s.Programs {
				if a.Program == test.program || test.feature == "udp" && a.Program == "fnatrs_recv4" {
					t.Errorf("%s is attached: of a feature, all programs are or none", a.Program)
				}
			}
			if !strings.Contains(metrics, `fnatrs_feature{feature="`+test.feature+`"} 0`) || !strings.Contains(metrics, `fnatrs_feature{feature="tcp"} 1`) {
				t.Errorf("metrics: want fnatrs_feature %s 0 and tcp 1, got\n%s", test.feature, metrics)
			}
			if !strings.Contains(log.String(), "this kernel lacks a feature") || !strings.Contains(log.String(), "feature="+test.feature) {
				t.Errorf("log: got %s", log.String())
			}
		})
	}
}

// TestOlderKernelTakesTheDearerWay where it lacks what the other takes, or cannot
// attach that.
func TestOlderKernelTakesTheDearerWay(t *testing.T) {
	netns.RequireRoot(t)
	for _, test := range []struct {
		name, program, feature, instead string
		lacks                           func(*ebpf.ProgramSpec)
	}{
		{"tracing", "fnatrs_request", "syn", "fnatrs_syn", noType},
		{"function", "fnatrs_request", "syn", "fnatrs_syn", func(p *ebpf.ProgramSpec) { p.AttachTo = "tcp_of_another_kernel" }},
		{"hook_of_syn", "fnatrs_request", "syn", "fnatrs_syn", func(p *ebpf.ProgramSpec) { p.Type, p.AttachType, p.AttachTo = ebpf.SocketFilter, 0, "" }},
		{"function_for_programs", "fnatrs_sockopt", "tcp", "fnatrs_sockopt", noKfunc},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			s, metrics := runOlder(t, &log, func(spec *ebpf.CollectionSpec) { test.lacks(spec.Programs[test.program]) })
			for _, f := range s.Features {
				if f.Missing != "" || f.Name == test.feature && (f.Dearer == "" || strings.Contains(f.Dearer, "\n")) {
					t.Errorf("%s: got missing %q, dearer %q, want only %s in the dearer way, for one line of reason", f.Name, f.Missing, f.Dearer, test.feature)
				}
			}
			attached := map[string]bool{}
			for _, a := range s.Programs {
				attached[a.Program] = true
			}
			if test.program != test.instead && attached[test.program] || !attached[test.instead] {
				t.Errorf("attached: got %+v, want %s and not %s", s.Programs, test.instead, test.program)
			}
			if !strings.Contains(metrics, `fnatrs_feature{feature="`+test.feature+`"} 1`) || !strings.Contains(log.String(), "feature="+test.feature) {
				t.Errorf("got metrics\n%s\nand log %s", metrics, log.String())
			}
		})
	}
}

// TestOlderKernelWithoutTCP does not start, and says why.
func TestOlderKernelWithoutTCP(t *testing.T) {
	netns.RequireRoot(t)
	for name, program := range map[string]string{"sock_ops": "fnatrs_sockops", "getpeername": "fnatrs_peer6"} {
		o := olderOptions(t, io.Discard, func(spec *ebpf.CollectionSpec) { noType(spec.Programs[program]) })
		if _, err := load(&o); err == nil || !strings.HasPrefix(err.Error(), "tcp: ") || !strings.Contains(err.Error(), program) {
			t.Errorf("%s: got %v, want it to name the feature and the program", name, err)
		}
	}
}

func olderOptions(t *testing.T, log io.Writer, older func(*ebpf.CollectionSpec)) Options {
	o := Options{
		Cgroup: rootCgroup(t), Kinds: DefaultKinds, TCPTimeout: time.Minute, UDPTimeout: time.Minute, MaxMappings: minMappings,
		Socket: filepath.Join(t.TempDir(), "fnatrs.sock"), Log: slog.New(slog.NewTextHandler(log, nil)),
		older: older,
	}
	if err := o.Trust.Set("10.0.1.0/24"); err != nil {
		t.Fatal(err)
	}
	return o
}

// runOlder runs fnatrs in a namespace and a cgroup of its own, and returns what it
// says of itself; log is complete then.
func runOlder(t *testing.T, log io.Writer, older func(*ebpf.CollectionSpec)) (s *Status, metrics string) {
	t.Helper()
	group, err := cgroup.New("fnatrs-older")
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	rig, err := netns.Bare(netns.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	defer rig.Close()
	host, err := rig.AddHost("server")
	if err != nil {
		t.Fatal(err)
	}
	o := olderOptions(t, log, older)
	o.Cgroup = group.Path
	err = host.Do(func() error {
		p, err := load(&o)
		if err != nil {
			return err
		}
		if err := p.attach(&o); err != nil {
			return errors.Join(err, p.close())
		}
		a := &answerer{opts: o, started: time.Now(), programs: p}
		w := httptest.NewRecorder()
		a.metricsHandler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "GET", "/metrics", nil))
		metrics = w.Body.String()
		s, err = a.status()
		return errors.Join(err, p.close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, metrics
}
