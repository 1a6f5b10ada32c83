package daemon

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fnatd/fnatd/internal/ctl"
)

// fixedBackend always answers the same.
type fixedBackend struct {
	ctl.Backend // nil: nothing else is asked
	reloadError string
}

func (fixedBackend) Services() []ctl.Service {
	return []ctl.Service{{
		Name: "web", Traffic: ctl.Traffic{Connections: 7, InPackets: 70, OutPackets: 60, InBytes: 7000, OutBytes: 6000},
		ClientAddresses: ctl.ClientCounts{
			Inserted: 6, NotInserted: ctl.NotInserted{NoRoom: 2, OverMTU: 1}, Stripped: 3,
			Notices: ctl.Notices{Sent: 10, Acknowledged: 8, Resent: 4, GivenUp: 1},
		},
		Servers: []ctl.Server{{
			Real: netip.MustParseAddrPort("10.0.2.11:8080"), Weight: 5, Overloaded: true, Active: 3, Inactive: 1,
			Traffic: ctl.Traffic{Connections: 4, InPackets: 40, OutPackets: 30, InBytes: 4000, OutBytes: 3000, Refused: 5, Unanswered: 6},
		}, {
			Real: netip.MustParseAddrPort("[2001:db8::12]:8080"),
		}},
	}}
}

func (fixedBackend) Connections() iter.Seq[ctl.Connection] {
	return func(func(ctl.Connection) bool) {}
}

func (fixedBackend) Locals() []ctl.Local {
	return []ctl.Local{{Pool: "lan", Address: netip.MustParseAddr("10.0.1.10"), PortsInUse: 12, PortsFree: 64500, Conflicts: 5}}
}

func (b fixedBackend) Stats() ctl.Stats {
	return ctl.Stats{
		Version: "v1", Started: time.Unix(1000, 5e8), ConfigLoaded: time.Unix(2000, 0), ReloadError: b.reloadError,
		Table:      ctl.Table{Capacity: 1000, Connections: 44, HalfOpen: 4, Templates: 2, Bytes: 96000},
		Events:     []ctl.Event{{Name: "conn_expired", Count: 9}},
		Guards:     []ctl.Guard{{Service: "web", Mode: "adaptive", On: true, BadACKs: "xdp", Events: []ctl.Event{{Name: "syn", Count: 21}}}},
		Interfaces: []ctl.Interface{{Name: "eth0", Mode: "copy"}},
		Workers: []ctl.Worker{{
			ID: 1, RxPackets: 100, TxPackets: 90, RxBytes: 6400, TxBytes: 5760, Batches: 14,
			BatchSizes: []uint64{8, 0, 1, 2, 0, 0, 3}, IdleSeconds: 1.5,
			Frames: ctl.Frames{Fill: 1, Rx: 2, Tx: 3, Completion: 4, Free: 5, Held: 6},
			Rings:  []ctl.Ring{{Interface: "eth0", Queue: 1, RxRingFull: 11, KickErrors: 1}},
		}},
	}
}

func (fixedBackend) Status() ctl.Status {
	return ctl.Status{
		State: ctl.State{Path: "/run/fnatd/state", Began: time.Unix(500, 0), Adoptions: 3},
		Start: ctl.Start{Adopted: true, Kept: 17, Lost: []ctl.Loss{ctl.NewLoss("damaged", 2), ctl.NewLoss(ctl.NoRoom, 0)}},
	}
}

func (fixedBackend) Drops() []ctl.Drop {
	return []ctl.Drop{ctl.NewDrop("no_service", 12), ctl.NewDrop("table_full", 0)}
}

func (fixedBackend) Health() []ctl.ServiceHealth {
	return []ctl.ServiceHealth{{
		Name: "web", HasQuorum: true, Servers: []ctl.ServerHealth{{
			Real: netip.MustParseAddrPort("10.0.2.11:8080"), State: ctl.HealthDown, Since: time.Unix(1500, 0), Flaps: 2,
			Checks: []ctl.CheckHealth{
				{Name: "http /", Passing: true, TookSeconds: 0.25, Passed: 10, Failed: 2},
				{Name: "http /", TookSeconds: 0.5, Failed: 3, BFD: &ctl.BFD{Downs: 5}},
			},
		}, {
			Real: netip.MustParseAddrPort("[2001:db8::12]:8080"), State: ctl.HealthUnchecked,
		}},
	}}
}

