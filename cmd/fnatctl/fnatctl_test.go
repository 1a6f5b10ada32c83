package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/internal/ctl"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

func endpoint(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// fakeBackend is a small fnatd that never changes.
type fakeBackend struct {
	ctl.Backend // nil: the rest is not asked
	conns       int
	reloadErr   error
	status      *ctl.Status // another than usual
}

func (*fakeBackend) Services() []ctl.Service {
	return []ctl.Service{{
		Name: "web", Protocol: "tcp", Virtual: endpoint("203.0.113.10:80"), Interface: "eth0",
		Scheduler: "wlc", LocalPool: "lan", ClientAddress: "toa", PersistenceSeconds: 300, EstablishedSeconds: 90, SYNProxy: "on",
		Traffic: ctl.Traffic{Connections: 1034, InPackets: 20331, OutPackets: 123456789, InBytes: 2_100_000, OutBytes: 123_456_789_012},
		Servers: []ctl.Server{
			{Real: endpoint("10.0.2.11:8080"), Weight: 1, Active: 12, Inactive: 3, Traffic: ctl.Traffic{Connections: 1000}},
			{Real: endpoint("10.0.2.12:8080"), Weight: 0, Active: 2},
			{Real: endpoint("10.0.2.13:8080"), Weight: 5, UpperThreshold: 100, LowerThreshold: 80, Active: 100, Overloaded: true},
		},
	}, {
		Name: "dns", Protocol: "udp", Virtual: endpoint("[2001:db8:1234:5678:9abc:def0:1234:5678]:53"), Interface: "eth0",
		Scheduler: "rr", LocalPool: "lan", ClientAddress: "icmp-echo", SYNProxy: "off",
	}}
}

func (f *fakeBackend) Connections() iter.Seq[ctl.Connection] {
	return func(yield func(ctl.Connection) bool) {
		for i := range f.conns {
			c := ctl.Connection{
				Protocol: "tcp", State: "ESTABLISHED", ExpiresSeconds: 89.5 + float64(i)*100,
				Client:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 40000),
				Virtual: endpoint("203.0.113.10:80"), Local: endpoint("10.0.1.10:1024"), Real: endpoint("10.0.2.11:8080"),
				Service: "web",
			}
			if i%2 == 1 {
				c.Protocol, c.State, c.Service = "udp", "UDP", "dns"
			}
			if !yield(c) {
				return
			}
		}
	}
}

func (*fakeBackend) Locals() []ctl.Local {
	return []ctl.Local{
		{Pool: "lan", Interface: "eth0", Address: netip.MustParseAddr("10.0.1.10"), PortMin: 1024, PortMax: 65535, PortsInUse: 512, PortsFree: 64000, Conflicts: 7},
		{Pool: "lan", Interface: "eth0", Address: netip.MustParseAddr("fd00:1::10"), PortMin: 1024, PortMax: 65535, PortsFree: 64512},
	}
}

