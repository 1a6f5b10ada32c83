package keepalived

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestBFDAdvice follows what the message of a BFD_CHECK says, and gets a check of the
// neighbor that takes as long as the session.
func TestBFDAdvice(t *testing.T) {
	const service = "local_address_group lan {\n 10.0.1.1 eth0\n}\nvirtual_server 203.0.113.10 80 {\n protocol TCP\n lb_kind FNAT\n real_server 10.0.2.1 80 {\n"
	load := func(instance, checker string) (*Import, error) {
		return parse("a.conf", []byte(instance+service+checker+"}\n}\n"), Options{}, memory(nil))
	}
	advice := regexp.MustCompile(`^a\.conf:\d+: real_server: BFD_CHECK: fnatd does not speak BFD \(write in its place, for bfd_instance rs at a\.conf:1: PING_CHECK with (.*)\)$`)
	for name, test := range map[string]struct {
		instance, address, source string
		detection                 time.Duration // rounded up to what a check can
	}{
		"defaults":      {instance: "neighbor_ip 10.0.2.1", address: "10.0.2.1", detection: 100 * time.Millisecond},
		"source":        {instance: "neighbor_ip 10.0.2.9\nsource_ip 10.0.2.254\nmin_rx 300\nmultiplier 3", address: "10.0.2.9", source: "10.0.2.254", detection: 900 * time.Millisecond},
		"ipv6":          {instance: "neighbor_ip fd00::9\nmin_rx 333\nmultiplier 3\npassive", address: "fd00::9", detection: time.Second},
		"no_neighbor":   {instance: "min_rx 1000\nmultiplier 10", detection: 10 * time.Second},
		"not_a_number":  {instance: "neighbor_ip 10.0.2.1\nmin_rx fast\nmultiplier -1", address: "10.0.2.1", detection: 100 * time.Millisecond},
		"not_an_answer": {instance: "neighbor_ip 10.0.2.1\nmultiplier", address: "10.0.2.1", detection: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load("bfd_instance rs {\n"+test.instance+"\n}\n", "BFD_CHECK {\n name rs\n}\n")
			if err == nil {
				t.Fatal("it was imported")
			}
			m := advice.FindStringSubmatch(err.Error())
			if m == nil {
				t.Fatalf("got %v", err)
			}
			block := strings.NewReplacer(", ", "\n", " and ", "\n").Replace(m[1])
			in, err := load("", "PING_CHECK {\n"+block+"\n}\n")
			if err != nil {
				t.Fatalf("%s: %v", m[1], err)
			}
			roundTrips(t, in)
			s := in.Config.Services[0]
			c := append(s.Checks, s.Servers[0].Checks...)[0]
			address, source := "", ""
			if c.Address.IsValid() {
				address = c.Address.String()
			}
			if c.Source.IsValid() {
				source = c.Source.String()
			}
			if address != test.address || source != test.source || c.Interval != test.detection || c.Timeout != test.detection || c.Retry != 0 {
				t.Errorf("%s: got %s from %q each %v within %v, %d times more; want %+v", m[1], address, source, c.Interval, c.Timeout, c.Retry, test)
			}
		})
	}
}
