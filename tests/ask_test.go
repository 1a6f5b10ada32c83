package tests

import (
	"context"
	"net/netip"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
)

// service asks for the figures of one service.
func (b *bed) service(name string) ctl.Service {
	b.Helper()
	all, err := b.lb.Ctl.Services(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	b.Fatalf("fnatd has no service %q: %+v", name, all)
	return ctl.Service{}
}

// stats asks for the figures of the whole program.
func (b *bed) stats() ctl.Stats {
	b.Helper()
	stats, err := b.lb.Ctl.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return stats
}

// connections asks for the connections in a state, "" for all.
func (b *bed) connections(state string) (all []ctl.Connection) {
	b.Helper()
	for c, err := range b.lb.Ctl.Connections(b.Context(), ctl.Filter{State: state}) {
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// drops asks how many packets were dropped for a reason.
func (b *bed) drops(reason string) uint64 {
	b.Helper()
	all, err := b.lb.Ctl.Drops(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range all {
		if d.Reason == reason {
			return d.Count
		}
	}
	b.Fatalf("fnatd has no drop reason %q", reason)
	return 0
}

// run runs a program on a host to its end, which must be a success.
func (b *bed) run(on *netns.Host, name string, args ...string) string {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	out, err := on.Run(ctx, name, args...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// background starts a program on a host and waits until ready holds.
func (b *bed) background(on *netns.Host, ready func() bool, name string, args ...string) *netns.Process {
	b.Helper()
	p, err := on.Background(name, args...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if b.Failed() && p.Output() != "" {
			b.Logf("%s on %s printed:\n%s", name, on.Name, p.Output())
		}
	})
	b.eventually(name+" is ready", ready)
	return p
}

// answers returns a condition: host i accepts connections at its address.
func (b *bed) answers(on *netns.Host, at netip.AddrPort) func() bool {
	return func() bool {
		c, err := on.Dial(b.Context(), "tcp", at.String())
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
}