func (fixedBackend) Reload(context.Context) (ctl.Reload, error) { return ctl.Reload{}, nil }

// TestMetrics compares the metrics that an operator builds on, word for word.
func TestMetrics(t *testing.T) {
	const want = `
# HELP fnatd_bfd_session_downs_total Times that the BFD session of a check went down.
# TYPE fnatd_bfd_session_downs_total counter
fnatd_bfd_session_downs_total{check="http / #2",real="10.0.2.11:8080",service="web"} 5
# HELP fnatd_check_duration_seconds How long the last attempt at a check took.
# TYPE fnatd_check_duration_seconds gauge
fnatd_check_duration_seconds{check="http /",real="10.0.2.11:8080",service="web"} 0.25
fnatd_check_duration_seconds{check="http / #2",real="10.0.2.11:8080",service="web"} 0.5
# HELP fnatd_check_passing 1 while a real server passes a check.
# TYPE fnatd_check_passing gauge
fnatd_check_passing{check="http /",real="10.0.2.11:8080",service="web"} 1
fnatd_check_passing{check="http / #2",real="10.0.2.11:8080",service="web"} 0
# HELP fnatd_checks_total Health checks made of a real server; one that was tried again counts once.
# TYPE fnatd_checks_total counter
fnatd_checks_total{check="http /",real="10.0.2.11:8080",result="failed",service="web"} 2
fnatd_checks_total{check="http /",real="10.0.2.11:8080",result="passed",service="web"} 10
fnatd_checks_total{check="http / #2",real="10.0.2.11:8080",result="failed",service="web"} 3
fnatd_checks_total{check="http / #2",real="10.0.2.11:8080",result="passed",service="web"} 0
# HELP fnatd_client_address_inserted_total Segments that carried a client-address option to a real server.
# TYPE fnatd_client_address_inserted_total counter
fnatd_client_address_inserted_total{service="web"} 6
# HELP fnatd_client_address_not_inserted_total Segments that should have carried one and were forwarded without.
# TYPE fnatd_client_address_not_inserted_total counter
fnatd_client_address_not_inserted_total{cause="no_room",service="web"} 2
fnatd_client_address_not_inserted_total{cause="over_mtu",service="web"} 1
# HELP fnatd_client_address_stripped_total Client-address options that clients had forged.
# TYPE fnatd_client_address_stripped_total counter
fnatd_client_address_stripped_total{service="web"} 3
# HELP fnatd_config_last_reload_successful 0 if the last reload was refused, else 1.
# TYPE fnatd_config_last_reload_successful gauge
fnatd_config_last_reload_successful 1
# HELP fnatd_drops_total Packets that were not forwarded.
# TYPE fnatd_drops_total counter
fnatd_drops_total{reason="no_service"} 12
fnatd_drops_total{reason="table_full"} 0
# HELP fnatd_events_total What happened to connections and their packets.
# TYPE fnatd_events_total counter
fnatd_events_total{event="conn_expired"} 9
# HELP fnatd_local_ports_free Ports of a local address that are in use towards none.
# TYPE fnatd_local_ports_free gauge
fnatd_local_ports_free{address="10.0.1.10",pool="lan"} 64500
# HELP fnatd_local_ports_in_use Ports of a local address that are in use towards a real server.
# TYPE fnatd_local_ports_in_use gauge
fnatd_local_ports_in_use{address="10.0.1.10",pool="lan"} 12
# HELP fnatd_notices_total UDP notices sent, acknowledged, resent and given up.
# TYPE fnatd_notices_total counter
fnatd_notices_total{event="acknowledged",service="web"} 8
fnatd_notices_total{event="given_up",service="web"} 1
fnatd_notices_total{event="resent",service="web"} 4
fnatd_notices_total{event="sent",service="web"} 10
# HELP fnatd_real_server_bytes_total Bytes of IP datagrams forwarded for a real server.
# TYPE fnatd_real_server_bytes_total counter
fnatd_real_server_bytes_total{direction="in",real="10.0.2.11:8080",service="web"} 4000
fnatd_real_server_bytes_total{direction="in",real="[2001:db8::12]:8080",service="web"} 0
fnatd_real_server_bytes_total{direction="out",real="10.0.2.11:8080",service="web"} 3000
fnatd_real_server_bytes_total{direction="out",real="[2001:db8::12]:8080",service="web"} 0
# HELP fnatd_real_server_connections Connections of a real server now, active or inactive.
# TYPE fnatd_real_server_connections gauge
fnatd_real_server_connections{real="10.0.2.11:8080",service="web",state="active"} 3
fnatd_real_server_connections{real="10.0.2.11:8080",service="web",state="inactive"} 1
fnatd_real_server_connections{real="[2001:db8::12]:8080",service="web",state="active"} 0
fnatd_real_server_connections{real="[2001:db8::12]:8080",service="web",state="inactive"} 0
# HELP fnatd_real_server_overloaded 1 while a real server is kept out by its thresholds.
# TYPE fnatd_real_server_overloaded gauge
fnatd_real_server_overloaded{real="10.0.2.11:8080",service="web"} 1
fnatd_real_server_overloaded{real="[2001:db8::12]:8080",service="web"} 0
# HELP fnatd_real_server_flaps Times that a real server went down soon after it had come up.
# TYPE fnatd_real_server_flaps gauge
fnatd_real_server_flaps{real="10.0.2.11:8080",service="web"} 2
fnatd_real_server_flaps{real="[2001:db8::12]:8080",service="web"} 0
# HELP fnatd_real_server_signs_total Signs in the traffic that a real server is down: connections refused, SYNs left unanswered.
# TYPE fnatd_real_server_signs_total counter
fnatd_real_server_signs_total{real="10.0.2.11:8080",service="web",sign="refused"} 5
fnatd_real_server_signs_total{real="10.0.2.11:8080",service="web",sign="unanswered"} 6
fnatd_real_server_signs_total{real="[2001:db8::12]:8080",service="web",sign="refused"} 0
fnatd_real_server_signs_total{real="[2001:db8::12]:8080",service="web",sign="unanswered"} 0
# HELP fnatd_real_server_since_time_seconds When a real server last came up or went down, in seconds since 1970; 0 if it never has.
# TYPE fnatd_real_server_since_time_seconds gauge
fnatd_real_server_since_time_seconds{real="10.0.2.11:8080",service="web"} 1500
fnatd_real_server_since_time_seconds{real="[2001:db8::12]:8080",service="web"} 0
# HELP fnatd_real_server_up 1 if a real server passes its checks, or has none.
# TYPE fnatd_real_server_up gauge
fnatd_real_server_up{real="10.0.2.11:8080",service="web"} 0
fnatd_real_server_up{real="[2001:db8::12]:8080",service="web"} 1
# HELP fnatd_service_connections_total Connections made for a service.
# TYPE fnatd_service_connections_total counter
fnatd_service_connections_total{service="web"} 7
# HELP fnatd_service_packets_total Packets forwarded for a service; in is from the client.
# TYPE fnatd_service_packets_total counter
fnatd_service_packets_total{direction="in",service="web"} 70
fnatd_service_packets_total{direction="out",service="web"} 60
# HELP fnatd_service_quorum 1 while enough of a service's real servers are up.
# TYPE fnatd_service_quorum gauge
fnatd_service_quorum{service="web"} 1
# HELP fnatd_start_time_seconds When fnatd started, in seconds since 1970.
# TYPE fnatd_start_time_seconds gauge
fnatd_start_time_seconds 1000.5
# HELP fnatd_state_adoptions_total Times that a fnatd went on with the state of an earlier one.
# TYPE fnatd_state_adoptions_total counter
fnatd_state_adoptions_total 3
# HELP fnatd_state_began_time_seconds When the state that outlives fnatd was made, in seconds since 1970.
# TYPE fnatd_state_began_time_seconds gauge
fnatd_state_began_time_seconds 500
# HELP fnatd_state_connections_kept Connections of an earlier fnatd that this one went on with at its start.
# TYPE fnatd_state_connections_kept gauge
fnatd_state_connections_kept 17
# HELP fnatd_state_connections_lost Connections of an earlier fnatd that this one could not keep at its start.
# TYPE fnatd_state_connections_lost gauge
fnatd_state_connections_lost{reason="damaged"} 2
fnatd_state_connections_lost{reason="no_room"} 0
# HELP fnatd_state_notes_time_seconds When health, drains and counters were last written to the state, in seconds since 1970; 0 if never.
# TYPE fnatd_state_notes_time_seconds gauge
fnatd_state_notes_time_seconds 0
# HELP fnatd_synproxy_bad_acks_in_xdp 1 while a service's segments of no connection, without a good cookie, are dropped by the XDP program.
# TYPE fnatd_synproxy_bad_acks_in_xdp gauge
fnatd_synproxy_bad_acks_in_xdp{service="web"} 1
# HELP fnatd_synproxy_events_total What SYNPROXY has done for a service.
# TYPE fnatd_synproxy_events_total counter
fnatd_synproxy_events_total{event="syn",service="web"} 21
# HELP fnatd_synproxy_on 1 while a service's SYNs are answered by cookies.
# TYPE fnatd_synproxy_on gauge
fnatd_synproxy_on{mode="adaptive",service="web"} 1
# HELP fnatd_table_capacity Connections that the table can hold.
# TYPE fnatd_table_capacity gauge
fnatd_table_capacity 1000
# HELP fnatd_table_connections Connections in the table, templates included.
# TYPE fnatd_table_connections gauge
fnatd_table_connections 44
# HELP fnatd_worker_batch_size Frames in a batch.
# TYPE fnatd_worker_batch_size histogram
fnatd_worker_batch_size_bucket{worker="1",le="1"} 8
fnatd_worker_batch_size_bucket{worker="1",le="2"} 8
fnatd_worker_batch_size_bucket{worker="1",le="4"} 9
fnatd_worker_batch_size_bucket{worker="1",le="8"} 11
fnatd_worker_batch_size_bucket{worker="1",le="16"} 11
fnatd_worker_batch_size_bucket{worker="1",le="32"} 11
fnatd_worker_batch_size_bucket{worker="1",le="64"} 14
fnatd_worker_batch_size_bucket{worker="1",le="+Inf"} 14
fnatd_worker_batch_size_sum{worker="1"} 100
fnatd_worker_batch_size_count{worker="1"} 14
# HELP fnatd_worker_idle_seconds_total Time that a worker waited for frames.
# TYPE fnatd_worker_idle_seconds_total counter
fnatd_worker_idle_seconds_total{worker="1"} 1.5
`
	var names []string
	for line := range strings.Lines(want) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	if err := testutil.CollectAndCompare(NewCollector(fixedBackend{}), strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestMetricsOfARefusedReload(t *testing.T) {
	const want = `
# HELP fnatd_config_last_reload_successful 0 if the last reload was refused, else 1.
# TYPE fnatd_config_last_reload_successful gauge
fnatd_config_last_reload_successful 0
`
	b := fixedBackend{reloadError: "lb.toml:1: bad"}
	if err := testutil.CollectAndCompare(NewCollector(b), strings.NewReader(want), "fnatd_config_last_reload_successful"); err != nil {
		t.Error(err)
	}
}

// TestEveryMetricIsCollected holds the table of families against what comes
// out, with the checks of a pedantic registry and of the naming rules.
func TestEveryMetricIsCollected(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(NewCollector(fixedBackend{})); err != nil {
		t.Fatal(err)
	}
	got, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != int(numFamilies) {
		t.Errorf("got %d metrics, want %d", len(got), numFamilies)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsEndpoint(t *testing.T) {
	srv := httptest.NewServer(MetricsHandler(fixedBackend{}))
	defer srv.Close()
	for path, status := range map[string]int{"/metrics": 200, "/debug/pprof/": 404, "/": 404} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: got status %d, want %d", path, resp.StatusCode, status)
		}
		if path == "/metrics" && !(strings.Contains(string(body), "fnatd_build_info") && strings.Contains(string(body), "go_goroutines")) {
			t.Errorf("%s: got neither fnatd's nor Go's figures", path)
		}
	}
}

// TestReadmeListsEveryMetric keeps the table of the README word for word.
func TestReadmeListsEveryMetric(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)".* variableLabels: {(.*)}}`)
	for _, f := range families {
		m := parts.FindStringSubmatch(f.desc.String())
		if m == nil {
			t.Fatalf("%s: not as expected", f.desc)
		}
		name, help, labels := m[1], m[2], m[3]
		if labels != "" {
			labels = "`" + strings.ReplaceAll(labels, ",", "`, `") + "`"
		}
		if row := fmt.Sprintf("| `%s` | %s | %s |\n", name, labels, help); !strings.Contains(string(readme), row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
}
