package lb

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
)

func TestCompileCarriesEveryOption(t *testing.T) {
	table := compile(t, nil, head+`
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
scheduler = "mh"
mh_port = true
mh_fallback = true
toa_kind6 = 253
toa_on_syn = true
persistence = "6m"
persistence_granularity = 20
synproxy = { mode = "adaptive", answer = "xdp", mss = 1400, window_scale = 9, sack = false, defer = true, syn_retries = 1, ack_storm_limit = 3, source_rate = 50, bad_ack = "reset", adaptive_on = 2000, adaptive_off = 100 }
drain = "10s"
timeout = { established = "1h", syn_sent = "1s", syn_received = "2s", fin_wait = "3s", time_wait = "4s", close = "5s", close_wait = "6s", last_ack = "7s" }
real_server = [{ address = "10.0.2.11:8080", weight = 7, upper_threshold = 100, lower_threshold = 50 }]
[[service]]
name = "ttm"
protocol = "tcp"
address = "203.0.113.10:81"
client_address = "ttm"
ttm_kind = 200
ttm_length = 24
[[service]]
name = "dns"
protocol = "udp"
address = "203.0.113.10:53"
notice_length = 44
timeout = { udp = "8s", udp_one_way = "9s" }
[[service]]
name = "plain"
protocol = "udp"
address = "203.0.113.10:54"
client_address = "none"
`)
	pool := &Pool{
		Name: "lan", Interface: "eth0", PortMin: 1024, PortMax: 65535,
		Addrs: []packet.Addr{at(10, 0, 1, 10, 0).Addr, at(10, 0, 1, 11, 0).Addr, at(10, 0, 1, 12, 0).Addr, at(10, 0, 1, 13, 0).Addr},
	}
	all := mask(128)
	want := []*Service{{
		Name: "web", Proto: packet.ProtoTCP, Virtual: at(203, 0, 113, 10, 80), Interface: "eth0", Pool: pool,
		ClientAddress: TOA, Option: packet.TOA(253), OptionOnSYN: true,
		Scheduler: "mh", HashPort: true, Fallback: true,
		Persistence: 6 * time.Minute, PersistenceMask: mask(96 + 20), Drain: 10 * time.Second,
		SYNProxy: SYNProxy{
			Mode: Adaptive, Answer: XDP, MSS: 1400, Window: 64240, Scale: 9, Timestamps: true, Defer: true, Retries: 1,
			StormLimit: 3, SourceRate: 50, ResetBadACKs: true, On: 2000, Off: 100,
		},
		Timeouts: Timeouts{
			Established: time.Hour, SynSent: 1 * time.Second, SynReceived: 2 * time.Second, FinWait: 3 * time.Second,
			TimeWait: 4 * time.Second, Close: 5 * time.Second, CloseWait: 6 * time.Second, LastAck: 7 * time.Second,
		},
		Servers: []*Server{{Real: at(10, 0, 2, 11, 8080), Weight: 7, Configured: 7, Upper: 100, Lower: 50}},
	}, {
		Name: "ttm", Index: 1, Proto: packet.ProtoTCP, Virtual: at(203, 0, 113, 10, 81), Interface: "eth0", Pool: pool,
		ClientAddress: TTM, Option: packet.AddressOption{Kind4: 200, Kind6: 200, TTM: true, TTMLength: 24},
		Scheduler: "wlc", PersistenceMask: all, Drain: config.DefaultDrain,
		SYNProxy: SYNProxy{
			MSS: 1460, Window: 64240, Scale: 7, SACK: true, Timestamps: true, Retries: 2, StormLimit: 10, On: 1000, Off: 500,
		},
	}, {
		Name: "dns", Index: 2, Proto: packet.ProtoUDP, Virtual: at(203, 0, 113, 10, 53), Interface: "eth0", Pool: pool,
		ClientAddress: ICMPEcho, NoticeLength: 44, Scheduler: "wlc", PersistenceMask: all, Drain: config.DefaultDrain,
		Timeouts: Timeouts{UDP: 8 * time.Second, UDPOneWay: 9 * time.Second},
	}, {
		Name: "plain", Index: 3, Proto: packet.ProtoUDP, Virtual: at(203, 0, 113, 10, 54), Interface: "eth0", Pool: pool,
		Scheduler: "wlc", PersistenceMask: all, Drain: config.DefaultDrain,
	}}
	options := cmp.Options{
		cmpopts.IgnoreUnexported(Service{}),
		cmpopts.IgnoreFields(Service{}, "Failover"), // which config's tests compare
		cmpopts.IgnoreFields(Server{}, "Service", "Load"),
	}
	if diff := cmp.Diff(table.Services, want, options); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(table.Pools, []*Pool{pool}); diff != "" {
		t.Errorf("pools (-got +want):\n%s", diff)
	}
	if s := table.Services[0]; s.Servers[0].Service != s || s.Server(at(10, 0, 2, 11, 8080)) != s.Servers[0] || s.Server(at(10, 0, 2, 11, 80)) != nil {
		t.Error("service and server do not find each other")
	}
}

