package ctl

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/conntrack"
)

func TestFilterSurvivesItsQuery(t *testing.T) {
	for _, want := range []Filter{
		{},
		{Service: "a b&c=d", State: "SYN_RECV", Limit: 5},
		{Client: netip.MustParsePrefix("2001:db8::/32")},
	} {
		got, err := parseFilter(want.query())
		if err != nil || got != want {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

func TestStatesAreThoseOfTheTable(t *testing.T) {
	var want []string
	for s := conntrack.None + 1; s < conntrack.NumStates; s++ {
		if s != conntrack.Template {
			want = append(want, s.String())
		}
	}
	if d := cmp.Diff(want, States[:]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got, err := ParseState("syn_recv"); got != "SYN_RECV" || err != nil {
		t.Errorf("got %q, %v, want the name in capitals", got, err)
	}
}

func TestParseClient(t *testing.T) {
	for in, want := range map[string]string{
		"198.51.100.7":        "198.51.100.7/32",
		"198.51.100.7/24":     "198.51.100.0/24",
		"2001:db8::1":         "2001:db8::1/128",
		"::ffff:198.51.100.7": "198.51.100.7/32",
	} {
		if got, err := ParseClient(in); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "198.51.100.7:80", "fe80::1%eth0", "10.0.0.0/33"} {
		if got, err := ParseClient(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}
