package load

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
)

// serve runs a server, next to the client, and returns its address.
func serve(t *testing.T) (*netns.Rig, func(port uint16) netip.AddrPort) {
	rig := netns.ForTest(t, netns.Topology{Shape: netns.OneArm, Servers: 1})
	at := netip.MustParsePrefix("198.18.0.50/24")
	if err := rig.Servers[0].AddAddress("eth0", at); err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(rig.Servers)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, 0) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return rig, func(port uint16) netip.AddrPort { return netip.AddrPortFrom(at.Addr(), port) }
}

func TestShortConnectionsAreAllServed(t *testing.T) {
	rig, at := serve(t)
	got, err := (&Short{
		Target: at(ShortPort), Sources: []netip.Addr{netns.ClientAddr}, InFlight: 8, Rate: 200,
		Patience: 30 * time.Second, Warmup: 100 * time.Millisecond, Time: 500 * time.Millisecond,
	}).Run(t.Context(), rig.Client, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Done == 0 || got.Done != got.Begun || got.Failed != 0 {
		t.Errorf("%d done and %d failed of %d", got.Done, got.Failed, got.Begun)
	}
	if len(got.Handshakes) != got.Done || len(got.Exchanges) != got.Done {
		t.Errorf("%d handshakes and %d exchanges of %d connections", len(got.Handshakes), len(got.Exchanges), got.Done)
	}
	if h, e := got.Handshakes.Quantile(0.5), got.Exchanges.Quantile(0.5); h <= 0 || e < h {
		t.Errorf("handshake %v, exchange %v: want the one to be part of the other", h, e)
	}
}

// TestShortConnectionsToNobodyFail has a port that refuses, and an address that is
// silent.
func TestShortConnectionsToNobodyFail(t *testing.T) {
	rig, at := serve(t)
	for _, target := range []netip.AddrPort{at(9), netip.MustParseAddrPort("198.18.0.99:80")} {
		got, err := (&Short{
			Target: target, Sources: []netip.Addr{netns.ClientAddr}, InFlight: 4, Rate: 100,
			Patience: 200 * time.Millisecond, Time: 200 * time.Millisecond,
		}).Run(t.Context(), rig.Client, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got.Begun == 0 || got.Failed != got.Begun || got.Done != 0 {
			t.Errorf("%v: %d done and %d failed of %d", target, got.Done, got.Failed, got.Begun)
		}
	}
}

func TestKeptConnections(t *testing.T) {
	rig, at := serve(t)
	trips, err := PingPong(t.Context(), rig.Client, 0, at(EchoPort), 50*time.Millisecond, 200*time.Millisecond)
	if err != nil || len(trips) == 0 || trips.Quantile(0) <= 0 {
		t.Errorf("ping-pong: %d round trips, %v", len(trips), err)
	}
	rate, err := Download(t.Context(), rig.Client, 0, at(BulkPort), 2, 50*time.Millisecond, 200*time.Millisecond)
	if err != nil || rate <= 0 {
		t.Errorf("download: %.0f bytes a second, %v", rate, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := PingPong(ctx, rig.Client, 0, at(EchoPort), 0, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: got %v", err)
	}
}

func TestQuantile(t *testing.T) {
	s := Samples{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := s.Quantile(q); got != want {
			t.Errorf("quantile %v: got %d, want %d", q, got, want)
		}
	}
	if got := (Samples)(nil).Quantile(0.5); got != 0 {
		t.Errorf("of none: got %v, want 0", got)
	}
}
