package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// timing is that of a check that says nothing of it.
func timing(kind CheckType) Check {
	return Check{
		Type: kind, Interval: 2 * time.Second, Timeout: 2 * time.Second, RetryDelay: time.Second,
		Warmup: 2 * time.Second, Rise: 2, Fall: 3,
	}
}

// with returns a check of default timing with something of its own.
func with(kind CheckType, set func(*Check)) Check {
	c := timing(kind)
	set(&c)
	return c
}

// bfdCheck returns a check of type bfd with something of its own.
func bfdCheck(set func(*Check)) Check {
	c := Check{
		Type: CheckBFD, Interval: 2 * time.Second, Timeout: 5 * time.Second, Rise: 1, Fall: 1,
		BFD: BFD{MinTx: 10 * time.Millisecond, MinRx: 10 * time.Millisecond, IdleTx: time.Second, Multiplier: 5, TTL: 255},
	}
	set(&c)
	return c
}

func TestChecks(t *testing.T) {
	ok := []StatusRange{{200, 299}}
	for name, test := range map[string]struct {
		lines string
		want  Check
	}{
		"tcp": {`type = "tcp"`, timing(CheckTCP)},
		"timing": {
			"type = \"ping\"\ninterval = \"10s\"\ntimeout = \"500ms\"\nretry = 3\nretry_delay = \"0s\"\nwarmup = \"0s\"\njitter = \"1s\"\nrise = 1\nfall = 1\nalpha = true",
			Check{
				Type: CheckPing, Interval: 10 * time.Second, Timeout: 500 * time.Millisecond, Retry: 3,
				Jitter: time.Second, Rise: 1, Fall: 1, Alpha: true,
			},
		},
		"warmup_is_the_interval": {"type = \"tcp\"\ninterval = \"1m\"", with(CheckTCP, func(c *Check) { c.Interval, c.Warmup = time.Minute, time.Minute })},
		"connection": {
			"type = \"tcp\"\naddress = \"10.0.9.1\"\nport = 99\nsource = \"10.0.1.1\"\nsource_port = 77\ninterface = \"eth0\"\nmark = 7",
			with(CheckTCP, func(c *Check) {
				c.Address, c.Port = netip.MustParseAddr("10.0.9.1"), 99
				c.Source, c.SourcePort = netip.MustParseAddr("10.0.1.1"), 77
				c.Interface, c.Mark = "eth0", 7
			}),
		},
		"http": {`type = "http"`, with(CheckHTTP, func(c *Check) { c.Path, c.Method, c.Status = "/", "GET", ok })},
		"http_body": {
			"type = \"http\"\npath = \"/a?b=c\"\nhost = \"www.example.com:81\"\nstatus = [200, \"300-302\", \"404\"]\n" +
				"digest = \"D41D8CD98F00B204E9800998ECF8427E\"\nregex = '^ok$'\nregex_not = true",
			with(CheckHTTP, func(c *Check) {
				c.Path, c.Method, c.Host = "/a?b=c", "GET", "www.example.com:81"
				c.Status = []StatusRange{{200, 200}, {300, 302}, {404, 404}}
				c.Digest, c.Regex, c.RegexNot = "d41d8cd98f00b204e9800998ecf8427e", "^ok$", true
			}),
		},
		"https_takes_its_name_from_host": {
			"type = \"https\"\nhost = \"www.example.com:443\"\ntls_verify = true\nmethod = \"HEAD\"",
			with(CheckHTTPS, func(c *Check) {
				c.Path, c.Method, c.Host, c.Status = "/", "HEAD", "www.example.com:443", ok
				c.SNI, c.TLSVerify = "www.example.com", true
			}),
		},
		"https_without_name": {
			"type = \"https\"\nhost = \"www.example.com\"\nsni = \"\"",
			with(CheckHTTPS, func(c *Check) { c.Path, c.Method, c.Host, c.Status = "/", "GET", "www.example.com", ok }),
		},
		"https_of_an_address": {
			"type = \"https\"\nhost = \"[2001:db8::1]:443\"",
			with(CheckHTTPS, func(c *Check) { c.Path, c.Method, c.Host, c.Status = "/", "GET", "[2001:db8::1]:443", ok }),
		},
		"udp": {`type = "udp"`, with(CheckUDP, func(c *Check) { c.MaxReply = 65535 })},
		"udp_with_reply": {
			"type = \"udp\"\npayload = \"00 1F\"\nreply = \"x1 fX\"\nmin_reply = 2\nmax_reply = 99",
			with(CheckUDP, func(c *Check) {
				c.Payload, c.Reply, c.Answer, c.MinReply, c.MaxReply = "001f", "x1fx", true, 2, 99
			}),
		},
		"udp_with_any_reply": {"type = \"udp\"\nrequire_reply = true", with(CheckUDP, func(c *Check) { c.Answer, c.MaxReply = true, 65535 })},
		"dns":                {`type = "dns"`, with(CheckDNS, func(c *Check) { c.Query, c.Name, c.Transport = "SOA", ".", "udp" })},
		"dns_by_tcp": {
			"type = \"dns\"\nquery = \"AAAA\"\nname = \"example.com\"\ntransport = \"tcp\"",
			with(CheckDNS, func(c *Check) { c.Query, c.Name, c.Transport = "AAAA", "example.com", "tcp" }),
		},
		"smtp":      {`type = "smtp"`, with(CheckSMTP, func(c *Check) { c.Name = "fnatd.invalid" })},
		"smtp_helo": {"type = \"smtp\"\nhelo = \"lb.example.com\"", with(CheckSMTP, func(c *Check) { c.Name = "lb.example.com" })},
		"exec": {
			"type = \"exec\"\ncommand = [\"/bin/check\", \"-a\", \"\"]\nuser = \"nobody\"\ndynamic = true",
			with(CheckExec, func(c *Check) {
				c.Timeout = 5 * time.Second
				c.Command, c.User, c.Dynamic = []string{"/bin/check", "-a", ""}, "nobody", true
			}),
		},
		"file": {"type = \"file\"\nfile = \"/run/w\"", with(CheckFile, func(c *Check) { c.File, c.Factor = "/run/w", 1 })},
		"file_of_weights": {
			"type = \"file\"\nfile = \"/run/w\"\ndynamic = true\nfactor = -2",
			with(CheckFile, func(c *Check) { c.File, c.Dynamic, c.Factor = "/run/w", true, -2 }),
		},
		"bfd": {`type = "bfd"`, bfdCheck(func(*Check) {})},
		"bfd_of_its_own": {
			"type = \"bfd\"\naddress = \"10.0.9.1\"\nsource = \"10.0.9.2\"\nmin_tx = \"3.312ms\"\nmin_rx = \"20ms\"\nidle_tx = \"3s\"\nmultiplier = 4\n" +
				"passive = true\nttl = 64\nmax_hops = 2\ninterval = \"1s\"\nrise = 3\nalpha = true",
			bfdCheck(func(c *Check) {
				c.Interval, c.Timeout, c.Rise, c.Alpha = time.Second, 15*time.Second, 3, true
				c.Address, c.Source = netip.MustParseAddr("10.0.9.1"), netip.MustParseAddr("10.0.9.2")
				c.BFD = BFD{MinTx: 3312 * time.Microsecond, MinRx: 20 * time.Millisecond, IdleTx: 3 * time.Second, Multiplier: 4, Passive: true, TTL: 64, MaxHops: 2}
			}),
		},
		"bfd_over_any_number_of_hops": {
			"type = \"bfd\"\nmultihop = true\ntimeout = \"20s\"",
			bfdCheck(func(c *Check) { c.BFD.Multihop, c.BFD.MaxHops, c.Timeout = true, 255, 20*time.Second }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := mustParse(t, minimal+"\n[service.health]\n"+test.lines).Services[0].Checks
			if diff := cmp.Diff([]Check{test.want}, got, ignoreLines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestChecksOfServers has the ways to give a server checks.
func TestChecksOfServers(t *testing.T) {
	tcp, ping := timing(CheckTCP), timing(CheckPing)
	server := minimal + "  [[service.real_server]]\n  address = \"10.0.2.12:8080\"\n"
	for name, test := range map[string]struct {
		text          string
		first, second []Check
	}{
		"one_for_all":        {server + "[service.health]\ntype = \"tcp\"\n", []Check{tcp}, []Check{tcp}},
		"several_for_all":    {server + "[[service.health]]\ntype = \"tcp\"\n[[service.health]]\ntype = \"ping\"\n", []Check{tcp, ping}, []Check{tcp, ping}},
		"its_own":            {server + "[service.real_server.health]\ntype = \"ping\"\n[service.health]\ntype = \"tcp\"\n", []Check{tcp}, []Check{ping}},
		"several_of_its_own": {server + "[[service.real_server.health]]\ntype = \"tcp\"\n[[service.real_server.health]]\ntype = \"ping\"\n", nil, []Check{tcp, ping}},
		"none_of_its_own":    {server + "health = []\n[service.health]\ntype = \"tcp\"\n", []Check{tcp}, nil},
		"none":               {server, nil, nil},
		"inline":             {server + "health = { type = \"ping\" }\n", nil, []Check{ping}},
	} {
		t.Run(name, func(t *testing.T) {
			servers := mustParse(t, test.text).Services[0].Servers
			if diff := cmp.Diff([][]Check{test.first, test.second}, [][]Check{servers[0].Checks, servers[1].Checks}, ignoreLines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailover(t *testing.T) {
	const keys = `
on_down = "inhibit"
down_connections = "drain"
down_drain = "1m"
damping = "0s"
quorum = 3
hysteresis = 2
sorry_server = "10.0.2.99:80"
omega = true
quorum_up = ["/bin/up"]
quorum_down = ["/bin/down", "web"]
notify_up = ["/bin/nup"]
notify_down = ["/bin/ndown"]
script_timeout = "5s"
script_user = "nobody"
health = { type = "tcp" }
real_server = [{ address = "10.0.2.11:8080" }, { address = "10.0.2.12:8080", notify_up = ["/bin/own"] }]
`
	text := minimal[:len(minimal)-len("\n  [[service.real_server]]\n  address = \"10.0.2.11:8080\"\n")] + keys
	s := mustParse(t, text).Services[0]
	want := Failover{
		OnDown: Inhibit, DownConnections: Drain, DownDrain: time.Minute, Quorum: 3, Hysteresis: 2, Omega: true,
		Sorry: netip.MustParseAddrPort("10.0.2.99:80"),
		Scripts: Scripts{
			NotifyUp: []string{"/bin/nup"}, NotifyDown: []string{"/bin/ndown"},
			QuorumUp: []string{"/bin/up"}, QuorumDown: []string{"/bin/down", "web"},
			Timeout: 5 * time.Second, User: "nobody",
		},
	}
	if diff := cmp.Diff(want, s.Failover, ignoreLines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := [][]string{s.Servers[0].NotifyUp, s.Servers[0].NotifyDown, s.Servers[1].NotifyUp, s.Servers[1].NotifyDown}
	if diff := cmp.Diff([][]string{{"/bin/nup"}, {"/bin/ndown"}, {"/bin/own"}, {"/bin/ndown"}}, got); diff != "" {
		t.Errorf("scripts of the servers (-want +got):\n%s", diff)
	}
}

// TestEditedServersAreChecked adds servers to a service that checks and scripts
// were written for, and removes them: a service without servers keeps them.
func TestEditedServersAreChecked(t *testing.T) {
	c := mustParse(t, strings.Replace(minimal, `name = "web"`, "name = \"web\"\non_down = \"inhibit\"\nnotify_up = [\"tell\"]\nhealth = { type = \"tcp\" }", 1))
	none, err := c.Edited(func(c *Config) { c.Services[0].RemoveServer(0) })
	if err != nil {
		t.Fatal(err)
	}
	added := RealServer{Address: netip.MustParseAddrPort("10.0.2.12:80"), Weight: 1}
	one, err := none.Edited(func(c *Config) { c.Services[0].AddServer(added) })
	if err != nil {
		t.Fatal(err)
	}
	if r := one.Services[0].Servers[0]; len(r.Checks) != 1 || len(r.NotifyUp) != 1 {
		t.Errorf("got %+v, want it checked as the service says", r)
	}
}
