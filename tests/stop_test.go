package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/tests/harness"
)

// TestStopAndStart is what a clean stop leaves, and what the next fnatd makes of it.
func TestStopAndStart(t *testing.T) {
	plain := variant{netns.TwoArm, 1, fourToFour, false, ""}
	for _, s := range []struct {
		name string
		run  func(*bed)
		on   variant
	}{
		{"connections_live_on", cleanRestartKeeps, variant{netns.OneArm, 2, sixToSix, false, ""}},
		{"forgotten_state_is_gone", stopForgets, plain},
		{"server_that_was_down_stays_down", downStaysDown, plain},
		{"ordered_drain_holds", drainOutlastsRestart, plain},
		{"counters_go_on", countersGoOn, variant{netns.TwoArm, 1, fourToFour, false, "xdp"}},
		{"offers_of_servers_are_remembered", offersAreRemembered, plain},
		{"table_of_another_size_keeps_what_fits", anotherSize, plain},
		{"state_that_cannot_be_read_is_refused", badStateIsRefused, plain},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(newBed(t, s.on, 2)) })
	}
}

// end has fnatctl stop fnatd, waits until it has, and returns what fnatctl printed.
func (b *bed) end(args ...string) string {
	b.Helper()
	out := b.tell(append([]string{"stop"}, args...)...)
	if err := b.lb.Wait(); err != nil {
		b.Fatal(err)
	}
	b.lb = nil
	b.checkClean()
	return out
}

func cleanRestartKeeps(b *bed) {
	const many = 200
	b.nginx(0).file(b, "index.html", 100)
	b.start(b.web(0))
	if s := answer[ctl.Status](b, "status"); s.Start.Adopted || s.State.Adoptions != 0 || s.State.Path != harness.State(b.dir) || s.Workers != b.Queues {
		b.Errorf("first start: got %+v, want nothing adopted", s)
	}
	b.contains(b.tell("status"), "start", "table began empty, no state was found")
	conns := b.kept(many, 80)
	b.request(conns)
	b.contains(b.end(), fmt.Sprintf("stops with %d connections; the next one finds them in %s", many, harness.State(b.dir)))

	b.start(b.web(0))
	b.request(conns)
	if a := b.adoption(); a != (adoption{many, 0, 0}) {
		b.Errorf("adopted %+v, want %d connections", a, many)
	}
	b.stop() // by SIGTERM: it is the same
	b.start(b.web(0))
	b.request(conns)
	b.eventually("notes are written", func() bool { return !answer[ctl.Status](b, "status").Notes.Written.IsZero() })
	s := answer[ctl.Status](b, "status")
	if !s.Start.Adopted || s.Start.Kept != many || s.Start.LostSum() != 0 || s.Start.TookSeconds <= 0 || s.State.Adoptions != 2 ||
		s.PID != b.lb.PID() || s.Notes.Error != "" || s.State.AgeSeconds <= s.UptimeSeconds {
		b.Errorf("got status %+v, want %d connections kept and a state adopted twice", s, many)
	}
	info, err := os.Stat(harness.State(b.dir))
	if err != nil || uint64(info.Size()) != s.State.Bytes {
		b.Errorf("the state: got %v, %v, want a file of %d bytes", info, err, s.State.Bytes)
	}
	b.contains(b.tell("status"), "start", "adopted in", fmt.Sprintf("%d connections kept, 0 lost", many))
	b.contains(b.tell("status"), "state", harness.State(b.dir)+",", "adopted 2 times")
	m := b.metrics()
	for name, want := range map[string]float64{
		"fnatd_state_adoptions_total": 2, "fnatd_state_connections_kept": many, `fnatd_state_connections_lost{reason="no_room"}`: 0,
	} {
		if got, ok := m[name]; !ok || got != want {
			b.Errorf("metric %s: got %v (%t), want %v", name, got, ok, want)
		}
	}
}

func stopForgets(b *bed) {
	b.nginx(0).file(b, "index.html", 100)
	b.start(b.web(0))
	b.request(b.kept(10, 80))
	b.contains(b.end("--forget"), "stops with 10 connections; the next one begins with none")
	if _, err := os.Stat(harness.State(b.dir)); !errors.Is(err, fs.ErrNotExist) {
		b.Errorf("the state: got %v, want that it is gone", err)
	}
	b.start(b.web(0))
	if s := answer[ctl.Status](b, "status"); s.Start.Adopted || s.Start.Refused != "" || s.State.Adoptions != 0 {
		b.Errorf("got %+v, want a new state", s)
	}
	if n := len(b.connections("")); n != 0 {
		b.Errorf("got %d connections, want none", n)
	}
	b.request(b.kept(10, 80))
}

