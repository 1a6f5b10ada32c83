package bpf

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckKernel(t *testing.T) {
	for _, tt := range []struct{ release, want string }{
		{"5.10.0-8-amd64", ""},
		{"5.11", ""},
		{"6.1.0", ""},
		{"10.0", ""},
		{"5.9.16", "kernel 5.9.16 is too old: fnatd needs 5.10 or newer"},
		{"4.19.0-21-amd64", "kernel 4.19.0-21-amd64 is too old: fnatd needs 5.10 or newer"},
		{"unstable", `kernel "unstable": not a version number: expected integer`},
	} {
		checkError(t, tt.release, checkKernel(tt.release), tt.want)
	}
}

func TestCheckCaps(t *testing.T) {
	const all = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON
	const remedy = ": run fnatd as root, or name them in AmbientCapabilities= of its systemd unit"
	for _, tt := range []struct {
		name string
		caps uint64
		want string
	}{
		{"all", all, ""},
		{"sys_admin_includes_both", all&^(1<<unix.CAP_BPF|1<<unix.CAP_PERFMON) | 1<<unix.CAP_SYS_ADMIN, ""},
		{"no_bpf", all &^ (1 << unix.CAP_BPF), "missing CAP_BPF" + remedy},
		{"no_perfmon", all &^ (1 << unix.CAP_PERFMON), "missing CAP_PERFMON" + remedy},
		{"no_net_raw", all &^ (1 << unix.CAP_NET_RAW), "missing CAP_NET_RAW" + remedy},
		{"none", 0, "missing CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_NET_RAW" + remedy},
	} {
		checkError(t, tt.name, checkCaps(tt.caps), tt.want)
	}
}

func TestProbeInterface(t *testing.T) {
	privateNetns(t)
	veth(t, "a0", "a1")
	checkError(t, "without a program", Probe(Options{}, "a0", "a1"), "")
	err := Probe(Options{}, "a0", "eth9")
	if err == nil || !strings.HasPrefix(err.Error(), `interface "eth9": no such interface (want one of `) ||
		!strings.Contains(err.Error(), "a1") {
		t.Errorf("got %v", err)
	}
}

func checkError(t *testing.T, name string, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
	}
}
