package tests

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/tests/harness"
)

// nobody is a user without privileges.
const nobody = 65534

// as makes a command run as nobody with these capabilities and no others.
func as(cmd *exec.Cmd, capabilities ...uintptr) *exec.Cmd {
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	cmd.SysProcAttr.AmbientCaps = capabilities
	return cmd
}

// documented are the capabilities that the README says fnatd needs.
var documented = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_IPC_LOCK}

// TestExit holds what fnatd says when it cannot run, and its exit code.
func TestExit(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	good := harness.Config(b.Rig, b.dir, "", b.web(0))
	bad := b.web(0)
	bad.Keys = "scheduler = \"best\"\ncolour = \"blue\""
	bad.Servers[0].Keys = "weight = -1"
	for _, test := range []struct {
		name   string
		config string
		args   []string // instead of -c FILE
		change func(*exec.Cmd) *exec.Cmd
		code   int
		lines  []string // of stderr: each contains this
	}{
		{
			name: "bad_configuration", config: harness.Config(b.Rig, b.dir, "busy_poll = 1", bad), code: 2,
			lines: []string{"configuration refused", `: dataplane: busy_poll`, `: service "web": scheduler "best"`, `: service "web": "colour"`, `: service "web": real_server: weight -1`},
		},
		{name: "no_such_file", args: []string{"-c", "/nowhere/lb.toml"}, code: 2, lines: []string{"configuration refused", "/nowhere/lb.toml"}},
		{name: "no_file", args: []string{}, code: 2, lines: []string{"no configuration: say fnatd -c FILE"}},
		{name: "surplus_argument", args: []string{"-c", harness.ConfigFile(b.dir), "lb.toml"}, code: 2, lines: []string{`unexpected argument "lb.toml"`}},
		{
			name: "no_such_interface", config: strings.ReplaceAll(good, "wan0", "wan9"), code: 1,
			lines: []string{`interface "wan9": no such interface (want one of `},
		},
		{
			name: "no_capability", config: good, code: 1, change: func(c *exec.Cmd) *exec.Cmd { return as(c) },
			lines: []string{"missing CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_NET_RAW: run fnatd as root, or "},
		},
		{
			name: "no_CAP_BPF", config: good, code: 1,
			change: func(c *exec.Cmd) *exec.Cmd { return as(c, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_PERFMON) },
			lines:  []string{"missing CAP_BPF: run fnatd as root, or "},
		},
		{
			name: "no_CAP_PERFMON", config: good, code: 1,
			change: func(c *exec.Cmd) *exec.Cmd { return as(c, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF) },
			lines:  []string{"missing CAP_PERFMON: run fnatd as root, or "},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if args == nil {
				args = []string{"-c", b.write(test.config)}
			}
			cmd := b.Balancer.Command(t.Context(), filepath.Join(bin, "fnatd"), args...)
			if test.change != nil {
				cmd = test.change(cmd)
			}
			checkExit(t, b, cmd, test.code, test.lines...)
		})
	}
	if traces := b.traces(); len(traces) > 0 {
		t.Errorf("fnatd has not run and left %q", traces)
	}
}

// write writes the configuration file.
func (b *bed) write(config string) string {
	b.Helper()
	name := harness.ConfigFile(b.dir)
	if err := os.WriteFile(name, []byte(config), 0o644); err != nil {
		b.Fatal(err)
	}
	return name
}

// checkExit runs a command that must fail with this exit code and print these
// lines, no more and no fewer, to stderr.
func checkExit(t *testing.T, b *bed, cmd *exec.Cmd, code int, lines ...string) {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := b.Balancer.Start(cmd); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code: got %d, want %d", got, code)
	}
	got := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
	if len(got) != len(lines) || stdout.Len() > 0 {
		t.Fatalf("printed %d lines, want %d:\n%s%s", len(got), len(lines), stdout.String(), stderr.String())
	}
	for i, want := range lines {
		if !strings.Contains(got[i], want) {
			t.Errorf("line %d: got %q, want it to contain %q", i+1, got[i], want)
		}
	}
}

func TestExitWhileAnotherRuns(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	config := harness.Config(b.Rig, b.dir, "", b.web(0))
	fnatd := func(config string) *exec.Cmd {
		name := filepath.Join(b.dir, "second.toml")
		if err := os.WriteFile(name, []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		return b.Balancer.Command(t.Context(), filepath.Join(bin, "fnatd"), "-c", name)
	}
	checkExit(t, b, fnatd(config), 1, "another fnatd (pid ")
	config = strings.ReplaceAll(config, harness.Socket(b.dir), filepath.Join(b.dir, "second.sock"))
	checkExit(t, b, fnatd(config), 1, harness.Metrics+": bind: address already in use (set metrics in [daemon]")
	config = strings.ReplaceAll(config, harness.Metrics, "")
	checkExit(t, b, fnatd(config), 1, "fnatd: state "+harness.State(b.dir)+": another fnatd uses it: stop it first, or set state in [daemon]")
	config = strings.Replace(config, "[daemon]", "[daemon]\nstate = \"\"", 1)
	checkExit(t, b, fnatd(config), 1, "another fnatd is running: stop it first")
	b.connect(accepted).exchange() // the first one has not noticed
}

func TestExitOnForeignProgram(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	b.attach(b.Balancer, "lan0", asm.Mov.Imm(asm.R0, xdpPass), asm.Return())
	cmd := b.Balancer.Command(t.Context(), filepath.Join(bin, "fnatd"), "-c", b.write(harness.Config(b.Rig, b.dir, "", b.web(0))))
	checkExit(t, b, cmd, 1, `interface "lan0" already carries an XDP program (id `)
	if out := b.run(b.Balancer, "ip", "link", "show", "lan0"); !strings.Contains(out, "xdp") {
		t.Errorf("the foreign program has gone:\n%s", out)
	}
}

// TestRunsWithoutRoot runs fnatd as nobody with the capabilities that the README
// names. Where that user cannot write to the BPF file system it runs unpinned.
func TestRunsWithoutRoot(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	if err := os.Chown(b.dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := as(b.Balancer.Command(context.Background(), filepath.Join(bin, "fnatd"), "-c", harness.ConfigFile(b.dir)), documented...)
	var err error
	if b.lb, err = harness.StartCommand(b.Rig, cmd, b.dir, harness.Config(b.Rig, b.dir, "", b.web(0))); err != nil {
		t.Fatal(err)
	}
	b.connect(accepted).exchange()
	if !strings.Contains(b.lb.Log(), "not pinned") {
		t.Errorf("fnatd does not warn that its program is not pinned:\n%s", b.lb.Log())
	}
}

func TestCheckConfiguration(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	// It needs no privilege and no interface.
	cmd := as(b.Balancer.Command(t.Context(), filepath.Join(bin, "fnatd"), "-t", "-c",
		b.write(strings.ReplaceAll(harness.Config(b.Rig, b.dir, "", b.web(0)), "wan0", "wan9"))))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := errors.Join(b.Balancer.Start(cmd), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	b.contains(out.String(), "lb.toml: ok")
	b.contains(out.String(), "web", "tcp", b.vip(80), "rr", 1, "lan", "toa", "none")
	b.contains(out.String(), "lan", "lan0", 4, "1024-65535", 4*(65535-1024+1))
	b.contains(out.String(), "connection table", "100000 connections of")
	if traces := b.traces(); len(traces) > 0 {
		t.Errorf("fnatd -t has left %q", traces)
	}
}