func (*fakeBackend) Stats() ctl.Stats {
	return ctl.Stats{
		Version: "v1.2.3", PID: 4711, UptimeSeconds: 3*86400 + 4*3600 + 5*60 + 6.7,
		ConfigFile: "/etc/fnatd/lb.toml", ConfigLoaded: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		ReloadError: `lb.toml:31: service "web": scheduler "best": unknown scheduler` + "\nlb.toml:40: service \"dns\": protocol \"upd\": want tcp or udp",
		Table:       ctl.Table{Capacity: 1000000, Connections: 12345, HalfOpen: 34, Templates: 2, Bytes: 124 << 20},
		Events:      []ctl.Event{{Name: "conn_expired", Count: 77}, {Name: "reset_sent", Count: 2}},
		ClientAddresses: ctl.ClientCounts{
			Inserted: 5000, NotInserted: ctl.NotInserted{NoRoom: 3, OverMTU: 1}, Stripped: 2,
			Notices: ctl.Notices{Sent: 10, Acknowledged: 9, Resent: 4, GivenUp: 1},
		},
		Guards: []ctl.Guard{
			{
				Service: "web", Mode: "adaptive", On: true, Answer: "xdp", BadACKs: "xdp",
				Offer: ctl.Offer{MSS: 1452, Window: 64240, WindowScale: 7, SACK: true, Timestamps: true},
				Events: []ctl.Event{
					{Name: "syn", Count: 4000000}, {Name: "cookie_sent", Count: 4000000}, {Name: "good_ack", Count: 210}, {Name: "bad_ack", Count: 7}, {Name: "bad_ack_in_xdp", Count: 5},
					{Name: "joined", Count: 208}, {Name: "refused", Count: 1}, {Name: "syn_retried", Count: 3}, {Name: "silent", Count: 1}, {Name: "failed", Count: 1},
				},
			},
			{Service: "ssh", Mode: "off"},
		},
		Interfaces: []ctl.Interface{
			{Name: "eth0", Mode: "zerocopy", Queues: 2},
			{Name: "veth1", Mode: "copy", Queues: 1, Reason: "zero-copy: operation not supported"},
		},
		Workers: []ctl.Worker{{
			ID: 0, CPU: 2, RxPackets: 1000, TxPackets: 990, RxBytes: 64000, TxBytes: 63360, Dropped: 10, Batches: 100, MeanBatch: 10, IdleShare: 0.25,
			Frames: ctl.Frames{Fill: 2000, Rx: 1, Tx: 2, Completion: 3, Free: 4, Held: 5},
			Rings:  []ctl.Ring{{Interface: "eth0", Mode: "zerocopy"}, {Interface: "veth1", Mode: "copy", RxRingFull: 9}},
		}, {
			ID: 1, CPU: -1, IdleShare: 1, Frames: ctl.Frames{Free: 8192}, Rings: []ctl.Ring{{Interface: "eth0", Queue: 1, Mode: "zerocopy"}},
		}},
	}
}

func (*fakeBackend) Drops() []ctl.Drop {
	return []ctl.Drop{ctl.NewDrop("no_service", 12), ctl.NewDrop("table_full", 0), ctl.NewDrop("no_local_port", 1234567)}
}

func (*fakeBackend) Health() []ctl.ServiceHealth {
	real := netip.MustParseAddrPort
	return []ctl.ServiceHealth{{
		Name: "web", Protocol: "tcp", Virtual: real("203.0.113.10:80"), Quorum: 3, Hysteresis: 1, Weight: 1,
		Sorry: real("10.0.2.99:80"), Servers: []ctl.ServerHealth{
			{Real: real("10.0.2.11:8080"), State: ctl.HealthUp, Weight: 1, Checks: []ctl.CheckHealth{
				{Name: "http /healthz", Passing: true, Streak: 1, At: time.Unix(1, 0), TookSeconds: 2, Passed: 99, Failed: 1, Error: "no full answer within 2s"},
				{Name: "tcp", Passing: true},
			}},
			{Real: real("10.0.2.12:8080"), State: ctl.HealthDown, Reason: "tcp: connection refused", HeldSeconds: 7.5, Flaps: 3, Checks: []ctl.CheckHealth{
				{Name: "tcp", At: time.Unix(1, 0), TookSeconds: 0.0123, Passed: 3},
			}},
		},
	}, {
		Name: "dns", Protocol: "udp", Virtual: real("203.0.113.10:53"), Quorum: 1, Weight: 1, HasQuorum: true,
		Servers: []ctl.ServerHealth{{Real: real("[2001:db8::11]:53"), State: ctl.HealthUnchecked, Weight: 1, Checks: []ctl.CheckHealth{}}},
	}, {
		Name: "bfd", Protocol: "tcp", Virtual: real("203.0.113.10:81"), Quorum: 1, Weight: 1, HasQuorum: true, Servers: []ctl.ServerHealth{
			{Real: real("10.0.2.13:80"), State: ctl.HealthUp, Weight: 1, Checks: []ctl.CheckHealth{{
				Name: "bfd", Passing: true, At: time.Unix(1, 0), Passed: 7, BFD: &ctl.BFD{
					Neighbor: netip.MustParseAddr("10.0.2.13"), State: "up", RemoteState: "up", Diagnostic: "control detection time expired",
					RemoteDiagnostic: "none", Discriminator: 0xabcd, RemoteDiscriminator: 0x12345678, IntervalSeconds: 0.01, DetectionSeconds: 0.05, Downs: 1,
				},
			}}},
			{Real: real("10.0.2.14:80"), State: ctl.HealthDown, Reason: "bfd: no packet has come", Checks: []ctl.CheckHealth{{
				Name: "bfd", At: time.Unix(1, 0), Failed: 2, Error: "no packet has come", BFD: &ctl.BFD{
					Neighbor: netip.MustParseAddr("10.0.2.14"), State: "down", RemoteState: "down", Diagnostic: "none", RemoteDiagnostic: "none", Discriminator: 0x2, IntervalSeconds: 1,
				},
			}}},
		},
	}}
}

