package main

import (
	"bytes"
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
		{"mappings", cli.Usage, "unknown command"},
		{"run", cli.Usage, "--trust is missing"},
		{"run --trust lan", cli.Usage, "not a network"},
		{"run --trust 10.0.1.0/24 --kinds 28", cli.Usage, `option kind "28": not supported`},
		{"run --trust 10.0.1.0/24 --udp-timeout 9s", cli.Usage, "unknown flag"},
		{"run --trust 10.0.1.0/24 extra", cli.Usage, "unknown command"},
		{"run --trust 10.0.1.0/24 --cgroup /nowhere", cli.Failure, `cgroup "/nowhere": no such file or directory`},
		{"run --trust 10.0.1.0/24 --cgroup /proc", cli.Failure, "not a directory of a cgroup v2 tree"},
		{"status --socket " + nobody, cli.Failure, "no fnatrs answers on " + nobody},
		{"--help", cli.OK, "TCP only"},
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
	want := `version  v1
pid      7
started  2026-03-04 05:06:07
cgroup   /sys/fs/cgroup
trust    10.0.1.0/24
kinds    254 200

PROGRAM       ID  HOOK
fnatrs_peer4  12  getpeername4

COUNTER  COUNT  MEANING
learned  1234   connections whose client is known
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
