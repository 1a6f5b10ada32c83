package lb

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
)

// checkedWeb is a service of three servers with a check and a sorry server.
const checkedWeb = `
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
scheduler = "rr"
sorry_server = "10.0.2.99:80"
health = { type = "tcp" }
real_server = [{ address = "10.0.2.1:80" }, { address = "10.0.2.2:80", weight = 2 }, { address = "10.0.2.3:80" }]
`

var sorry = at(10, 0, 2, 99, 80)

func realN(n byte) packet.Endpoint { return at(10, 0, 2, n, 80) }

// judge returns t with these verdicts; what is not among them is well.
func judge(t testing.TB, table *Table, noQuorum bool, verdicts map[packet.Endpoint]Verdict) *Table {
	t.Helper()
	next, err := table.Judge(func(s *Server) Verdict { return verdicts[s.Real] }, func(*Service) bool { return noQuorum })
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// picks returns which servers a service gives six connections, by their last byte.
func picks(s *Service) (got []byte) {
	for range 6 {
		if server := s.Pick(at(198, 51, 100, 1, 1)); server != nil {
			got = append(got, server.Real.Addr[15])
		} else {
			got = append(got, 0)
		}
	}
	return got
}

func weights(s *Service) (all []int) {
	for _, server := range s.Servers {
		all = append(all, server.Weight)
	}
	return all
}

func TestJudge(t *testing.T) {
	down := Verdict{Down: true}
	for name, test := range map[string]struct {
		text     string
		noQuorum bool
		verdicts map[packet.Endpoint]Verdict
		weights  []int
		picks    []byte
	}{
		"all_are_well": {checkedWeb, false, nil, []int{1, 2, 1, 0}, []byte{1, 2, 3, 1, 2, 3}},
		"one_is_down":  {checkedWeb, false, map[packet.Endpoint]Verdict{realN(2): down}, []int{1, 0, 1, 0}, []byte{1, 3, 1, 3, 1, 3}},
		"all_are_down": {checkedWeb, false, map[packet.Endpoint]Verdict{realN(1): down, realN(2): down, realN(3): down}, []int{0, 0, 0, 0}, make([]byte, 6)},
		"no_quorum":    {checkedWeb, true, map[packet.Endpoint]Verdict{realN(2): down}, []int{0, 0, 0, 1}, []byte{99, 99, 99, 99, 99, 99}},
		"no_quorum_and_no_sorry_server": {
			strings.Replace(checkedWeb, `sorry_server = "10.0.2.99:80"`, "", 1), true,
			map[packet.Endpoint]Verdict{realN(2): down}, []int{1, 0, 1}, []byte{1, 3, 1, 3, 1, 3},
		},
		"a_check_gives_a_weight": {checkedWeb, false, map[packet.Endpoint]Verdict{realN(1): {Weighted: true}, realN(3): {Weighted: true, CheckWeight: 9}}, []int{0, 2, 9, 0}, []byte{2, 3, 2, 3, 2, 3}},
		"a_check_brings_no_drained_server_back": {
			strings.Replace(checkedWeb, "weight = 2", "weight = 0", 1), false,
			map[packet.Endpoint]Verdict{realN(2): {Weighted: true, CheckWeight: 9}}, []int{1, 0, 1, 0}, []byte{1, 3, 1, 3, 1, 3},
		},
		"hashes_go_round_a_removed_server": {
			strings.Replace(checkedWeb, `"rr"`, `"sh"`, 1), false,
			map[packet.Endpoint]Verdict{realN(1): down, realN(3): down}, []int{0, 2, 0, 0}, []byte{2, 2, 2, 2, 2, 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := compile(t, nil, head+test.text)
			s := judge(t, before, test.noQuorum, test.verdicts).Services[0]
			if diff := cmp.Diff(test.weights, weights(s)); diff != "" {
				t.Errorf("weights (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.picks, picks(s)); diff != "" {
				t.Errorf("picks (-want +got):\n%s", diff)
			}
			for range picks(s) {
				server, _ := s.Explain(at(198, 51, 100, 1, 1))
				if picked := s.Pick(at(198, 51, 100, 1, 1)); server != picked {
					t.Errorf("explained: got %v, picked was %v", server, picked)
				}
			}
			for i, server := range s.Servers {
				if server.Service != s || server.Index != i || server.Available() != (server.Weight > 0) {
					t.Errorf("server %d: got service %p, index %d, available %t", i, server.Service, server.Index, server.Available())
				}
			}
			if table := judge(t, before, false, nil); table != before {
				t.Error("nothing new: got another table, want the same")
			}
		})
	}
	t.Run("an_inhibited_server_stays_with_weight_0", func(t *testing.T) {
		verdicts := map[packet.Endpoint]Verdict{realN(1): down}
		for text, want := range map[string]bool{
			checkedWeb: true,
			strings.Replace(checkedWeb, `"rr"`, "\"rr\"\non_down = \"inhibit\"", 1): false,
		} {
			s := judge(t, compile(t, nil, head+text), false, verdicts).Services[0]
			if got := s.Servers[0]; got.Removed() != want || got.Weight != 0 || s.Servers[1].Removed() {
				t.Errorf("on_down %s: got removed %t and weight %d, want %t and 0", s.Failover.OnDown, got.Removed(), got.Weight, want)
			}
			if diff := cmp.Diff([]byte{2, 3, 2, 3, 2, 3}, picks(s)); diff != "" {
				t.Errorf("on_down %s: picks (-want +got):\n%s", s.Failover.OnDown, diff)
			}
		}
	})
	t.Run("leaves_other_services_alone", func(t *testing.T) {
		before := compile(t, nil, head+checkedWeb+dns)
		after := judge(t, before, false, map[packet.Endpoint]Verdict{realN(1): down})
		if after.Services[1] != before.Services[1] || after.Services[0] == before.Services[0] {
			t.Error("want one service copied and the other shared")
		}
		if after.Service(packet.ProtoTCP, at(203, 0, 113, 10, 80)) != after.Services[0] {
			t.Error("the judged service is not found by its address")
		}
		if before.Services[0].Servers[0].Weight != 1 {
			t.Error("the old table has changed")
		}
	})
	t.Run("keeps_load_and_turn", func(t *testing.T) {
		before := compile(t, nil, head+checkedWeb)
		before.Services[0].Pick(at(198, 51, 100, 1, 1))
		after := judge(t, before, false, map[packet.Endpoint]Verdict{realN(3): down})
		if got := picks(after.Services[0]); got[0] != 2 {
			t.Errorf("got %v, want server 2, whose turn it is", got)
		}
		if after.Services[0].Servers[0].Load != before.Services[0].Servers[0].Load {
			t.Error("a server has another Load")
		}
	})
}

func TestHealthOutlastsReload(t *testing.T) {
	down := Verdict{Down: true}
	first := judge(t, compile(t, nil, head+checkedWeb), true, map[packet.Endpoint]Verdict{
		realN(1): down, realN(2): {Weighted: true, CheckWeight: 7},
	})
	t.Run("of_servers_and_quorum", func(t *testing.T) {
		s := compile(t, first, head+dns+checkedWeb).Services[1]
		if !s.NoQuorum || !s.Servers[0].Down || s.Servers[1].CheckWeight != 7 || s.Servers[2].Down {
			t.Errorf("got %+v, want what was known", s)
		}
		if diff := cmp.Diff([]byte{99, 99, 99, 99, 99, 99}, picks(s)); diff != "" {
			t.Errorf("picks (-want +got):\n%s", diff)
		}
	})
	t.Run("but_not_of_one_without_checks", func(t *testing.T) {
		text := strings.Replace(checkedWeb, `health = { type = "tcp" }`, "", 1)
		if s := compile(t, first, head+text).Services[0]; s.Servers[0].Down {
			t.Error("got it down, want it up: nobody checks it")
		}
	})
	t.Run("a_new_server_with_alpha_is_down", func(t *testing.T) {
		text := strings.Replace(checkedWeb, `type = "tcp"`, `type = "tcp", alpha = true`, 1)
		text = strings.Replace(text, "10.0.2.3", "10.0.2.4", 1)
		s := compile(t, judge(t, first, false, nil), head+text).Services[0]
		if s.Servers[0].Down || !s.Servers[2].Down {
			t.Errorf("got down %t and %t, want only the new one down", s.Servers[0].Down, s.Servers[2].Down)
		}
	})
	t.Run("a_sorry_server_has_none", func(t *testing.T) {
		text := strings.Replace(checkedWeb, `"10.0.2.99:80"`, `"10.0.2.1:80"`, 1)
		text = strings.Replace(text, `{ address = "10.0.2.1:80" }, `, "", 1)
		s := compile(t, first, head+text).Services[0]
		if got := s.Server(realN(1)); !got.Sorry || got.Down {
			t.Errorf("got %+v, want a sorry server that nobody judges", got)
		}
	})
}

func TestDiffOfHealth(t *testing.T) {
	const more = `
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
scheduler = "rr"
on_down = "inhibit"
down_connections = "drain"
down_drain = "1m"
damping = "0s"
quorum = 3
hysteresis = 1
omega = true
quorum_up = ["/bin/up", "a b"]
quorum_down = ["/bin/down", ""]
script_timeout = "5s"
script_user = "nobody"
health = { type = "http", path = "/ok", regex = "^ok", address = "10.0.9.9", source = "10.0.9.1" }
real_server = [{ address = "10.0.2.1:80", notify_up = ["/bin/a"] }, { address = "10.0.2.2:80", weight = 2, health = [] }, { address = "10.0.2.3:80" }]
`
	tcp := "tcp interval 2s timeout 2s retry_delay 1s warmup 2s rise 2 fall 3"
	http := `http interval 2s timeout 2s retry_delay 1s warmup 2s rise 2 fall 3 path /ok method GET regex "^ok" address 10.0.9.9 source 10.0.9.1 status [{200 299}]`
	want := []string{
		`~ service "web": on_down default -> inhibit`,
		`~ service "web": down_connections default -> drain`,
		`~ service "web": down_drain default -> 1m0s`,
		`~ service "web": damping default -> 0s`,
		`~ service "web": quorum default -> 3`,
		`~ service "web": hysteresis default -> 1`,
		`~ service "web": omega default -> on`,
		`~ service "web": quorum_up default -> /bin/up "a b"`,
		`~ service "web": quorum_down default -> /bin/down ""`,
		`~ service "web": script_timeout default -> 5s`,
		`~ service "web": script_user default -> nobody`,
		`~ service "web": sorry_server 10.0.2.99:80 -> default`,
		`~ service "web": real_server 10.0.2.1:80: health ` + tcp + ` -> ` + http,
		`~ service "web": real_server 10.0.2.1:80: notify_up default -> /bin/a`,
		`~ service "web": real_server 10.0.2.2:80: health ` + tcp + ` -> default`,
		`~ service "web": real_server 10.0.2.3:80: health ` + tcp + ` -> ` + http,
	}
	old, now := compile(t, nil, head+checkedWeb), compile(t, nil, head+more)
	var got []string
	for _, c := range Diff(old, now) {
		got = append(got, c.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// How servers are is no difference: the operator has changed nothing.
	judged := judge(t, old, true, map[packet.Endpoint]Verdict{realN(1): {Down: true}, realN(2): {Weighted: true, CheckWeight: 9}})
	if got := Diff(old, judged); got != nil {
		t.Errorf("health: got changes %v, want none", got)
	}
}

// TestContentOfAFileIsDescribed sees that a file that has another content makes
// another check.
func TestContentOfAFileIsDescribed(t *testing.T) {
	one := config.Check{Type: config.CheckHTTPS, CA: config.PEMFile{Path: "/ca.pem", Text: "one"}}
	two := one
	two.CA.Text = "two"
	if a, b := describeCheck(&one), describeCheck(&two); a == b || !strings.Contains(a, "/ca.pem") {
		t.Errorf("got %q and %q, want both to name the file and to differ", a, b)
	}
}

// TestEveryKeyOfACheckIsDescribed sees that no change of a check goes unsaid.
func TestEveryKeyOfACheckIsDescribed(t *testing.T) {
	full := config.Check{
		Type: "tcp", Interval: 1, Timeout: 1, Retry: 1, RetryDelay: 1, Warmup: 1, Jitter: 1, Rise: 1, Fall: 1, Alpha: true,
		Address: at(1, 1, 1, 1, 0).Addr.Netip(), Port: 1, Source: at(1, 1, 1, 1, 0).Addr.Netip(), SourcePort: 1, Interface: "x", Mark: 1,
		Path: "x", Method: "x", Host: "x", Status: []config.StatusRange{{First: 1, Last: 1}}, Digest: "x", Regex: "x", RegexNot: true, RegexMin: 1, RegexEnd: 1, SNI: "x", TLSVerify: true,
		CA: config.PEMFile{Path: "x"}, Certificate: config.PEMFile{Path: "x"}, Key: config.PEMFile{Path: "x"},
		Payload: "x", Reply: "x", Answer: true, MinReply: 1, MaxReply: 1, Query: "x", Name: "x", Transport: "x",
		Command: []string{"x"}, User: "x", Dynamic: true, File: "x", Factor: 1,
		BFD: config.BFD{MinTx: 1, MinRx: 1, IdleTx: 1, Multiplier: 1, Passive: true, Multihop: true, TTL: 1, MaxHops: 1},
	}
	fields := reflectFields(&full)
	if len(fields) < 35 {
		t.Fatalf("got %d fields", len(fields))
	}
	for name, f := range fields {
		if f.IsZero() {
			t.Errorf("%s: not set in this test", name)
			continue
		}
		one := full
		reflectFields(&one)[name].SetZero()
		if describeCheck(&one) == describeCheck(&full) {
			t.Errorf("%s: described alike with and without", name)
		}
	}
}

// reflectFields returns the fields of c by name, but for its place in the file.
func reflectFields(c *config.Check) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; name {
		case "Where":
		case "BFD":
			for j := range v.Field(i).NumField() {
				all[name+"."+v.Field(i).Type().Field(j).Name] = v.Field(i).Field(j)
			}
		default:
			all[name] = v.Field(i)
		}
	}
	return all
}