func (f *fakeBackend) Reload(context.Context) (ctl.Reload, error) {
	return ctl.Reload{ConfigFile: "/etc/fnatd/lb.toml", Changes: []string{`service "web": real_server 10.0.2.14:8080: added`}}, f.reloadErr
}

func (*fakeBackend) Diff(_ context.Context, name string, toml []byte) (ctl.Diff, error) {
	switch {
	case toml == nil:
		return ctl.Diff{ConfigFile: "/etc/fnatd/lb.toml"}, nil
	case string(toml) == "bad\n":
		return ctl.Diff{}, errors.New(name + ":1: bad")
	}
	return ctl.Diff{ConfigFile: name, Changes: []ctl.Change{
		{What: `~ service "web": scheduler wlc -> rr`, Connections: 1234},
		{What: `- service "web": real_server 10.0.2.12:8080: weight 0`, Connections: 2, Effect: "go on for 30s, then reset"},
		{What: `+ service "web": real_server 10.0.2.14:8080: weight 1`},
	}}, nil
}

func (*fakeBackend) Explain(f ctl.Flow) ctl.Explanation {
	e := ctl.Explanation{Flow: f, Verdict: ctl.Forwarded, Steps: []ctl.Step{{What: "service", Text: "web: wlc, pool lan, client address toa"}, {What: "real server", Text: "10.0.2.11:8080"}}}
	if f.Protocol == "udp" {
		e.Verdict, e.Reason = ctl.WouldDrop, "no_server"
		e.LastDrop = &ctl.LastDrop{Drop: ctl.NewDrop("no_neighbour", 0), AgoSeconds: 3.25}
	}
	return e
}

func (*fakeBackend) Drains() []ctl.Drain {
	return []ctl.Drain{
		{Service: "web", Virtual: endpoint("203.0.113.10:80"), Real: endpoint("10.0.2.11:8080"), Connections: 12, ResetSeconds: 29.01},
		{Service: "web", Virtual: endpoint("203.0.113.10:80"), Real: endpoint("10.0.2.12:8080")},
		{Service: "old", Virtual: endpoint("203.0.113.10:81"), Real: endpoint("10.0.2.12:8080"), Connections: 1, ResetSeconds: 5, Removed: true},
	}
}

func (f *fakeBackend) Drain(_ context.Context, o ctl.DrainOrder) ([]ctl.Drain, error) {
	if o.Undo {
		return nil, nil
	}
	d := ctl.Drain{Service: o.Service, Real: endpoint(o.Server), Connections: 12, ResetSeconds: 30}
	if o.Seconds != nil {
		d.ResetSeconds = *o.Seconds
	}
	return []ctl.Drain{d}, nil
}

// serve serves b on a unix socket until the test ends and returns its path.
func serve(t *testing.T, b ctl.Backend) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "fnatd.sock")
	l, err := ctl.Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ctl.Serve(ctx, l, ctl.NewServer(b)) }()
	t.Cleanup(func() {
		stop()
		<-done
		l.Close()
	})
	return socket
}

// fnatctl runs the program and returns what it did.
func fnatctl(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(cli.Env{Args: args, Stdout: &out, Stderr: &err})
	return code, out.String(), err.String()
}

