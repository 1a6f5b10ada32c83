package realserver

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
)

// TestVerifierTakesThePrograms loads them, and reads back what they are told.
func TestVerifierTakesThePrograms(t *testing.T) {
	netns.RequireRoot(t)
	lan := netip.MustParsePrefix("10.0.1.0/24")
	p, err := load(Prefixes{lan, netip.MustParsePrefix("fd00:1::/64")}, Kinds{253}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for addr, want := range map[string]bool{
		"10.0.1.1": true, "10.0.2.1": false, "fd00:1::9": true, "fd00:2::9": false, "::10.0.1.1": false,
	} {
		var found uint8
		err := p.objs.Trust.Lookup(trustKey(netip.PrefixFrom(netip.MustParseAddr(addr), netip.MustParseAddr(addr).BitLen())), &found)
		if (err == nil) != want {
			t.Errorf("trust in %s: got %v, want %t", addr, err, want)
		}
	}
	var kinds [256]uint8
	if err := p.objs.Kinds.Get(&kinds); err != nil || kinds != [256]uint8{253: formIPv6} {
		t.Errorf("kinds: got %v, %v, want 253 for IPv6 alone", kinds, err)
	}
	counts, err := p.counts()
	if err != nil || len(counts) != NumCounters {
		t.Errorf("counters: got %v, %v", counts, err)
	}
}
