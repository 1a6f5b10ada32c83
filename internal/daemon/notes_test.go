package daemon

import (
	"encoding/json"
	"net/netip"
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
	f, err := state.Create("", 0, state.Secrets{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.WriteNotes(b); err != nil {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}
