package daemon

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/config"
)

const sample = `[daemon]
[dataplane]
interfaces = ["eth0"]
max_connections = 10_000_000
[[local_pool]]
name = "lan"
interface = "eth0"
addresses = ["10.0.1.10-10.0.1.13"]
ports = "1024-65535"
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
interface = "eth0"
scheduler = "wlc"
local_pool = "lan"
[[service.real_server]]
address = "10.0.2.11:8080"
`

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lb.toml")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCheck(t *testing.T) {
	t.Run("prints_what_would_be_used", func(t *testing.T) {
		var out bytes.Buffer
		if err := Check(write(t, sample), &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"web      tcp    203.0.113.10:80  wlc        1             lan         toa",
			"lan         eth0       4          1024-65535  258048",
			"10000000 connections of ",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("got\n%s\nwant it to contain %q", out.String(), want)
			}
		}
	})
	t.Run("counts_what_synproxy_takes", func(t *testing.T) {
		const row = "\nsynproxy "
		for _, test := range []struct {
			keys string
			want bool
		}{{"", false}, {"synproxy = true\n", true}, {"[service.synproxy]\nmode = \"off\"\n", false}} {
			var out bytes.Buffer
			if err := Check(write(t, strings.Replace(sample, "[[service.real_server]]", test.keys+"[[service.real_server]]", 1)), &out); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(out.String(), row); got != test.want {
				t.Errorf("with %q got\n%s\nwant a row of synproxy: %v", test.keys, out.String(), test.want)
			}
		}
	})
	t.Run("reports_every_error", func(t *testing.T) {
		err := Check(write(t, strings.NewReplacer("wlc", "best", "10.0.2.11", "10.0.2.300").Replace(sample)), new(bytes.Buffer))
		if !errors.Is(err, ErrConfig) {
			t.Fatalf("got %v, want %v", err, ErrConfig)
		}
		for _, want := range []string{`:15: `, `"best"`, `:18: `, `"10.0.2.300:8080"`} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want it to contain %q", err, want)
			}
		}
	})
}

func TestCheckReadsKeepalived(t *testing.T) {
	check := func(text string) (string, error) {
		t.Helper()
		name := filepath.Join(t.TempDir(), "keepalived.conf")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := Check(name, &out)
		return out.String(), err
	}
	service := "virtual_server 203.0.113.10 80 {\n protocol TCP\n lb_kind FNAT\n delay_loop 3\n real_server 10.0.2.11 80 {\n }\n}\n"
	out, err := check(service + "local_address_group lan {\n 10.0.1.1 eth0\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"keepalived.conf:4: virtual_server: delay_loop: has no effect without a checker", "203.0.113.10:80  tcp "} {
		if !strings.Contains(out, want) {
			t.Errorf("got\n%s\nwant it to contain %q", out, want)
		}
	}
	if _, err = check(service); !errors.Is(err, ErrConfig) {
		t.Fatalf("without a pool: got %v, want %v", err, ErrConfig)
	}
	for _, want := range []string{"keepalived.conf:1: virtual_server: there are no local addresses", "keepalived.conf:1: virtual_server: on which interface", "fnatctl import"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %q", err, want)
		}
	}
}

func TestFixed(t *testing.T) {
	parse := func(text string) *config.Config {
		t.Helper()
		c, err := config.Parse("lb.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := parse(sample)
	if err := fixed(old, parse("# moved down a line\n"+strings.Replace(sample, "wlc", "rr", 1))); err != nil {
		t.Errorf("a changed service: got %v, want it allowed", err)
	}
	err := fixed(old, parse(strings.NewReplacer("[daemon]\n", "[daemon]\nmetrics = \"\"\n", "10_000_000", "64").Replace(sample)))
	for _, want := range []string{"[daemon] metrics", "[dataplane] max_connections", "restart"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %q", err, want)
		}
	}
}

func TestParseCPUList(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-2,7": {0, 1, 2, 7}, "": nil, "x": nil} {
		if diff := cmp.Diff(want, parseCPUList(list)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", list, diff)
		}
	}
}

func TestCleanup(t *testing.T) {
	var order []int
	var c cleanup
	for i := range 3 {
		c.add(func() error { order = append(order, i); return nil })
	}
	c.add(func() error { return errors.New("stuck") })
	if err := c.run(); err == nil || err.Error() != "stuck" {
		t.Errorf("got %v, want the failed step's error", err)
	}
	if diff := cmp.Diff([]int{2, 1, 0}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
