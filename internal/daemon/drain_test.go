package daemon

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/lb"
)

func TestDrainOrdersThatCannotBe(t *testing.T) {
	d := &Daemon{cfg: must(config.Parse("lb.toml", []byte(twoPools))), drains: newDrains()}
	for _, test := range []struct {
		order ctl.DrainOrder
		want  string
	}{
		{ctl.DrainOrder{}, `server "": not an address, with or without a port (want it as 10.0.2.11:8080 or 10.0.2.11)`},
		{ctl.DrainOrder{Server: "web"}, `server "web": not an address, with or without a port (want it as 10.0.2.11:8080 or 10.0.2.11)`},
		{ctl.DrainOrder{Server: "10.0.2.99"}, "no service has a real server 10.0.2.99"},
		{ctl.DrainOrder{Server: "10.0.2.11:81"}, "no service has a real server 10.0.2.11:81"},
		{ctl.DrainOrder{Server: "10.0.2.11", Service: "wbe"}, `service "wbe" has no real server 10.0.2.11`},
		{ctl.DrainOrder{Server: "10.0.2.11", Seconds: new(float64(-1))}, "time of -1 seconds: want 0 to 480h0m0s"},
		{ctl.DrainOrder{Server: "10.0.2.11", Seconds: new(math.NaN())}, "time of NaN seconds: want 0 to 480h0m0s"},
		{ctl.DrainOrder{Server: "10.0.2.11", Seconds: new(1e308)}, "time of 1e+308 seconds: want 0 to 480h0m0s"},
	} {
		_, err := d.Drain(context.Background(), test.order)
		if fmt.Sprint(err) != test.want {
			t.Errorf("%+v: got %v, want %s", test.order, err, test.want)
		}
		if len(d.drains.by) != 0 {
			t.Errorf("%+v: it has drained something", test.order)
		}
	}
}

// TestDrains follows servers through tables, without packets.
func TestDrains(t *testing.T) {
	cfg := must(config.Parse("lb.toml", []byte(twoPools)))
	both := must(lb.Compile(cfg, nil))
	one := must(lb.Compile(must(cfg.Edited(func(c *config.Config) { c.Services[0].RemoveServer(0) })), both))
	none := must(lb.Compile(must(cfg.Edited(func(c *config.Config) { c.Services = nil })), both))
	first, second := both.Services[0].Servers[0].Subject(), both.Services[0].Servers[1].Subject()
	now := time.Now()

	d := newDrains().followed(both, one)
	if o := d.by[first]; len(d.by) != 1 || o == nil || o.service != "web" || o.home != "wan0" {
		t.Fatalf("a server that left: got %+v", d.by)
	}
	if due, wait := d.due(now.Add(-time.Minute)); len(due) != 0 || wait < config.DefaultDrain {
		t.Errorf("before its time: got %v due, wait %v", due, wait)
	}
	if due, _ := d.due(now.Add(config.DefaultDrain + time.Minute)); len(due) != 1 || due[0] != first {
		t.Errorf("after its time: got %v due", due)
	}
	if back := d.followed(one, both); len(back.by) != 0 || len(d.by) != 1 {
		t.Errorf("a server that came back: got %+v, and %+v before", back.by, d.by)
	}
	if all := d.followed(one, none); len(all.by) != 2 || all.by[first].due != d.by[first].due {
		t.Errorf("its service left too: got %+v, want another one, and the first one's time to go on", all.by)
	}

	ordered := newDrains()
	ordered.order(second, &cfg.Services[0], &ctl.DrainOrder{Server: "10.0.2.12"})
	if got := ordered.applyTo(cfg); got == cfg || got.Services[0].Servers[1].Weight != 0 || got.Services[0].Servers[0].Weight != 3 || cfg.Services[0].Servers[1].Weight != 1 {
		t.Errorf("an ordered drain: got %+v, and %+v before", got.Services[0].Servers, cfg.Services[0].Servers)
	}
	if kept := ordered.followed(both, both); !kept.by[second].ordered {
		t.Error("a reload has ended an operator's drain")
	}
	left := ordered.followed(both, none)
	if o := left.by[second]; o.ordered || o.due != ordered.by[second].due || !ordered.by[second].ordered {
		t.Errorf("a drained server that left: got %+v", o)
	}
	if got := newDrains(); got.applyTo(cfg) != cfg {
		t.Error("without drains the configuration is another one")
	}
	left.finish(second)
	ordered.finish(second)
	if left.by[second] != nil || ordered.by[second] == nil || !ordered.by[second].due.IsZero() {
		t.Errorf("after the reset: got %+v and %+v, want the ordered one to stay", left.by[second], ordered.by[second])
	}
	matches := must(parseServer("10.0.2.11"))
	if !matches(netip.MustParseAddrPort("10.0.2.11:8080")) || matches(netip.MustParseAddrPort("10.0.2.12:8080")) {
		t.Error("an address matches its ports, and no others")
	}
}