func downStaysDown(b *bed) {
	servers := []*nginx{b.nginx(0), b.nginx(1)}
	b.start(b.checkedWeb(0, 1))
	servers[0].Kill()
	b.becomes("web", "down up")
	health := func() ctl.ServerHealth {
		return answer[struct{ Services []ctl.ServiceHealth }](b, "health").Services[0].Servers[0]
	}
	before := health()
	b.stop()
	b.start(b.checkedWeb(0, 1))
	if after := health(); after.State != ctl.HealthDown || after.Reason != before.Reason || !after.Since.Equal(before.Since) {
		b.Errorf("right after the restart: got %+v, want it as it was, %+v", after, before)
	}
	if got := b.answersFrom(6); got["1"] != 6 {
		b.Errorf("got answers %v, want 6 of server 1", got)
	}
	// Until each has been asked more often than it takes for a verdict.
	b.eventually("checks are made", func() bool { return health().Checks[0].Failed >= 4 })
	if after := health(); after.State != ctl.HealthDown || !after.Since.Equal(before.Since) || strings.Contains(b.lb.Log(), "real server is") {
		b.Errorf("after some checks: got %+v, want it down without a change\n%s", after, b.lb.Log())
	}
	b.nginx(0).file(b, "index.html", 100)
	b.becomes("web", "up up")
}

func drainOutlastsRestart(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	other := b.listen(b.Servers[1], b.rip(1, 8080))
	b.start(b.web(0, 1))
	pairs := []*pair{b.connect(accepted, other), b.connect(accepted, other)}
	b.tell("drain", b.rip(0, 8080).String(), "--for", "1h")
	b.stop()
	b.start(b.web(0, 1))
	if got := b.service("web").Servers[0]; got.Weight != 0 || got.Active != 1 {
		b.Errorf("the drained server: got %+v, want weight 0 and its connection", got)
	}
	for range 4 {
		b.connect(other).exchange()
	}
	for _, p := range pairs {
		p.exchange()
	}
	b.contains(b.tell("drain"), "web", b.rip(0, 8080), 1, "in", "drained by an operator")
	b.tell("drain", b.rip(0, 8080).String(), "--undo")
	b.connect(accepted, other).exchange()
	if got := b.service("web").Servers[0].Weight; got != 1 {
		b.Errorf("after --undo: got weight %d, want 1", got)
	}
}

func countersGoOn(b *bed) {
	b.nginx(0).file(b, "index.html", 100)
	b.start(b.web(0))
	conns := b.kept(100, 80)
	b.request(conns)
	b.tell("ipvsadm", "-Z")
	b.request(conns)
	b.rawClient().send(packettest.TCP{Flags: packet.ACK, Seq: 1, Ack: 1}) // with no cookie
	b.eventually("the stray segment is counted", func() bool { return b.drops("bad_cookie") == 1 })
	before, guard := b.service("web"), b.guardStats()
	if guard.Count("answered_in_xdp") < 100 {
		b.Fatalf("SYNPROXY has counted %+v", guard.Events)
	}
	b.stop()
	b.start(b.web(0))
	after := b.service("web")
	if after.Traffic.Connections != 100 || after.Traffic.InPackets < before.Traffic.InPackets || after.Traffic.OutBytes < before.Traffic.OutBytes ||
		after.Servers[0].Traffic.Connections != 100 {
		b.Errorf("traffic: got %+v, want it to go on from %+v", after.Traffic, before.Traffic)
	}
	if got := b.drops("bad_cookie"); got != 1 {
		b.Errorf("drops: got %d, want 1", got)
	}
	if got := b.guardStats(); !slices.Equal(got.Events, guard.Events) {
		b.Errorf("SYNPROXY has counted %+v, want %+v", got.Events, guard.Events)
	}
	// What is counted anew for ipvsadm goes on as well, and nothing of it is a rate.
	time.Sleep(3 * time.Second)
	after = b.service("web")
	if z := after.SinceZero; z.Connections != 0 || z.InPackets < before.SinceZero.InPackets || z.InPackets > before.SinceZero.InPackets+200 {
		b.Errorf("since zero: got %+v, want it to go on from %+v", z, before.SinceZero)
	}
	if r := after.Rates; r.Connections != 0 || r.InBytes > 5000 {
		b.Errorf("rates: got %+v, though nobody has sent anything", r)
	}
}

