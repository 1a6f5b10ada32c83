package main

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/realserver"
)

func TestExitCodes(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "fnatrs.sock")
	for _, test := range []struct {
		args string
		code int
		want string // in what it prints
	}{
		{"", cli.Usage, "no command given"},
		{"mapping", cli.Usage, "unknown command"},
		{"run", cli.Usage, "--trust is missing"},
		{"run --trust lan", cli.Usage, "not a network"},
		{"run --trust 10.0.1.0/24 --kinds 28", cli.Usage, `option kind "28": not supported`},
		{"run --trust 10.0.1.0/24 --udp-timeout 9", cli.Usage, `missing unit in duration "9"`},
		{"run --trust 10.0.1.0/24 --udp-timeout 9ms", cli.Usage, "timeout 9ms: too short (want a second or more)"},
		{"run --trust 10.0.1.0/24 --max-mappings 1", cli.Usage, "1 mappings: too few (want 1024 or more)"},
		{"run --trust 10.0.1.0/24 --ttm-kind 1", cli.Usage, "ttm kind 1: has no length (want 2 to 255)"},
		{"run --trust 10.0.1.0/24 --ttm-kind 77 --ttm-length 9", cli.Usage, "ttm length 9: out of range (want 10 to 24)"},
		{"run --trust 10.0.1.0/24 --ttm-kind 253 --ttm-length 20", cli.Usage, "ttm kind 253, length 20: that is an option of --kinds (leave it out there)"},
		{"run --trust 10.0.1.0/24 extra", cli.Usage, "unknown command"},
		{"run --trust 10.0.1.0/24 --cgroup /nowhere", cli.Failure, `cgroup "/nowhere": no such file or directory`},
		{"run --trust 10.0.1.0/24 --cgroup /proc", cli.Failure, "not a directory of a cgroup v2 tree"},
		{"status --socket " + nobody, cli.Failure, "no fnatrs answers on " + nobody},
		{"mappings --socket " + nobody, cli.Failure, "no fnatrs answers on " + nobody},
		{"--help", cli.OK, "ahead of a UDP flow"},
		{"version", cli.OK, "fnatrs unknown"},
		{"version --json", cli.OK, `{"version":"unknown"}`},
	} {
		var out bytes.Buffer
		code := run(cli.Env{Args: strings.Fields(test.args), Stdout: &out, Stderr: &out})
		if code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("fnatrs %s: got exit code %d and %q, want %d and %q", test.args, code, out.String(), test.code, test.want)
		}
	}
}

func TestStatusTable(t *testing.T) {
	s := &realserver.Status{
		Version: "v1", PID: 7, Started: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Cgroup: "/sys/fs/cgroup", Kinds: []int{254, 200},
		TTM: &realserver.TTM{Kind: 77, Length: 22}, TCPTimeout: "1m30s", UDPTimeout: "3m0s",
		Mappings: realserver.Usage{Noticed: 1, Used: 2, Handshakes: 3, Capacity: 4096},
		Features: []realserver.Feature{
			{Name: "tcp", What: "accept", Kernel: "5.15"}, {Name: "notices", What: "at ingress", Kernel: "6.6", Missing: "not supported"},
		},
		Programs: []realserver.Attachment{{Program: "fnatrs_peer4", Hook: "getpeername4", ID: 12}},
		Counters: []realserver.Count{{Name: "learned", Count: 1234, Meaning: "connections whose client is known"}},
	}
	if err := s.Trust.Set("10.0.1.0/24"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printStatus(&out, s); err != nil {
		t.Fatal(err)
	}
	want := `version   v1
pid       7
started   2026-03-04 05:06:07
cgroup    /sys/fs/cgroup
trust     10.0.1.0/24
kinds     254 200
ttm       kind 77, length 22
timeouts  tcp 1m30s, udp 3m0s
mappings  2 used, 1 noticed, 3 handshakes, each of 4096

FEATURE  KERNEL  HERE               WHAT
tcp      5.15    yes                accept
notices  6.6     no: not supported  at ingress

PROGRAM       ID  HOOK
fnatrs_peer4  12  getpeername4

COUNTER  COUNT  MEANING
learned  1234   connections whose client is known
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMappingsTable(t *testing.T) {
	local, server := netip.MustParseAddrPort("10.0.1.10:1024"), netip.MustParseAddrPort("10.0.2.11:53")
	var out bytes.Buffer
	if err := printMappings(&out, []realserver.Mapping{
		{Protocol: "tcp", Local: local, Real: server, Client: netip.MustParseAddrPort("198.51.100.7:40000"), State: realserver.Handshaking, Idle: 1499 * time.Millisecond},
		{Protocol: "udp", Local: local, Real: server, State: realserver.Used},
	}); err != nil {
		t.Fatal(err)
	}
	want := `PROT  LOCAL           REAL          CLIENT              STATE      IDLE
tcp   10.0.1.10:1024  10.0.2.11:53  198.51.100.7:40000  handshake  1s
udp   10.0.1.10:1024  10.0.2.11:53  ambiguous           used       0s
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
