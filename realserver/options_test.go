package realserver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKinds(t *testing.T) {
	for list, want := range map[string]string{
		"254":         "254",
		"200, 253":    "200,253",
		"254,254,200": "254,200",
		"77":          `option kind "77": not supported (want some of 254, 253 and 200)`,
		"254,":        `option kind "": not supported`,
		"510":         `option kind "510": not supported`,
		"-2":          `option kind "-2": not supported`,
	} {
		k := DefaultKinds
		got := ""
		if err := k.Set(list); err != nil {
			got = err.Error()
		} else {
			got = k.String()
		}
		if !strings.HasPrefix(got, want) || want == "" {
			t.Errorf("--kinds %q: got %q, want %q", list, got, want)
		}
	}
	if got := DefaultKinds.String(); got != "254,253,200" {
		t.Errorf("after Set on a copy the default is %q", got)
	}
}

func TestPrefixes(t *testing.T) {
	for list, want := range map[string]string{
		"10.0.1.0/24":            "10.0.1.0/24",
		"10.0.1.7, fd00:1::/64":  "10.0.1.7/32,fd00:1::/64",
		"fd00::7":                "fd00::7/128",
		"0.0.0.0/0":              "0.0.0.0/0",
		"10.0.1.7/24":            `trusted prefix "10.0.1.7/24": has bits behind its length (want 10.0.1.0/24, or 10.0.1.7 alone)`,
		"10.0.1.0/33":            `trusted prefix "10.0.1.0/33": not a network`,
		"lan":                    `trusted prefix "lan": not a network`,
		"":                       `trusted prefix "": not a network`,
		"::ffff:10.0.1.0/120":    `trusted prefix "::ffff:10.0.1.0/120": not a network`,
		"10.0.1.0/24,fe80::1%lo": `trusted prefix "fe80::1%lo": not a network`,
	} {
		var p Prefixes
		got := ""
		if err := p.Set(list); err != nil {
			got = err.Error()
		} else {
			got = p.String()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("--trust %q: got %q, want %q", list, got, want)
		}
	}
}

func TestTrustKeyIsInIPv6Form(t *testing.T) {
	got := trustKey(netip.MustParsePrefix("10.0.1.0/24"))
	want := peerTrustKey{Length: 120, Addr: words(netip.MustParseAddr("::ffff:10.0.1.0"))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := trustKey(netip.MustParsePrefix("fd00:1::/64")); got.Length != 64 || address(got.Addr) != netip.MustParseAddr("fd00:1::") {
		t.Errorf("fd00:1::/64: got %+v", got)
	}
}

func TestCountersHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for c := range Counter(NumCounters) {
		if text := counterTexts[c]; text.name == "" || text.meaning == "" || seen[text.name] {
			t.Errorf("counter %d: got %+v, want a name of its own and a meaning", c, text)
		}
		seen[c.String()] = true
	}
	if got := Counter(NumCounters).String(); got != "unknown" {
		t.Errorf("beyond the last: got %q", got)
	}
}