// golden compares got with the file of the test's name in testdata.
func golden(t *testing.T, got string) {
	t.Helper()
	name := filepath.Join("testdata", filepath.Base(t.Name())+".golden")
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func TestTables(t *testing.T) {
	socket := serve(t, &fakeBackend{conns: 4})
	for name, args := range map[string][]string{
		"services":                {"services"},
		"services_stats":          {"services", "--stats"},
		"connections":             {"connections"},
		"connections_of_service":  {"connections", "--service", "dns"},
		"connections_of_client":   {"connections", "--client", "198.51.100.2"},
		"connections_of_network":  {"connections", "--client", "198.51.100.2/31"},
		"connections_in_state":    {"connections", "--state", "established", "--limit", "5"},
		"connections_none":        {"connections", "--client", "192.0.2.1"},
		"locals":                  {"locals"},
		"stats":                   {"stats"},
		"status":                  {"status"},
		"json_status":             {"status", "--json"},
		"stop":                    {"stop"},
		"upgrade":                 {"upgrade"},
		"upgrade_binary":          {"upgrade", "--binary", "/usr/local/sbin/fnatd.new"},
		"json_upgrade":            {"upgrade", "--json"},
		"stop_forget":             {"stop", "--forget"},
		"json_stop":               {"stop", "--json"},
		"drops":                   {"drops"},
		"drops_all":               {"drops", "--all"},
		"health":                  {"health"},
		"health_checks":           {"health", "--checks"},
		"json_health":             {"health", "--json"},
		"reload":                  {"reload"},
		"diff":                    {"diff", "testdata/small.toml"},
		"diff_of_keepalived_conf": {"diff", "testdata/keepalived_interfaces.conf"},
		"diff_of_its_own":         {"diff"},
		"json_diff":               {"diff", "testdata/small.toml", "--json"},
		"explain":                 {"explain", "TCP", "198.51.100.7:40000", "203.0.113.10:80"},
		"explain_a_drop":          {"explain", "udp", "198.51.100.7:40000", "203.0.113.10:53"},
		"json_explain":            {"explain", "--json", "tcp", "198.51.100.7:40000", "203.0.113.10:80"},
		"completion_of_a_vip":     {"__complete", "explain", "tcp", "198.51.100.7:40000", ""},
		"drains":                  {"drain"},
		"drain":                   {"drain", "10.0.2.11:8080", "--service", "web"},
		"drain_for":               {"drain", "10.0.2.11:8080", "--service", "web", "--for", "90s"},
		"drain_undo":              {"drain", "10.0.2.11:8080", "--undo"},
		"json_drains":             {"drain", "--json"},
		"completion_of_a_server":  {"__complete", "drain", ""},
		"version":                 {"version"},
		"json_services":           {"--json", "services"},
		"json_connections":        {"connections", "--json", "--limit", "1"},
		"json_locals":             {"locals", "--json"},
		"json_drops":              {"drops", "--json"},
		"json_reload":             {"reload", "--json"},
		"json_stats":              {"stats", "--json"},
		"json_version":            {"version", "--json"},
		"completion_of_a_state":   {"__complete", "connections", "--state", "SYN"},
		"completion_of_a_service": {"__complete", "connections", "--service", ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := fnatctl(append([]string{"--socket", socket}, args...)...)
			if code != cli.OK {
				t.Errorf("got exit code %d (%s), want 0", code, stderr)
			}
			if strings.HasPrefix(name, "json_") && !json.Valid([]byte(stdout)) {
				t.Errorf("not JSON: %s", stdout)
			}
			golden(t, stdout)
		})
	}
}

func TestLimitSaysThatThereAreMore(t *testing.T) {
	code, stdout, stderr := fnatctl("--socket", serve(t, &fakeBackend{conns: 4}), "connections", "--limit", "3")
	if lines := strings.Count(stdout, "\n"); code != cli.OK || lines != 4 {
		t.Errorf("got exit code %d and %d lines, want 0 and 4", code, lines)
	}
	if want := "fnatctl: there are more than the 3 of --limit\n"; stderr != want {
		t.Errorf("got %q, want %q", stderr, want)
	}
}

// TestManyConnections has more rows than a table looks at before it prints.
func TestManyConnections(t *testing.T) {
	code, stdout, stderr := fnatctl("--socket", serve(t, &fakeBackend{conns: 10 * sample}), "connections")
	if got := strings.Count(stdout, "\n"); code != cli.OK || got != 10*sample+1 {
		t.Errorf("got exit code %d (%s) and %d lines, want 0 and %d", code, stderr, got, 10*sample+1)
	}
}

