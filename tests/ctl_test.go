package tests

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/harness"
)

// ctl runs fnatctl and returns what it printed.
func (b *bed) ctl(args ...string) (string, error) {
	b.Helper()
	return b.Balancer.Run(b.Context(), filepath.Join(bin, "fnatctl"), append([]string{"--socket", harness.Socket(b.dir)}, args...)...)
}

// tell is ctl for a command that must succeed.
func (b *bed) tell(args ...string) string {
	b.Helper()
	out, err := b.ctl(args...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// answer returns the answer to fnatctl --json.
func answer[T any](b *bed, command string) (a T) {
	b.Helper()
	if err := json.Unmarshal([]byte(b.tell("--json", command)), &a); err != nil {
		b.Fatalf("fnatctl --json %s: %v", command, err)
	}
	return a
}

// sample is one line of Prometheus' text format.
var sample = regexp.MustCompile(`(?m)^(\w+(?:\{[^}]*\})?) (\S+)$`)

// metrics scrapes fnatd inside its namespace. Names are as printed, labels
// included.
func (b *bed) metrics() map[string]float64 {
	b.Helper()
	all := map[string]float64{}
	for _, m := range sample.FindAllStringSubmatch(b.run(b.Balancer, "curl", "-sS", "--fail", "http://"+harness.Metrics+"/metrics"), -1) {
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			b.Fatal(err)
		}
		all[m[1]] = value
	}
	return all
}

// figuresAreTrue makes known traffic and asks for it in every way.
func figuresAreTrue(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.echoServer(1)
	b.meet()
	b.start(b.web(0), b.echoService("", 1))
	seen := b.capture(b.Client)
	p := b.connect(accepted)
	p.exchange()
	u := b.udpClient(b.clientAddr())
	for range 3 {
		if err := u.ask(make([]byte, 100)); err != nil {
			b.Fatal(err)
		}
	}
	b.rawClient().send(packettest.TCP{Flags: packet.ACK, Seq: 1, Ack: 1}) // of no connection
	b.eventually("the stray segment is counted", func() bool { return b.drops("no_conn") == 1 })
	b.eventually("the notice is acknowledged", func() bool { return b.drops("notice_reply") == 1 })
	want := b.traffic(seen, p.client.LocalAddr().(*net.TCPAddr).AddrPort())
	b.checkServices(want)
	b.checkConnections(p, u.LocalAddr().(*net.UDPAddr).AddrPort())
	b.checkLocals()
	b.checkStats()
	b.checkDropsAnswer()
	b.checkMetrics(want)
}

// traffic ends a capture when a client has acknowledged all that it got, so that
// nothing more will be sent, and counts its connection's packets.
func (b *bed) traffic(c *netns.Capture, client netip.AddrPort) (t ctl.Traffic) {
	b.Helper()
	b.eventually("the client has acknowledged the answer", func() bool {
		var got, acked uint32
		for _, s := range segments(c.Frames()) {
			if s.dst == client {
				got = s.seq + uint32(len(s.payload))
			} else if s.src == client {
				acked = s.ack
			}
		}
		return acked == got
	})
	t.Connections = 1
	for _, s := range segments(b.frames(c)) {
		switch client {
		case s.src:
			t.InPackets++
			t.InBytes += uint64(s.length)
		case s.dst:
			t.OutPackets++
			t.OutBytes += uint64(int(s.length) + headerLen(b.server) - headerLen(b.client)) // as the server sent it
		}
	}
	return t
}

// contains checks that a table has a line with all these words in this order.
func (b *bed) contains(table string, words ...any) {
	b.Helper()
	var pattern []string
	for _, w := range words {
		pattern = append(pattern, regexp.QuoteMeta(fmt.Sprint(w)))
	}
	if !regexp.MustCompile(`(?m)^.*` + strings.Join(pattern, `\s.*?`)).MatchString(table) {
		b.Errorf("no line with %v in\n%s", words, table)
	}
}

// datagramLen returns how long a datagram of 100 bytes is with its headers.
func (b *bed) datagramLen(version int) int { return headerLen(version) + 8 + 100 }

func (b *bed) checkServices(want ctl.Traffic) {
	b.Helper()
	services := answer[struct{ Services []ctl.Service }](b, "services").Services
	if len(services) != 2 {
		b.Fatalf("services: got %+v, want 2", services)
	}
	web, echo := services[0], services[1]
	if diff := cmp.Diff(web.Traffic, want); diff != "" {
		b.Errorf("service web: got - want +\n%s", diff)
	}
	if diff := cmp.Diff(web.Servers[0].Traffic, want); diff != "" {
		b.Errorf("real server of web: got - want +\n%s", diff)
	}
	if diff := cmp.Diff(echo.Traffic, ctl.Traffic{
		Connections: 1, InPackets: 3, OutPackets: 3,
		InBytes: 3 * uint64(b.datagramLen(b.client)), OutBytes: 3 * uint64(b.datagramLen(b.server)),
	}); diff != "" {
		b.Errorf("service echo: got - want +\n%s", diff)
	}
	if diff := cmp.Diff(echo.ClientAddresses.Notices, ctl.Notices{Sent: 1, Acknowledged: 1}); diff != "" {
		b.Errorf("notices: got - want +\n%s", diff)
	}
	if r := web.Servers[0]; r.Active != 1 || r.Inactive != 0 || r.Weight != 1 || r.Real != b.rip(0, 8080) {
		b.Errorf("real server of web: got %+v, want one active connection", r)
	}
	table := b.tell("services")
	b.contains(table, "TCP", b.vip(80), "rr", "web:")
	b.contains(table, "->", b.rip(0, 8080), 1, 1, 0)
	b.contains(table, "UDP", b.vip(7), "rr", "echo:")
	b.contains(b.tell("services", "--stats"), "TCP", b.vip(80), want.Connections, want.InPackets, want.OutPackets, want.InBytes, want.OutBytes)
}

func (b *bed) checkConnections(p *pair, udp netip.AddrPort) {
	b.Helper()
	local := p.server.RemoteAddr().(*net.TCPAddr).AddrPort()
	all := answer[struct{ Connections []ctl.Connection }](b, "connections").Connections
	if len(all) != 2 {
		b.Fatalf("connections: got %+v, want 2", all)
	}
	for _, c := range all {
		want := ctl.Connection{
			Protocol: "tcp", State: "ESTABLISHED", Service: "web",
			Client: p.client.LocalAddr().(*net.TCPAddr).AddrPort(), Virtual: b.vip(80), Local: local, Real: b.rip(0, 8080),
		}
		limit := 90.0
		if c.Protocol == "udp" {
			want = ctl.Connection{Protocol: "udp", State: "UDP", Service: "echo", Client: udp, Virtual: b.vip(7), Local: c.Local, Real: b.rip(1, 7)}
			limit = 300
		}
		if c.ExpiresSeconds > limit || c.ExpiresSeconds < limit-patience.Seconds() {
			b.Errorf("connection of %s: expires in %v s, want a bit less than %v", want.Service, c.ExpiresSeconds, limit)
		}
		c.ExpiresSeconds = 0
		if c != want {
			b.Errorf("connection of %s: got %+v, want %+v", want.Service, c, want)
		}
	}
	b.contains(b.tell("connections"), "TCP", "ESTABLISHED", p.client.LocalAddr(), b.vip(80), local, b.rip(0, 8080), "web")
	if table := b.tell("connections", "--service", "echo", "--client", b.clientNetwork(b.clientAddr()).Masked().String()); strings.Contains(table, "TCP") || !strings.Contains(table, "UDP") {
		b.Errorf("connections of service echo: got\n%s", table)
	}
}

func (b *bed) checkLocals() {
	b.Helper()
	locals := answer[struct{ Locals []ctl.Local }](b, "locals").Locals
	all := []netip.Addr{netns.LIP(0), netns.LIP(1), netns.LIP6(0), netns.LIP6(1)}
	inUse := 0
	for i, l := range locals {
		inUse += l.PortsInUse
		if l.Address != all[i] || l.PortsInUse+l.PortsFree != 65535-1024+1 || l.Conflicts != 0 || l.Interface != b.ServerSide() {
			b.Errorf("local address %d: got %+v", i, l)
		}
		b.contains(b.tell("locals"), "lan", b.ServerSide(), l.Address, "1024-65535", l.PortsInUse, l.PortsFree)
	}
	if len(locals) != len(all) || inUse != 2 {
		b.Errorf("got %d local addresses with %d ports in use, want %d and 2", len(locals), inUse, len(all))
	}
}

func (b *bed) checkStats() {
	b.Helper()
	s := answer[ctl.Stats](b, "stats")
	if s.PID != b.lb.PID() || s.Table.Connections != 2 || s.Table.Capacity != 100_000 || s.Table.HalfOpen != 0 ||
		s.Table.Bytes == 0 || s.Table.Bytes > 128*100_000+(8<<20) || s.ReloadError != "" {
		b.Errorf("stats: got %+v", s)
	}
	if len(s.Interfaces) != len(b.Interfaces()) || len(s.Workers) != b.Queues {
		b.Fatalf("got %d interfaces and %d workers, want %d and %d", len(s.Interfaces), len(s.Workers), len(b.Interfaces()), b.Queues)
	}
	for i, nic := range s.Interfaces {
		if nic.Name != b.Interfaces()[i] || nic.Mode != "copy" || nic.Queues != b.Queues || !strings.Contains(nic.Reason, "zero-copy") {
			b.Errorf("interface: got %+v, want copy mode and why not zero-copy", nic)
		}
		b.contains(b.tell("stats"), nic.Name, "copy", b.Queues, "zero-copy:")
	}
	var sum ctl.Worker
	frames := 0
	for _, w := range s.Workers {
		sum.Batches += w.Batches
		sum.RxPackets += w.RxPackets
		sum.TxPackets += w.TxPackets
		frames += w.Frames.Fill + w.Frames.Rx + w.Frames.Tx + w.Frames.Completion + w.Frames.Free + w.Frames.Held
		if w.IdleShare <= 0 || w.IdleShare > 1 {
			b.Errorf("worker: got %+v, want it to have rested", w)
		}
	}
	// All that came in left, but a stray segment and the echo of a notice; a
	// notice was fnatd's own.
	if sum.Batches == 0 || sum.RxPackets < 10 || sum.TxPackets != sum.RxPackets-1 {
		b.Errorf("workers: got %+v in sum, want as many packets sent as received less one", sum)
	}
	if frames != 8192*b.Queues {
		b.Errorf("workers have %d frames, want %d", frames, 8192*b.Queues)
	}
	b.contains(b.tell("stats"), "table", "2 of 100000 connections")
}

func (b *bed) checkDropsAnswer() {
	b.Helper()
	for _, d := range answer[struct{ Drops []ctl.Drop }](b, "drops").Drops {
		want := uint64(0)
		if d.Reason == "no_conn" || d.Reason == "notice_reply" {
			want = 1
		}
		if d.Count != want || d.Meaning == "" || d.Remedy == "" {
			b.Errorf("drops: got %+v, want %d", d, want)
		}
	}
	b.contains(b.tell("drops"), 1, "no_conn", "segment of no connection")
	b.contains(b.tell("drops", "--all"), 0, "table_full", "max_connections")
}

func (b *bed) checkMetrics(want ctl.Traffic) {
	b.Helper()
	got := b.metrics()
	for name, value := range map[string]float64{
		`fnatd_table_capacity`:                                                                                 100_000,
		`fnatd_table_connections`:                                                                              2,
		`fnatd_service_connections_total{service="web"}`:                                                       1,
		`fnatd_service_packets_total{direction="in",service="web"}`:                                            float64(want.InPackets),
		`fnatd_service_packets_total{direction="out",service="web"}`:                                           float64(want.OutPackets),
		`fnatd_service_bytes_total{direction="in",service="web"}`:                                              float64(want.InBytes),
		`fnatd_service_bytes_total{direction="out",service="web"}`:                                             float64(want.OutBytes),
		`fnatd_real_server_weight{real="` + b.rip(0, 8080).String() + `",service="web"}`:                       1,
		`fnatd_real_server_packets_total{direction="in",real="` + b.rip(1, 7).String() + `",service="echo"}`:   3,
		`fnatd_real_server_bytes_total{direction="out",real="` + b.rip(1, 7).String() + `",service="echo"}`:    float64(3 * b.datagramLen(b.server)),
		`fnatd_real_server_connections{real="` + b.rip(0, 8080).String() + `",service="web",state="active"}`:   1,
		`fnatd_real_server_connections{real="` + b.rip(0, 8080).String() + `",service="web",state="inactive"}`: 0,
		`fnatd_client_address_not_inserted_total{cause="no_room",service="web"}`:                               0,
		`fnatd_notices_total{event="acknowledged",service="echo"}`:                                             1,
		`fnatd_drops_total{reason="no_conn"}`:                                                                  1,
		`fnatd_drops_total{reason="tx_full"}`:                                                                  0,
		`fnatd_config_last_reload_successful`:                                                                  1,
		fmt.Sprintf(`fnatd_interface_info{interface=%q,mode="copy"}`, b.ClientSide()):                          1,
	} {
		if v, ok := got[name]; !ok || v != value {
			b.Errorf("metric %s: got %v (%t), want %v", name, v, ok, value)
		}
	}
	inUse := got[fmt.Sprintf(`fnatd_local_ports_in_use{address="%v",pool="lan"}`, b.lip(0))] + got[fmt.Sprintf(`fnatd_local_ports_in_use{address="%v",pool="lan"}`, b.lip(1))]
	if inUse != 2 || got[`fnatd_worker_batch_size_count{worker="0"}`] == 0 || got[`fnatd_client_address_inserted_total{service="web"}`] < 2 {
		b.Errorf("metrics: got %v ports in use, %v batches, %v options", inUse,
			got[`fnatd_worker_batch_size_count{worker="0"}`], got[`fnatd_client_address_inserted_total{service="web"}`])
	}
}
