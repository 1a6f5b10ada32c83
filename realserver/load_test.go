package realserver

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
)

// TestVerifierTakesThePrograms loads them, and reads back what they are told.
func TestVerifierTakesThePrograms(t *testing.T) {
	netns.RequireRoot(t)
	lan := netip.MustParsePrefix("10.0.1.0/24")
	o := Options{
		Cgroup: rootCgroup(t), Trust: Prefixes{lan, netip.MustParsePrefix("fd00:1::/64")}, Kinds: Kinds{253}, TTM: TTM{Kind: 77, Length: 22},
		TCPTimeout: time.Second, UDPTimeout: time.Second, MaxMappings: 1024, Interfaces: []string{"lo"},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	p, err := load(&o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for addr, want := range map[string]bool{
		"10.0.1.1": true, "10.0.2.1": false, "fd00:1::9": true, "fd00:2::9": false, "::10.0.1.1": false,
	} {
		var found uint8
		err := p.maps.Trust.Lookup(trustKey(netip.PrefixFrom(netip.MustParseAddr(addr), netip.MustParseAddr(addr).BitLen())), &found)
		if (err == nil) != want {
			t.Errorf("trust in %s: got %v, want %t", addr, err, want)
		}
	}
	for _, f := range p.features {
		if f.Missing != "" {
			t.Errorf("feature %s: %s", f.Name, f.Missing)
		}
	}
	counts, err := p.counts()
	if err != nil || len(counts) != NumCounters {
		t.Errorf("counters: got %v, %v", counts, err)
	}
}
