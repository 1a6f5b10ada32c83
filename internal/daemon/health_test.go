package daemon

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/lb/health"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// TestChecked sees that the checks of a configuration reach lb/health whole.
func TestChecked(t *testing.T) {
	c, err := config.Parse("lb.toml", []byte(`
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
quorum = 2
hysteresis = 1
damping = "7s"
sorry_server = "10.0.2.99:80"
[[service.health]]
type = "https"
path = "/a"
host = "www.example.com"
regex = "ok"
[[service.health]]
type = "udp"
payload = "00 ff"
reply = "1x"
port = 7
source = "10.0.9.1"
[[service.health]]
type = "file"
file = "/run/n"
[[service.health]]
type = "bfd"
address = "10.0.2.77"
min_tx = "20ms"
min_rx = "30ms"
idle_tx = "2s"
multiplier = 4
passive = true
multihop = true
ttl = 64
max_hops = 2
[[service.real_server]]
address = "10.0.2.1:80"
weight = 3
[[service.real_server]]
address = "10.0.2.2:80"
health = []
`))
	if err != nil {
		t.Fatal(err)
	}
	table, err := lb.Compile(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := checked(table, nil)
	if len(got) != 1 || len(got[0].Servers) != 2 {
		t.Fatalf("got %+v, want one service with its two servers, without the sorry server", got)
	}
	s := got[0]
	if s.Quorum != 2 || s.Hysteresis != 1 || s.Damping.String() != "7s" || s.Servers[0].Weight != 3 || len(s.Servers[1].Checks) != 0 {
		t.Errorf("got %+v", s)
	}
	checks := s.Servers[0].Checks
	if len(checks) != 4 {
		t.Fatalf("got %d checks, want 4", len(checks))
	}
	h := checks[0].Probe.(*health.HTTP)
	if h.Path != "/a" || h.Match.String() != "ok" || h.TLS == nil || h.TLS.ServerName != "www.example.com" {
		t.Errorf("https: got %+v", h)
	}
	if diff := cmp.Diff(&health.UDP{Payload: []byte{0, 0xff}, Answer: true, Pattern: "1x", MaxReply: 65535}, checks[1].Probe); diff != "" {
		t.Errorf("udp (-want +got):\n%s", diff)
	}
	if v := checks[1].Via; v.Port != 7 || v.Source.String() != "10.0.9.1" {
		t.Errorf("udp: got it via %+v", v)
	}
	session := health.BFD{
		Key: bfd.Key{Multihop: true}, MinTx: 20 * time.Millisecond, MinRx: 30 * time.Millisecond, IdleTx: 2 * time.Second,
		Mult: 4, Passive: true, TTL: 64, MaxHops: 2,
	}
	if c := checks[3]; *c.BFD != session || c.Probe != nil || c.Via.Addr.String() != "10.0.2.77" || c.Timeout != 10*time.Second {
		t.Errorf("bfd: got %+v of %+v", *c.BFD, c)
	}
	again, _ := checked(table, nil)
	for i := range checks {
		if checks[i].Key == "" || again[0].Servers[0].Checks[i].Key != checks[i].Key {
			t.Errorf("check %d: got key %q and %q, want the same", i, checks[i].Key, again[0].Servers[0].Checks[i].Key)
		}
	}
}

// TestEveryKindOfCheckHasAProbe sees that none falls back to tcp.
func TestEveryKindOfCheckHasAProbe(t *testing.T) {
	for _, kind := range []config.CheckType{config.CheckHTTP, config.CheckHTTPS, config.CheckUDP, config.CheckDNS, config.CheckPing, config.CheckSMTP, config.CheckExec, config.CheckFile} {
		if _, isTCP := probe(&config.Check{Type: kind}).(health.TCP); isTCP {
			t.Errorf("%s: got a tcp probe", kind)
		}
	}
}
