package ipvsadm

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fnatd/fnatd/internal/ctl"
)

var update = flag.Bool("update", false, "write the golden files of what ipvsadm itself cannot print")

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// fake is a fnatd that never changes and notes what it is told.
type fake struct {
	services []ctl.Service
	locals   []ctl.Local
	conns    []ctl.Connection
	edits    []ctl.Edit
	refused  []ctl.Refusal
	err      error
}

func (f *fake) Services(context.Context) ([]ctl.Service, error) {
	all := slices.Clone(f.services)
	for i := range all {
		all[i].Servers = slices.Clone(all[i].Servers)
	}
	return all, f.err
}

func (f *fake) Locals(context.Context) ([]ctl.Local, error) { return f.locals, f.err }

func (f *fake) Stats(context.Context) (ctl.Stats, error) {
	return ctl.Stats{Table: ctl.Table{Capacity: 1000000}, Timeouts: ctl.Timeouts{Established: 90, FinWait: 7, UDP: 300}}, f.err
}

func (f *fake) Connections(context.Context, ctl.Filter) iter.Seq2[ctl.Connection, error] {
	return func(yield func(ctl.Connection, error) bool) {
		for _, c := range f.conns {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (f *fake) Edit(_ context.Context, edits []ctl.Edit) (ctl.Edited, error) {
	f.edits = append(f.edits, edits...)
	return ctl.Edited{Refused: f.refused}, f.err
}

// noNames knows the ports of the golden files, and no host but "vip".
type noNames struct{}

func (noNames) Host(context.Context, netip.Addr) (string, bool) { return "", false }

func (noNames) Address(_ context.Context, name string) (netip.Addr, bool) {
	return netip.MustParseAddr("203.0.113.10"), name == "vip"
}

func (noNames) Port(port uint16, protocol string) (string, bool) {
	name, ok := map[uint16]string{80: "http", 443: "https", 8080: "http-alt", 53: "domain"}[port]
	return name, ok
}

// run runs the command and returns what it did.
func run(s Server, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = Run(context.Background(), Env{
		Name: "ipvsadm", Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &err,
		Version: "v0", Server: s, Names: noNames{},
	})
	return code, out.String(), err.String()
}

// state is what the golden files show: the kernel's table that they were made of.
func state() []ctl.Service {
	services := []ctl.Service{{
		Protocol: "tcp", Virtual: at("203.0.113.10:80"), Scheduler: "wlc", PersistenceSeconds: 300, PersistenceGranularity: 24, EstablishedSeconds: 90, SYNProxy: "adaptive",
		SinceZero: ctl.Traffic{Connections: 1034, InPackets: 20331, OutPackets: 123456789, InBytes: 2100000, OutBytes: 123456789012},
		Rates:     ctl.Rates{Connections: 12, InPackets: 345, OutPackets: 678, InBytes: 99999999, OutBytes: 1234567890},
		Servers: []ctl.Server{{
			Real: at("10.0.2.11:8080"), Weight: 1, Active: 12, Inactive: 3,
			SinceZero: ctl.Traffic{Connections: 1000, InPackets: 5, OutPackets: 6, InBytes: 7, OutBytes: 8},
			Rates:     ctl.Rates{Connections: 1, InPackets: 2, OutPackets: 3, InBytes: 4, OutBytes: 5},
		}, {
			Real: at("10.0.2.12:8080"), Active: 2,
		}, {
			Real: at("10.0.2.13:8080"), Weight: 5, UpperThreshold: 100, LowerThreshold: 80, Active: 100,
		}, {
			Real: at("192.168.100.200:12345"), Weight: 65535, UpperThreshold: 4294967, LowerThreshold: 2147483647, Active: 1234567890, Inactive: 1234567890,
			SinceZero: ctl.Traffic{Connections: 99999999, InPackets: 100000000, OutPackets: 999999999, InBytes: 1000000000, OutBytes: 100000000000},
			Rates:     ctl.Rates{Connections: 99999999, InPackets: 100000000, OutPackets: 999999999, InBytes: 1000000000, OutBytes: 4000000000},
		}},
	}, {
		Protocol: "udp", Virtual: at("[2001:db8:1234:5678:9abc:def0:1234:5678]:53"), Scheduler: "rr", PersistenceGranularity: 128, EstablishedSeconds: 300,
		Servers: []ctl.Server{{Real: at("[2001:db8::11]:53"), Weight: 1}},
	}, {
		Protocol: "tcp", Virtual: at("192.168.0.1:443"), Scheduler: "sh", HashPort: true, Fallback: true, PersistenceGranularity: 32, EstablishedSeconds: 90,
		SinceZero: ctl.Traffic{OutBytes: 100000000000000},
	}, {
		Protocol: "tcp", Virtual: at("10.0.0.1:443"), Scheduler: "mh", HashPort: true, Fallback: true, PersistenceGranularity: 32, EstablishedSeconds: 90,
	}, {
		Protocol: "tcp", Virtual: at("[2001:db8::10]:80"), Scheduler: "mh", Fallback: true, PersistenceSeconds: 360, PersistenceGranularity: 64, EstablishedSeconds: 90,
	}}
	for i := range services {
		slices.Reverse(services[i].Servers) // the kernel has the newest first
		for j := range services[i].Servers {
			d := &services[i].Servers[j]
			d.Configured = d.Weight
		}
	}
	return services
}

// TestHealth lists servers as keepalived would leave them, and saves what is
// configured: a file that is restored must not make a bad hour last.
func TestHealth(t *testing.T) {
	s := &fake{services: []ctl.Service{{
		Protocol: "tcp", Virtual: at("203.0.113.10:80"), Scheduler: "rr", PersistenceGranularity: 32, EstablishedSeconds: 90,
		Servers: []ctl.Server{
			{Real: at("10.0.2.11:80"), Configured: 3, Health: ctl.HealthDown, Removed: true},
			{Real: at("10.0.2.12:80"), Configured: 2, Health: ctl.HealthDown},
			{Real: at("10.0.2.13:80"), Configured: 1, Weight: 7, Health: ctl.HealthUp},
			{Real: at("10.0.2.99:80"), Sorry: true},
		},
	}}}
	_, got, _ := run(s, "", "-Ln")
	for real, want := range map[string]bool{"10.0.2.11:80": false, "10.0.2.12:80                 FullNat 0 ": true, "10.0.2.13:80                 FullNat 7 ": true, "10.0.2.99:80": false} {
		if strings.Contains(got, real) != want {
			t.Errorf("-Ln: want %q listed: %t, got\n%s", real, want, got)
		}
	}
	s.services[0].Servers[3].Weight = 1
	if _, got, _ := run(s, "", "-Ln"); !strings.Contains(got, "10.0.2.99:80                 FullNat 1 ") {
		t.Errorf("-Ln without quorum: want the sorry server listed, got\n%s", got)
	}
	_, got, _ = run(s, "", "-S", "-n")
	for _, want := range []string{"10.0.2.11:80 -b -w 3\n", "10.0.2.12:80 -b -w 2\n", "10.0.2.13:80 -b -w 1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("-S: want %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "10.0.2.99") {
		t.Errorf("-S: want no sorry server in\n%s", got)
	}
}

// TestPrintsWhatIpvsadmPrints compares with what ipvsadm 1.31 (Debian's 1:1.31-1)
// has printed of this state, which a library in the place of the kernel's netlink
// socket told it; but for Masq, which is FullNat here, and -m, which is -b.
func TestPrintsWhatIpvsadmPrints(t *testing.T) {
	for name, args := range map[string]string{
		"list": "-Ln", "stats": "-Ln --stats", "rate": "-Ln --rate", "thresholds": "-Ln --thresholds",
		"exact": "-Ln --stats --exact", "rate_exact": "-Ln --rate -X", "nosort": "-Ln --nosort", "save": "-Sn",
		"one": "-Ln -t 203.0.113.10:80", "one_stats": "-Ln -t 203.0.113.10:80 --stats", "names": "-L",
		"rate_and_stats": "-Ln --rate --stats", "thresholds_and_rate": "-ln --thresholds --rate", "bare": "",
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(&fake{services: state()}, "", strings.Fields(args)...)
			if code != 0 || stderr != "" {
				t.Errorf("got exit code %d, %q on standard error, want 0 and nothing", code, stderr)
			}
			want, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), stdout); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLists compares what only LVS-FULLNAT's tool prints, or what takes
// connections, with golden files of our own.
func TestLists(t *testing.T) {
	services := state()
	services[0].LocalPool, services[0].EstablishedSeconds = "lan", 60
	services[1].LocalPool = "six"
	f := &fake{
		services: services,
		locals: []ctl.Local{
			{Pool: "lan", Address: netip.MustParseAddr("10.0.1.10"), Conflicts: 7, Connections: 512},
			{Pool: "lan", Address: netip.MustParseAddr("10.0.1.11")},
			{Pool: "six", Address: netip.MustParseAddr("fd00:1::10"), Connections: 1},
		},
		conns: []ctl.Connection{
			{Protocol: "tcp", State: "ESTABLISHED", ExpiresSeconds: 89.5, Client: at("198.51.100.7:40000"), Virtual: at("203.0.113.10:80"), Real: at("10.0.2.11:8080")},
			{Protocol: "udp", State: "UDP_ONE_WAY", ExpiresSeconds: 6000, Client: at("[2001:db8::1]:40000"), Virtual: at("[2001:db8:1234:5678:9abc:def0:1234:5678]:53"), Real: at("[2001:db8::11]:53")},
		},
	}
	for name, args := range map[string]string{
		"locals": "-G", "locals_of_one": "-Gn -t 203.0.113.10:80", "locals_saved": "-Sn",
		"connections": "-Lnc", "connections_by_name": "-Lc", "timeouts": "-L --timeout", "help": "-h", "version": "--version",
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(f, "", strings.Fields(args)...)
			if code != 0 || stderr != "" {
				t.Errorf("got exit code %d, %q on standard error, want 0 and nothing", code, stderr)
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(stdout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), stdout); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// edited are the edits that command lines stand for.
var edited = map[string]ctl.Edit{
	"-A -t 203.0.113.10:80": {
		Op: ctl.AddService, Protocol: "tcp", Virtual: at("203.0.113.10:80"),
		Service: &ctl.ServiceSettings{Scheduler: "wlc", PersistenceGranularity: 32},
	},
	"-E -t 203.0.113.10:80 -s rr -j enable": {
		Op: ctl.EditService, Protocol: "tcp", Virtual: at("203.0.113.10:80"),
		Service: &ctl.ServiceSettings{Scheduler: "rr", PersistenceGranularity: 32, SYNProxy: "on"},
	},
	"-A -t vip:80 -s sh -b sh-port,sh-fallback -p -M 255.255.255.0 -j disable": {
		Op: ctl.AddService, Protocol: "tcp", Virtual: at("203.0.113.10:80"),
		Service: &ctl.ServiceSettings{Scheduler: "sh", HashPort: true, Fallback: true, PersistenceSeconds: 360, PersistenceGranularity: 24, SYNProxy: "off"},
	},
	"--edit-service --udp-service=[2001:db8::10]:domain --scheduler mh --sched-flags flag-1 --persistent 60 --netmask 64 -V 30": {
		Op: ctl.EditService, Protocol: "udp", Virtual: at("[2001:db8::10]:53"),
		Service: &ctl.ServiceSettings{Scheduler: "mh", Fallback: true, PersistenceSeconds: 60, PersistenceGranularity: 64, EstablishedSeconds: 30},
	},
	"-D -t203.0.113.10:80": {Op: ctl.DeleteService, Protocol: "tcp", Virtual: at("203.0.113.10:80")},
	"-C":                   {Op: ctl.Clear},
	"-Z":                   {Op: ctl.Zero},
	"-Z -u 203.0.113.10:53": {
		Op: ctl.Zero, Protocol: "udp", Virtual: at("203.0.113.10:53"),
	},
	"-a -t 203.0.113.10:80 -r 10.0.2.11": {
		Op: ctl.AddServer, Protocol: "tcp", Virtual: at("203.0.113.10:80"), Real: at("10.0.2.11:80"), Server: &ctl.ServerSettings{Weight: 1},
	},
	"-a -t 203.0.113.10:80 -r 10.0.2.11:8080 -bw 5 -x 100 -y 80": {
		Op: ctl.AddServer, Protocol: "tcp", Virtual: at("203.0.113.10:80"), Real: at("10.0.2.11:8080"),
		Server: &ctl.ServerSettings{Weight: 5, UpperThreshold: 100, LowerThreshold: 80},
	},
	"-e -t 203.0.113.10:80 -r 2001:db8::11 -m -w 0": {
		Op: ctl.EditServer, Protocol: "tcp", Virtual: at("203.0.113.10:80"), Real: at("[2001:db8::11]:80"), Server: &ctl.ServerSettings{},
	},
	"-d -t 203.0.113.10:80 -r 10.0.2.11:8080": {
		Op: ctl.DeleteServer, Protocol: "tcp", Virtual: at("203.0.113.10:80"), Real: at("10.0.2.11:8080"),
	},
	"-P -t 203.0.113.10:80 -z 10.0.1.10": {
		Op: ctl.AddLocal, Protocol: "tcp", Virtual: at("203.0.113.10:80"), Local: netip.MustParseAddr("10.0.1.10"),
	},
	"--del-laddr -t 203.0.113.10:80 --laddr fd00::1": {
		Op: ctl.DeleteLocal, Protocol: "tcp", Virtual: at("203.0.113.10:80"), Local: netip.MustParseAddr("fd00::1"),
	},
}

var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

func TestEdits(t *testing.T) {
	for line, want := range edited {
		t.Run(line, func(t *testing.T) {
			f := &fake{}
			code, stdout, stderr := run(f, "", strings.Fields(line)...)
			if code != 0 || stdout != "" || stderr != "" {
				t.Errorf("got exit code %d, %q and %q, want 0 and nothing printed", code, stdout, stderr)
			}
			if diff := cmp.Diff(f.edits, []ctl.Edit{want}, comparable); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

// TestFailures has the exit codes and messages of ipvsadm where it has them, too.
func TestFailures(t *testing.T) {
	const tryHelp = "Try `ipvsadm -h' or 'ipvsadm --help' for more information."
	const gone = "fnatd forwards by FULLNAT: use -b, and take the VIP off the real server"
	for line, test := range map[string]struct {
		code int
		text string
	}{
		"-A":                                 {2, "You need to supply the 'service-address' option for the 'add-service' command"},
		"-n":                                 {255, tryHelp},
		"--foo":                              {255, tryHelp},
		"-A -t x":                            {2, "illegal virtual server address[:port] specified"},
		"-A -t 80":                           {2, "illegal virtual server address[:port] specified"},
		"-A -t [::1":                         {2, "illegal virtual server address[:port] specified"},
		"-A -t [::1]":                        {2, "illegal virtual server address[:port] specified"},
		"-A -t 1.2.3.4:99999":                {2, "illegal virtual server address[:port] specified"},
		"-Z -n":                              {2, "Illegal 'numeric' option with the 'zero' command"},
		"-C -n":                              {2, "Illegal 'numeric' option with the 'flush' command"},
		"-L -p":                              {2, "Illegal 'persistent' option with the 'list' command"},
		"-A -t 1.2.3.4:80 -D":                {2, "invalid option `-D'"},
		"-L --list":                          {2, "invalid option `--list'"},
		"-A -t 1.2.3.4:80 --foo":             {255, "--foo: unknown option"},
		"-Lk":                                {255, "-Lk: unknown option"},
		"-Lnx":                               {255, "-Lnx: missing argument"},
		"-a -t 1.2.3.4:80 -r":                {255, "-r: missing argument"},
		"-L -n --stats=3":                    {255, "--stats=3: option does not take an argument"},
		"-Ln -c -t 1.2.3.4:80":               {2, "The option 'service-address' conflicts with the 'connection' option in the 'list' command"},
		"-Ln -c --stats":                     {2, "options conflicts in the list command"},
		"-Ln --timeout --rate":               {2, "options conflicts in the list command"},
		"-A -t 1.2.3.4:80 -s rr -s rr":       {2, "multiple 'scheduler' options specified"},
		"-A -t 1.2.3.4:80 foo":               {2, "unexpected argument foo"},
		"foo -L":                             {2, "unexpected argument foo"},
		"-L -- -n":                           {2, "unexpected argument -n"},
		"-a -t 1.2.3.4:80":                   {2, "You need to supply the 'real-server' option for the 'add-server' command"},
		"-P -t 1.2.3.4:80":                   {2, "You need to supply the 'local-address' option for the 'add-laddr' command"},
		"-P -t 1.2.3.4:80 -z x":              {2, "illegal local address specified"},
		"-a -t 1.2.3.4:80 -r 1.1.1.1 -w -1":  {2, "illegal weight specified"},
		"-a -t 1.2.3.4:80 -r 1.1.1.1 -x -1":  {2, "illegal u_threshold specified"},
		"-a -t 1.2.3.4:80 -r 1.1.1.1 -y 1a":  {2, "illegal l_threshold specified"},
		"-a -t 1.2.3.4:80 -r x.":             {2, "illegal real server address[:port] specified"},
		"-a -t 1.2.3.4:80 -r 1.1.1.1 -g":     {2, gone},
		"-a -t 1.2.3.4:80 -r 1.1.1.1 -i":     {2, gone},
		"-A -t 1.2.3.4:80 -p 0":              {2, "invalid timeout value `0' specified"},
		"-A -t 1.2.3.4":                      {2, "Zero port specified for non-persistent service"},
		"-A -t 1.2.3.4 -p":                   {2, "fnatd balances single ports: name one"},
		"-A -t 1.2.3.4:80 -s wlc -b sh-port": {2, "incompatible scheduler flag `sh-port'"},
		"-A -t 1.2.3.4:80 -b foo":            {2, "invalid scheduler flag `foo'"},
		"-A -t 1.2.3.4:80 -s rr -b flag-1":   {2, "scheduler rr has no flags in fnatd"},
		"-A -t 1.2.3.4:80 -p -M 255.0.255.0": {2, "persistent mask 255.0.255.0: want ones followed by zeros, as 255.255.255.0"},
		"-A -t 1.2.3.4:80 -M x":              {2, "illegal virtual server persistent mask specified"},
		"-A -t [::1]:80 -M 129":              {2, "illegal ipv6 netmask specified"},
		"-A -f 1":                            {2, "fnatd knows no firewall marks: name the service by address and port, with -t or -u"},
		"-A -u 1.2.3.4:53 -o":                {2, "fnatd keeps a UDP client on its server: shorten udp in [service.timeout] instead of -o"},
		"-A -t 1.2.3.4:80 -j on":             {2, "synproxy: want enable or disable, not `on'"},
		"--set 1 2 3":                        {2, "timeouts are set for each service: -E -t SERVICE -V SECONDS, or [service.timeout] in fnatd's configuration"},
		"--start-daemon master":              {2, "fnatd does not synchronise its connections: start no daemon"},
		"-L --persistent-conn":               {2, "fnatd does not count persistent clients by server: see fnatctl stats for their sum"},
		"-Ln -t 1.2.3.4:80":                  {1, "No such service"},
		"-G -t 1.2.3.4:80":                   {1, "No such service"},
	} {
		t.Run(line, func(t *testing.T) {
			f := &fake{services: state()}
			code, stdout, stderr := run(f, "", strings.Fields(line)...)
			if code != test.code || stderr != test.text+"\n" || stdout != "" {
				t.Errorf("got exit code %d, stderr %q, stdout %q, want %d, %q and nothing", code, stderr, stdout, test.code, test.text)
			}
			if len(f.edits) > 0 {
				t.Errorf("it has changed something: %+v", f.edits)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for line, tests := range map[string]map[ctl.RefusalCode]string{
		"-A -t 1.2.3.4:80":            {ctl.ServiceExists: "Service already exists", ctl.NoScheduler: "Scheduler or persistence engine not found", ctl.Invalid: "why"},
		"-E -t 1.2.3.4:80":            {ctl.NoService: "No such service"},
		"-D -t 1.2.3.4:80":            {ctl.NoService: "No such service"},
		"-Z -t 1.2.3.4:80":            {ctl.NoService: "No such service"},
		"-a -t 1.2.3.4:80 -r 1.1.1.1": {ctl.NoService: "Service not defined", ctl.ServerExists: "Destination already exists"},
		"-e -t 1.2.3.4:80 -r 1.1.1.1": {ctl.NoService: "Service not defined", ctl.NoServer: "No such destination"},
		"-d -t 1.2.3.4:80 -r 1.1.1.1": {ctl.NoService: "Service not defined", ctl.NoServer: "No such destination"},
		"-Q -t 1.2.3.4:80 -z 1.1.1.1": {ctl.NoService: "No such service", ctl.NoLocal: "why"},
	} {
		for code, want := range tests {
			f := &fake{refused: []ctl.Refusal{{Code: code, Error: "why"}}}
			if exit, _, stderr := run(f, "", strings.Fields(line)...); exit != 255 || stderr != want+"\n" {
				t.Errorf("%s, %s: got exit code %d and %q, want 255 and %q", line, code, exit, stderr, want)
			}
		}
	}
	if exit, _, stderr := run(&fake{err: errors.New("fnatd is away")}, "", "-L"); exit != 255 || stderr != "fnatd is away\n" {
		t.Errorf("without fnatd: got exit code %d and %q", exit, stderr)
	}
}

func TestRestore(t *testing.T) {
	const rules = `# made by ipvsadm-save
-A -t 203.0.113.10:80 -s wlc
ipvsadm -a -t 203.0.113.10:80 -r 10.0.2.11:8080 -b -w 1
-P -t 203.0.113.10:80 -z 10.0.1.10  # behind
`
	f := &fake{}
	if code, stdout, stderr := run(f, rules, "-R"); code != 0 || stdout != "" || stderr != "" || len(f.edits) != 3 || f.edits[1].Op != ctl.AddServer {
		t.Errorf("got exit code %d, %q, %q and edits %+v", code, stdout, stderr, f.edits)
	}
	f = &fake{}
	if code, _, _ := run(f, "-C\n\n-D -t 203.0.113.10:80\n", "--restore"); code != 0 || len(f.edits) != 1 {
		t.Errorf("a blank line: got exit code %d and edits %+v, want those before it", code, f.edits)
	}
	f = &fake{refused: []ctl.Refusal{{Edit: 0, Code: ctl.NoService}}}
	if code, _, stderr := run(f, "-D -t 203.0.113.10:80\n-C\n", "-R"); code != 0 || stderr != "No such service\n" || len(f.edits) != 2 {
		t.Errorf("a rule that is refused: got exit code %d, %q and edits %+v, want it to go on", code, stderr, f.edits)
	}
	f = &fake{refused: []ctl.Refusal{{Edit: 1, Code: ctl.NoService}}}
	if code, _, _ := run(f, "-C\n-D -t 203.0.113.10:80\n", "-R"); code != 255 {
		t.Errorf("the last rule is refused: got exit code %d, want its", code)
	}
	for _, bad := range []string{"-x\n", "-A -t nowhere:80\n", "-L\n", "-R\n", strings.Repeat("x", maxLine+1)} {
		f = &fake{}
		if code, _, stderr := run(f, "-C\n"+bad+"-Z\n", "-R"); code == 0 || stderr == "" || len(f.edits) != 1 {
			t.Errorf("%.20q: got exit code %d, %q and %d edits, want an error and the one before it", bad, code, stderr, len(f.edits))
		}
	}
}

// TestSavedRulesMakeTheSameServices reads what -S has written.
func TestSavedRulesMakeTheSameServices(t *testing.T) {
	_, rules, _ := run(&fake{services: state()}, "", "-Sn")
	f := &fake{}
	if code, _, stderr := run(f, rules, "-R"); code != 0 {
		t.Fatalf("got exit code %d and %s", code, stderr)
	}
	servers := 0
	for _, s := range state() {
		servers += len(s.Servers)
	}
	if want := len(state()) + servers; len(f.edits) != want {
		t.Errorf("got %d edits, want %d", len(f.edits), want)
	}
}

func FuzzArguments(f *testing.F) {
	for line := range edited {
		f.Add(line)
	}
	f.Add("-Lnc --stats -- foo")
	f.Add("-a -t[::]:1 -r -b -b=1 --laddr=")
	f.Fuzz(func(t *testing.T, line string) {
		code, _, stderr := run(&fake{services: state()}, line, strings.Fields(line)...)
		if (code == 0) != (stderr == "") {
			t.Errorf("got exit code %d and %q", code, stderr)
		}
	})
}
