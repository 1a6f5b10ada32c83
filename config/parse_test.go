package config

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite the expected messages in testdata")

// Each testdata/X.bad.toml must bring about exactly the messages in X.bad.txt.
func TestParseReportsEverything(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".bad.toml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(name, data)
			if err == nil || c != nil {
				t.Fatalf("Parse = %v, %v; want no configuration and an error", c, err)
			}
			golden := strings.TrimSuffix(file, ".toml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err2 := os.ReadFile(golden)
			if err2 != nil {
				t.Fatal(err2)
			}
			if diff := cmp.Diff(strings.Split(err.Error()+"\n", "\n"), strings.Split(string(want), "\n")); diff != "" {
				t.Errorf("messages (-got +want):\n%s", diff)
			}
		})
	}
}

// minimal is the shortest configuration that forwards something.
const minimal = `
[dataplane]
interfaces = ["eth0"]

[[local_pool]]
name = "lan"
addresses = ["10.0.1.10"]
ports = "1024-65535"

[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"

  [[service.real_server]]
  address = "10.0.2.11:8080"
`

// plainSYNProxy is what a service has that does not say otherwise.
var plainSYNProxy = SYNProxy{
	Mode: SYNProxyOff, Answer: AnswerAuto, WindowScale: 7, SACK: true, Timestamps: true,
	SYNRetries: 2, ACKStormLimit: 10, BadACK: DropBadACK, AdaptiveOn: 1000, AdaptiveOff: 500,
}

func TestParseSYNProxy(t *testing.T) {
	on, stripped, adaptive := plainSYNProxy, plainSYNProxy, plainSYNProxy
	on.Mode = SYNProxyOn
	stripped.Mode, stripped.Timestamps = SYNProxyOn, false
	adaptive.Mode, adaptive.AdaptiveOn, adaptive.AdaptiveOff = SYNProxyAdaptive, 100, 50
	for text, want := range map[string]SYNProxy{
		"synproxy = true":                                on,
		"synproxy = false":                               plainSYNProxy,
		"synproxy = {}":                                  on,
		"[service.synproxy]":                             on,
		"synproxy = {mode=\"off\"}":                      plainSYNProxy,
		"timestamps = \"strip\"\nsynproxy = true":        stripped,
		"synproxy = {mode=\"adaptive\",adaptive_on=100}": adaptive,
	} {
		header, server, _ := strings.Cut(minimal, "\n  [[service.real_server]]")
		text := header + text + "\n[[service.real_server]]" + server
		got := mustParse(t, text).Services[0].SYNProxy
		if diff := cmp.Diff(got, want, ignoreLines); diff != "" {
			t.Errorf("%s (-got +want):\n%s", text, diff)
		}
	}
}

