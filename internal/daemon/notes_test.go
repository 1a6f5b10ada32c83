package daemon

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/lb/health"
)

// TestNotesHaveRoom has the notes of 10,000 real servers that are down after a busy year.
func TestNotesHaveRoom(t *testing.T) {
	const busy = 1_000_000_000_000
	now := time.Now()
	server := serverNotes{
		Real:    netip.MustParseAddrPort("[2001:db8:1234:5678::1234]:8080"),
		Traffic: dataplane.Traffic{Connections: busy, InPackets: busy, OutPackets: busy, InBytes: busy, OutBytes: busy, Inserted: busy},
		Offer:   1<<64 - 1,
		Health:  &health.Memory{Since: now, Reason: "http /healthz: status 503, want 200-299"},
	}
	n := &notes{Services: []serviceNotes{{Virtual: server.Real}}}
	for range 10_000 {
		n.Services[0].Servers = append(n.Services[0].Servers, server)
	}
	b, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	f, err := state.Create("", 0, state.Secrets{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.WriteNotes(b); err != nil {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}

// TestNotesNameTheirCounters has counters come back by their labels, whatever their
// numbers were.
func TestNotesNameTheirCounters(t *testing.T) {
	var c dataplane.Counts
	var g dataplane.GuardCounts
	for i := range c.Drops {
		c.Drops[i] = uint64(100 + i)
	}
	for i := range c.Events {
		c.Events[i] = uint64(i) // and none of the first
	}
	for i := range g {
		g[i] = uint64(200 + i)
	}
	b, err := json.Marshal(&notes{Counts: noteCounts(&c), Services: []serviceNotes{{Guard: &dataplane.GuardMemory{Counts: g}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{`"no_conn":`, `"conn_expired":`, `"bad_ack":`} {
		if !strings.Contains(string(b), label) {
			t.Errorf("no %s in %s", label, b)
		}
	}
	var n notes
	if err := json.Unmarshal([]byte(strings.Replace(string(b), `"no_conn":`, `"of_another_version":1,"no_conn":`, 1)), &n); err != nil {
		t.Fatal(err)
	}
	if got := n.Counts.counts(); got != c {
		t.Errorf("got %+v, want %+v", got, c)
	}
	if got := n.Services[0].Guard.Counts; got != g {
		t.Errorf("got %+v, want %+v", got, g)
	}
}