// learned returns what a stopped fnatd has left noted of the offers of the first
// service's real servers.
func (b *bed) learned() (offers []uint64) {
	b.Helper()
	f, err := state.Open(harness.State(b.dir))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	text, damaged := f.Notes()
	var notes struct {
		Services []struct{ Servers []struct{ Offer uint64 } }
	}
	if err := errors.Join(damaged, json.Unmarshal(text, &notes)); err != nil {
		b.Fatal(err)
	}
	for _, s := range notes.Services[0].Servers {
		offers = append(offers, s.Offer)
	}
	return offers
}

func offersAreRemembered(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	web := b.web(0)
	web.Keys += "\nsynproxy = true"
	b.start(web)
	b.connect(accepted).exchange()
	b.stop()
	offers := b.learned()
	if len(offers) != 1 || offers[0] == 0 {
		b.Fatalf("got offers %v, want one to have been learned", offers)
	}
	b.start(web)
	b.stop() // without another connection
	if got := b.learned(); !slices.Equal(got, offers) {
		b.Errorf("after a restart: got offers %v, want %v", got, offers)
	}
}

// startSized is start with another size of the connection table.
func (b *bed) startSized(size string, services ...harness.Service) {
	b.Helper()
	config := strings.Replace(harness.Config(b.Rig, b.dir, "", services...), "100_000", size, 1)
	var err error
	if b.lb, err = harness.Start(b.Rig, bin+"/fnatd", b.dir, config); err != nil {
		b.Fatal(err)
	}
}

// inTable returns those of conns that fnatd has.
func (b *bed) inTable(conns []net.Conn) []net.Conn {
	b.Helper()
	has := map[netip.AddrPort]bool{}
	for _, c := range b.connections("") {
		has[c.Client] = true
	}
	return slices.DeleteFunc(slices.Clone(conns), func(c net.Conn) bool { return !has[c.LocalAddr().(*net.TCPAddr).AddrPort()] })
}

func anotherSize(b *bed) {
	const many, small = 200, 150
	b.nginx(0).file(b, "index.html", 100)
	b.start(b.web(0))
	conns := b.kept(many, 80)
	b.request(conns)
	b.stop()
	b.startSized("300_000", b.web(0))
	b.request(conns)
	s := answer[ctl.Status](b, "status")
	if s.Start.Kept != many || s.Start.LostSum() != 0 || s.State.Adoptions != 1 || b.stats().Table.Capacity != 300_000 {
		b.Errorf("larger: got %+v, want all of %d kept", s, many)
	}
	b.stop()
	b.startSized(fmt.Sprint(small), b.web(0))
	if !strings.Contains(b.lb.Log(), fmt.Sprintf("connections=%d undone=0 lost=%d", small, many-small)) || !strings.Contains(b.lb.Log(), fmt.Sprintf("no_room=%d", many-small)) {
		b.Errorf("the log does not say that %d have no room:\n%s", many-small, b.lb.Log())
	}
	if s = answer[ctl.Status](b, "status"); s.Start.Kept != small || s.Start.LostSum() != many-small || s.State.Adoptions != 2 {
		b.Errorf("smaller: got %+v, want %d kept", s, small)
	}
	b.contains(b.tell("status"), many-small, "no_room", "max_connections is lower than it was")
	stay := b.inTable(conns)
	if len(stay) != small {
		b.Fatalf("got %d of the connections in the table, want %d", len(stay), small)
	}
	b.request(stay)
}

func badStateIsRefused(b *bed) {
	b.nginx(0).file(b, "index.html", 100)
	b.start(b.web(0))
	b.stop()
	if err := os.WriteFile(harness.State(b.dir), []byte("not a state"), 0o600); err != nil {
		b.Fatal(err)
	}
	b.start(b.web(0))
	const why = "11 bytes are too few: it was cut off"
	if s := answer[ctl.Status](b, "status"); s.Start.Adopted || s.Start.Refused != why {
		b.Errorf("got %+v, want it refused, as %s", s.Start, why)
	}
	b.contains(b.tell("status"), "start", "table began empty, the state found was refused: "+why)
	b.request(b.kept(10, 80))
}