// ignoreLines compares what was configured, not where.
var ignoreLines = cmp.Options{
	cmpopts.IgnoreTypes(Where{}),
	cmpopts.IgnoreUnexported(Config{}, LocalPool{}, Service{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseFillsInDefaults(t *testing.T) {
	want := &Config{
		File:   "test.toml",
		Daemon: Daemon{Control: "/run/fnatd/fnatd.sock", Metrics: "127.0.0.1:9632", State: "/run/fnatd/state"},
		Dataplane: Dataplane{
			Interfaces: []string{"eth0"}, Mode: Auto, MaxConnections: 1_000_000,
			Frames: 8192, ManageAddresses: true, Orphaned: OrphanedDrop, OrphanedAfter: 30 * time.Second,
		},
		Pools: []LocalPool{{
			Name: "lan", Interface: "eth0", Addresses: addrs("10.0.1.10"), Ports: Ports{1024, 65535},
		}},
		Services: []Service{{
			Name: "web", Protocol: TCP, Address: netip.MustParseAddrPort("203.0.113.10:80"),
			Interface: "eth0", Pool: "lan", Scheduler: "wlc",
			ClientAddress: TOA, TOAKind6: 254, TTMLength: 22, NoticeLength: 42, Timestamps: Translate, SYNProxy: plainSYNProxy,
			Drain: DefaultDrain, Failover: DefaultFailover(),
			Servers: []RealServer{{Address: netip.MustParseAddrPort("10.0.2.11:8080"), Weight: 1}},
		}},
	}
	if diff := cmp.Diff(mustParse(t, minimal), want, ignoreLines); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestParseReadsEveryKey(t *testing.T) {
	got := mustParse(t, `
[daemon]
control = "/tmp/s"
metrics = ""
[dataplane]
interfaces = ["eth0", "eth1"]
vlans = ["eth1.7"]
queues = 2
mode = "copy"
max_connections = 10_000
manage_addresses = false
busy_poll = true
cpus = [4, 2]
reflect_client_mac = true
cookie_secret = "000102030405060708090a0b0c0d0eFF"
frames = 16384
orphaned = "pass"
orphaned_after = "24h"
interface = [{ name = "eth1", checksum = "full" }, { name = "eth0" }]
[[local_pool]]
name = "lan"
interface = "eth1.7"
addresses = ["10.0.1.10-12", "10.0.1.254 - 10.0.2.1", "fd00::e-f", "10.0.3.1"]
ports = "5000 - 5999"
[[service]]
name = "web"
protocol = "tcp"
address = "[::ffff:203.0.113.10]:80"
interface = "eth0"
scheduler = "mh"
mh_port = true
mh_fallback = true
local_pool = "lan"
client_address = "ttm"
ttm_kind = 200
ttm_length = 24
persistence = "6m"
persistence_granularity = "255.255.240.0"
synproxy = { mode = "adaptive", answer = "userspace", mss = 1400, window_scale = 9, sack = false, timestamps = false, defer = true, syn_retries = 1, ack_storm_limit = 3, source_rate = 50, bad_ack = "reset", adaptive_on = 2000, adaptive_off = 100 }
drain = "0s"
timeout = { established = "1h", syn_sent = "1s", syn_received = "2s", fin_wait = "3s", time_wait = "4s", close = "5s", close_wait = "6s", last_ack = "1m7s" }
real_server = [{ address = "10.0.9.11:8080", weight = 0, upper_threshold = 100, lower_threshold = 100 }]
[[service]]
name = "dns"
protocol = "udp"
address = "203.0.113.10:53"
interface = "eth0"
scheduler = "sh"
sh_port = true
sh_fallback = true
local_pool = "lan"
notice_length = 44
persistence = "480h"
persistence_granularity = 24
timeout = { udp = "8s", udp_one_way = "9s" }
[[service]]
name = "toa"
protocol = "tcp"
address = "203.0.113.10:53"
interface = "eth0"
local_pool = "lan"
toa_kind6 = 253
toa_on_syn = true
`)
	want := &Config{
		File:   "test.toml",
		Daemon: Daemon{Control: "/tmp/s", State: "/tmp/state"},
		Dataplane: Dataplane{
			Interfaces: []string{"eth0", "eth1"}, VLANs: []string{"eth1.7"}, Queues: 2, Mode: Copy, MaxConnections: 10_000,
			Frames: 16384, CPUs: []int{4, 2}, BusyPoll: true, ReflectClientMAC: true,
			CookieSecret: &CookieSecret{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255},
			Orphaned:     OrphanedPass, OrphanedAfter: 24 * time.Hour,
			Settings: []InterfaceSettings{{Name: "eth1", Checksum: Full}, {Name: "eth0", Checksum: Incremental}},
		},
		Pools: []LocalPool{{
			Name: "lan", Interface: "eth1.7", Ports: Ports{5000, 5999},
			Addresses: addrs("10.0.1.10", "10.0.1.11", "10.0.1.12", "10.0.1.254", "10.0.1.255",
				"10.0.2.0", "10.0.2.1", "fd00::e", "fd00::f", "10.0.3.1"),
		}},
		Services: []Service{{
			Name: "web", Protocol: TCP, Address: netip.MustParseAddrPort("203.0.113.10:80"),
			Interface: "eth0", Pool: "lan", Scheduler: "mh", MHPort: true, MHFallback: true,
			ClientAddress: TTM, TOAKind6: 254, TTMKind: 200, TTMLength: 24, NoticeLength: 42, Timestamps: Translate,
			SYNProxy: SYNProxy{
				Mode: SYNProxyAdaptive, Answer: AnswerUserspace, MSS: 1400, WindowScale: 9, Defer: true, SYNRetries: 1,
				ACKStormLimit: 3, SourceRate: 50, BadACK: ResetBadACK, AdaptiveOn: 2000, AdaptiveOff: 100,
			},
			Persistence: 6 * time.Minute, PersistenceGranularity: 20,
			Timeouts: Timeouts{
				Established: time.Hour, SynSent: 1 * time.Second, SynReceived: 2 * time.Second,
				FinWait: 3 * time.Second, TimeWait: 4 * time.Second, Close: 5 * time.Second,
				CloseWait: 6 * time.Second, LastAck: 67 * time.Second,
			},
			Servers: []RealServer{{
				Address: netip.MustParseAddrPort("10.0.9.11:8080"), UpperThreshold: 100, LowerThreshold: 100,
			}}, Failover: DefaultFailover(),
		}, {
			Name: "dns", Protocol: UDP, Address: netip.MustParseAddrPort("203.0.113.10:53"),
			Interface: "eth0", Pool: "lan", Scheduler: "sh", SHPort: true, SHFallback: true,
			ClientAddress: ICMPEcho, TOAKind6: 254, TTMLength: 22, NoticeLength: 44, Timestamps: Translate, SYNProxy: plainSYNProxy,
			Drain:       DefaultDrain,
			Persistence: 480 * time.Hour, PersistenceGranularity: 24,
			Timeouts: Timeouts{UDP: 8 * time.Second, UDPOneWay: 9 * time.Second}, Failover: DefaultFailover(),
		}, {
			Name: "toa", Protocol: TCP, Address: netip.MustParseAddrPort("203.0.113.10:53"),
			Interface: "eth0", Pool: "lan", Scheduler: "wlc",
			ClientAddress: TOA, TOAKind6: 253, TOAOnSYN: true, TTMLength: 22, NoticeLength: 42, Timestamps: Translate, SYNProxy: plainSYNProxy,
			Drain: DefaultDrain, Failover: DefaultFailover(),
		}},
	}
	if diff := cmp.Diff(got, want, ignoreLines); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func TestWhereKnowsLinesOfTablesAndKeys(t *testing.T) {
	s := mustParse(t, minimal).Services[0]
	got := []int{s.Line, s.LineOf("address"), s.LineOf("scheduler"), s.Servers[0].Line, s.Servers[0].LineOf("address")}
	if diff := cmp.Diff(got, []int{10, 13, 10, 15, 16}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestExampleIsValid(t *testing.T) {
	c, err := Load("../lb.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != 2 || len(c.Services[0].Servers) != 2 {
		t.Errorf("the example has %d services", len(c.Services))
	}
}

// What the example comments out are defaults, unless it says that there is none:
// put in, they must be valid and change nothing.
func TestExampleShowsDefaults(t *testing.T) {
	text, err := os.ReadFile("../lb.toml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		key, isKey := commentedOut(line)
		if isKey && slices.ContainsFunc([]string{"no default", "mh_", "for ttm"}, func(s string) bool { return strings.Contains(line, s) }) {
			continue
		}
		if isKey {
			line = key
		}
		lines = append(lines, line)
	}
	c, err := Parse("lb.toml", []byte(strings.Join(lines, "")))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("lb.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Services {
		c.Services[i].Timeouts = Timeouts{} // the connection table has those defaults
	}
	c.Dataplane.Settings = nil // as has ChecksumOf
	if diff := cmp.Diff(c, want, ignoreLines); diff != "" {
		t.Errorf("with the defaults written out (-got +want):\n%s", diff)
	}
}

// commentedOut returns the header or key that line comments out, if it does.
func commentedOut(line string) (string, bool) {
	key, isComment := strings.CutPrefix(strings.TrimSpace(line), "# ")
	word, _, isKey := strings.Cut(key, " = ")
	isKey = isKey && !strings.Contains(word, " ") || strings.HasPrefix(key, "[")
	return key + "\n", isComment && isKey
}

func TestLoadSaysWhichFileIsMissing(t *testing.T) {
	if _, err := Load("testdata/absent.toml"); err == nil || !strings.Contains(err.Error(), "testdata/absent.toml") {
		t.Errorf("Load = %v; want the name of the file in it", err)
	}
}

func TestErrorsCanBeTakenApart(t *testing.T) {
	_, err := Parse("x.toml", []byte("a = 1\n"))
	var first *Error
	if !errors.As(err, &first) || first.File != "x.toml" || first.Line != 1 {
		t.Errorf("errors.As(%v) = %+v", err, first)
	}
}
