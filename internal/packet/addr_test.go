package packet

import (
	"net/netip"
	"testing"
)

func TestAddr(t *testing.T) {
	for _, c := range []struct {
		in  string
		is4 bool
	}{{"192.0.2.1", true}, {"::ffff:192.0.2.1", true}, {"2001:db8::1", false}, {"::", false}, {"::192.0.2.1", false}} {
		in := netip.MustParseAddr(c.in)
		a := AddrFromNetip(in)
		if a.Is4() != c.is4 {
			t.Errorf("%s: Is4: got %v, want %v", c.in, a.Is4(), c.is4)
		}
		if c.is4 && a != AddrFrom4([]byte{192, 0, 2, 1}) {
			t.Errorf("%s: got % x", c.in, a)
		}
		// The zero Addr is no address, so "::" does not come back.
		if got := a.Netip(); in.Unmap() != got && a != (Addr{}) {
			t.Errorf("Netip: got %v, want %v", got, in.Unmap())
		}
	}
	if got := AddrFromNetip(netip.Addr{}); got != (Addr{}) || got.Netip().IsValid() {
		t.Errorf("no address: got %v", got)
	}
}

func TestEndpoint(t *testing.T) {
	for _, s := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
		if got := EndpointFrom(netip.MustParseAddrPort(s)).String(); got != s {
			t.Errorf("got %s, want %s", got, s)
		}
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]Reason{}
	for r := range NumReasons {
		name := r.String()
		if other, twice := seen[name]; name == "" || twice {
			t.Errorf("reason %d: name %q, as reason %d", r, name, other)
		}
		seen[name] = r
	}
	if got := NumReasons.String(); got != "unknown" {
		t.Errorf("got %q, want unknown", got)
	}
}