func TestExitCodes(t *testing.T) {
	socket := serve(t, &fakeBackend{reloadErr: errors.New("lb.toml:3: bad")})
	none := filepath.Join(t.TempDir(), "none.sock")
	for name, test := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"no_command":         {nil, cli.Usage, "fnatctl: no command given\nsee fnatctl --help\n"},
		"unknown_command":    {[]string{"sevices"}, cli.Usage, "fnatctl: unknown command \"sevices\" for \"fnatctl\"\n\nDid you mean this?\n\tservices\n\nsee fnatctl --help\n"},
		"unknown_flag":       {[]string{"stats", "--all"}, cli.Usage, "fnatctl: unknown flag: --all\nsee fnatctl --help\n"},
		"superfluous_word":   {[]string{"stats", "now"}, cli.Usage, "fnatctl: unknown command \"now\" for \"fnatctl stats\"\nsee fnatctl --help\n"},
		"bad_client":         {[]string{"connections", "--client", "bob"}, cli.Usage, "fnatctl: invalid argument \"bob\" for \"--client\" flag: client \"bob\": not an address or network (such as 198.51.100.7 or 198.51.100.0/24)\nsee fnatctl --help\n"},
		"bad_state":          {[]string{"connections", "--state", "open"}, cli.Usage, "fnatctl: invalid argument \"open\" for \"--state\" flag: state \"open\": no such state (want one of " + strings.Join(ctl.States[:], ", ") + ")\nsee fnatctl --help\n"},
		"bad_limit":          {[]string{"connections", "--limit", "-1"}, cli.Usage, "fnatctl: invalid argument \"-1\" for \"--limit\" flag: limit \"-1\": not a number of 0 or more\nsee fnatctl --help\n"},
		"no_daemon":          {[]string{"--socket", none, "stats"}, cli.Failure, "fnatctl: connect " + none + ": no such file: is fnatd running? (--socket names another)\n"},
		"no_daemon_json":     {[]string{"--socket", none, "stats", "--json"}, cli.Failure, "fnatctl: connect " + none + ": no such file: is fnatd running? (--socket names another)\n"},
		"no_daemon_for_list": {[]string{"--socket", none, "connections"}, cli.Failure, "fnatctl: connect " + none + ": no such file: is fnatd running? (--socket names another)\n"},
		"no_such_service":    {[]string{"--socket", socket, "connections", "--service", "wbe"}, cli.Failure, "fnatctl: service \"wbe\": no such service\n"},
		"refused_reload":     {[]string{"--socket", socket, "reload"}, cli.Failure, "fnatctl: reload refused, the old configuration stays in use:\nlb.toml:3: bad\n"},
		"explain_half":       {[]string{"explain", "tcp"}, cli.Usage, "fnatctl: accepts 3 arg(s), received 1\nsee fnatctl --help\n"},
		"explain_icmp":       {[]string{"explain", "icmp", "a", "b"}, cli.Failure, "fnatctl: protocol \"icmp\": want tcp or udp\n"},
		"undo_of_nothing":    {[]string{"--socket", socket, "drain", "--undo"}, cli.Failure, "fnatctl: which server? fnatctl drain SERVER\n"},
		"no_file_to_diff":    {[]string{"--socket", socket, "diff", "none.toml"}, cli.Failure, "fnatctl: open none.toml: no such file or directory\n"},
		"refused_diff":       {[]string{"--socket", socket, "diff", "testdata/bad.toml"}, cli.Failure, "fnatctl: a reload would be refused:\ntestdata/bad.toml:1: bad\n"},
		"help":               {[]string{"--help"}, cli.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := fnatctl(test.args...)
			if code != test.code || stderr != test.stderr {
				t.Errorf("got %d, stderr %q, want %d, %q", code, stderr, test.code, test.stderr)
			}
			if code != cli.OK && stdout != "" {
				t.Errorf("got %q on standard output, want nothing", stdout)
			}
		})
	}
}

// fullDisk refuses every write.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	socket := serve(t, &fakeBackend{conns: 1})
	for _, args := range [][]string{{"services"}, {"services", "--json"}, {"connections"}, {"version"}} {
		var stderr bytes.Buffer
		if code := run(cli.Env{Args: append(args, "--socket", socket), Stdout: fullDisk{}, Stderr: &stderr}); code != cli.Failure {
			t.Errorf("%v: got exit code %d, want %d", args, code, cli.Failure)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, stdout, stderr := fnatctl("completion", shell); code != cli.OK || !strings.Contains(stdout, "fnatctl") {
			t.Errorf("%s: got exit code %d (%s) and %d bytes", shell, code, stderr, len(stdout))
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 99_999_999: "99999999", 100_000_000: "100000K", 999_999_999: "999999K",
		1_000_000_000: "1000M", 100_000_000_000: "100G", 100_000_000_000_000: "100T",
	} {
		if got := count(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