// mask returns an Addr with that many leading ones.
func mask(ones int) (m packet.Addr) {
	for i := range ones {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

func TestPersistenceKeyIsTheClientsNetwork(t *testing.T) {
	s := &Service{PersistenceMask: mask(96 + 20)}
	if got, want := s.PersistenceKey(at(198, 51, 100, 77, 0).Addr), at(198, 51, 96, 0, 0).Addr; got != want {
		t.Errorf("PersistenceKey = %v, want %v", got, want)
	}
	six := &Service{PersistenceMask: persistenceMask(&config.Service{PersistenceGranularity: 64})}
	if six.PersistenceMask != mask(64) {
		t.Errorf("IPv6 granularity 64 is mask %x", six.PersistenceMask)
	}
}

func TestCompileRefusesAnUnknownScheduler(t *testing.T) {
	c := &config.Config{
		Pools:    []config.LocalPool{{Name: "lan"}},
		Services: []config.Service{{Name: "web", Pool: "lan", Scheduler: "best"}},
	}
	_, err := Compile(c, nil)
	const want = `service "web": scheduler "best": unknown (want rr, wrr, lc, wlc, sed, nq, sh, dh, mh, fo, ovf)`
	if err == nil || err.Error() != want {
		t.Errorf("Compile = %v; want %s", err, want)
	}
}

func TestReload(t *testing.T) {
	t.Run("keeps_the_load_and_the_turn", func(t *testing.T) {
		old := compile(t, nil, head+web)
		was := old.Services[0]
		was.Servers[1].Load.Opened()
		was.Pick(at(198, 51, 100, 1, 1)) // the first server's turn is over

		now := compile(t, old, head+dns+web).Services[1]
		if now.Servers[0].Load != was.Servers[0].Load || now.Servers[1].Load != was.Servers[1].Load {
			t.Error("a server has another Load")
		}
		if now.Index != 1 || now.Servers[0].Service != now {
			t.Error("the service belongs to the old table")
		}
		if got := now.Pick(at(198, 51, 100, 1, 1)); got != now.Servers[1] {
			t.Errorf("Pick = %v, want the server whose turn it is", got.Real)
		}
	})
	t.Run("goes_by_addresses_not_names", func(t *testing.T) {
		old := compile(t, nil, head+web)
		now := compile(t, old, head+renamed(web))
		if now.Services[0].Servers[0].Load != old.Services[0].Servers[0].Load {
			t.Error("a renamed service forgot its connections")
		}
	})
	t.Run("same_server_in_two_services_has_two_loads", func(t *testing.T) {
		table := compile(t, nil, head+web+`
[[service]]
name = "web2"
protocol = "tcp"
address = "203.0.113.10:81"
real_server = [{ address = "10.0.2.9:8080" }]
`)
		if table.Services[0].Servers[0].Load == table.Services[1].Servers[0].Load {
			t.Error("one Load")
		}
	})
	t.Run("changes_nothing_in_the_old_table", func(t *testing.T) {
		old := compile(t, nil, head+web+dns)
		before := Diff(nil, old)
		compile(t, old, head+dns)
		if diff := cmp.Diff(Diff(nil, old), before, cmp.AllowUnexported(Change{})); diff != "" {
			t.Errorf("(-after +before):\n%s", diff)
		}
	})
}

func renamed(service string) string { return strings.Replace(service, `"web"`, `"www"`, 1) }

// TestCompileKeepsWhatStays has a configuration compiled of which only some is another
// one. What stays is the very same service; what does not has all that it should.
func TestCompileKeepsWhatStays(t *testing.T) {
	c, err := config.Parse("test.toml", []byte(head+`
[[service]]
name = "a"
protocol = "tcp"
address = "203.0.113.10:80"
real_server = [{ address = "10.0.2.11:80" }, { address = "10.0.2.12:80" }]
[[service]]
name = "b"
protocol = "tcp"
address = "203.0.113.10:81"
real_server = [{ address = "10.0.2.11:80" }, { address = "10.0.2.12:80" }]
`))
	if err != nil {
		t.Fatal(err)
	}
	first, err := Compile(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	first = judge(t, first, true, map[packet.Endpoint]Verdict{})
	for name, test := range map[string]struct {
		change func(*config.Config)
		kept   [2]bool
	}{
		"nothing":    {func(*config.Config) {}, [2]bool{true, true}},
		"a_setting":  {func(c *config.Config) { c.Services[0].Drain = time.Hour }, [2]bool{false, true}},
		"a_failover": {func(c *config.Config) { c.Services[1].Failover.Quorum = 2 }, [2]bool{true, false}},
		"a_weight": {func(c *config.Config) {
			c.Services[1].SetServer(0, config.RealServer{Address: c.Services[1].Servers[0].Address, Weight: 5})
		}, [2]bool{true, false}},
		"one_server":    {func(c *config.Config) { c.Services[0].RemoveServer(1) }, [2]bool{false, true}},
		"the_pool":      {func(c *config.Config) { c.Pools[0].RemoveAddress(0) }, [2]bool{false, false}},
		"another_place": {func(c *config.Config) { c.Services = c.Services[1:] }, [2]bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			edited, err := c.Edited(test.change)
			if err != nil {
				t.Fatal(err)
			}
			next, err := Compile(edited, first)
			if err != nil {
				t.Fatal(err)
			}
			for i, was := range first.Services {
				if got := next.Service(was.Proto, was.Virtual) == was; got != test.kept[i] {
					t.Errorf("service %s: kept %t, want %t", was.Name, got, test.kept[i])
				}
			}
			alone, err := Compile(edited, nil)
			if err != nil {
				t.Fatal(err)
			}
			if changes := Diff(alone, next); len(changes) > 0 {
				t.Errorf("not what is configured: %v", changes)
			}
			for i, s := range next.Services {
				if s.Index != i {
					t.Errorf("service %s: index %d, want %d", s.Name, s.Index, i)
				}
				for _, server := range s.Servers {
					if was := first.Service(s.Proto, s.Virtual).Server(server.Real); was.Load != server.Load {
						t.Errorf("service %s: server %v has another load than before", s.Name, server.Real)
					}
				}
			}
		})
	}
}

func TestServerThatComesBackFindsItsLoad(t *testing.T) {
	first := compile(t, nil, head+web+dns)
	busy, idle := first.Services[0].Servers[0].Load, first.Services[1].Servers[0].Load
	busy.Opened()

	// A worker in the middle of a batch may still give a connection to a server
	// that has just left, so that even an idle one is remembered for one reload.
	second := compile(t, first, head)
	if again := compile(t, second, head+dns); again.Services[0].Servers[0].Load != idle {
		t.Error("an idle server was forgotten at once")
	}

	third := compile(t, second, head)
	fourth := compile(t, third, head+web+dns)
	if fourth.Services[0].Servers[0].Load != busy {
		t.Error("a server with a connection was forgotten")
	}
	if fourth.Services[1].Servers[0].Load == idle {
		t.Error("an idle server was remembered for ever")
	}
	if len(fourth.retired) != 0 {
		t.Errorf("%d loads of servers that are configured count as retired", len(fourth.retired))
	}
}

func TestServerAvailable(t *testing.T) {
	table := compile(t, nil, head+`
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
real_server = [{ address = "10.0.2.9:80", upper_threshold = 1 }, { address = "10.0.2.10:80", weight = 0 }]
`)
	s := table.Services[0]
	if !s.Servers[0].Available() || s.Servers[1].Available() {
		t.Error("want the first available, the second, of weight 0, not")
	}
	s.Servers[0].Load.Opened()
	if s.Servers[0].Available() || s.Pick(at(198, 51, 100, 1, 1)) != nil {
		t.Error("the server is full but available")
	}
}

func TestClientAddressString(t *testing.T) {
	got := []string{NoAddress.String(), TOA.String(), TTM.String(), ICMPEcho.String()}
	if diff := cmp.Diff(got, []string{"none", "toa", "ttm", "icmp-echo"}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestMSSThatIsOfferedFitsTheLongerHeader(t *testing.T) {
	for _, test := range []struct {
		virtual, real string
		mss           uint16
	}{
		{"203.0.113.10:80", "10.0.2.11:80", 1460}, {"203.0.113.10:80", "[fd00::11]:80", 1440},
		{"[2001:db8::10]:80", "10.0.2.11:80", 1440}, {"[2001:db8::10]:80", "[fd00::11]:80", 1440},
	} {
		s := &Service{Proto: packet.ProtoTCP, Virtual: packet.EndpointFrom(netip.MustParseAddrPort(test.virtual))}
		s.Servers = []*Server{{Real: packet.EndpointFrom(netip.MustParseAddrPort(test.real))}}
		if s.fitMSS(); s.SYNProxy.MSS != test.mss {
			t.Errorf("%s to %s: got %d, want %d", test.virtual, test.real, s.SYNProxy.MSS, test.mss)
		}
	}
}
