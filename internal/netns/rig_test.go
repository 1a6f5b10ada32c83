package netns

import (
	"context"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ping sends one echo request and waits two seconds for the reply.
func ping(t *testing.T, from *Host, to netip.Addr) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := from.Run(ctx, "ping", "-c", "1", "-W", "2", to.String())
	return err
}

func TestRig(t *testing.T) {
	for _, shape := range []Shape{TwoArm, OneArm} {
		t.Run(shape.String(), func(t *testing.T) {
			r := ForTest(t, Topology{Shape: shape, Servers: 2})
			near := []struct {
				name string
				from *Host
				to   netip.Addr
			}{
				{"client_to_balancer", r.Client, BalancerAddr},
				{"client_to_balancer_ipv6", r.Client, BalancerAddr6},
				{"balancer_to_client", r.Balancer, ClientAddr},
				{"balancer_to_first_server", r.Balancer, ServerAddr(0)},
				{"balancer_to_second_server", r.Balancer, ServerAddr(1)},
				{"balancer_to_second_server_ipv6", r.Balancer, ServerAddr6(1)},
				{"server_to_balancer", r.Servers[0], BalancerLANAddr},
				{"server_to_server", r.Servers[0], ServerAddr(1)},
			}
			for _, c := range near {
				t.Run(c.name+"_answers", func(t *testing.T) {
					if err := ping(t, c.from, c.to); err != nil {
						t.Error(err)
					}
				})
			}
			t.Run("client_and_server_cannot_reach_each_other", func(t *testing.T) {
				if err := ping(t, r.Client, ServerAddr(0)); err == nil {
					t.Error("the client reaches a server without fnatd")
				}
				if err := ping(t, r.Servers[0], ClientAddr); err == nil {
					t.Error("a server reaches the client without fnatd")
				}
			})
		})
	}
}

func TestQueues(t *testing.T) {
	r := ForTest(t, Topology{Queues: 3})
	for _, ifname := range r.Interfaces() {
		link, err := r.Balancer.link(ifname)
		if err != nil {
			t.Fatal(err)
		}
		if got := link.Attrs().NumRxQueues; got != 3 {
			t.Errorf("%s: got %d RX queues, want 3", ifname, got)
		}
		if got := link.Attrs().NumTxQueues; got != 3 {
			t.Errorf("%s: got %d TX queues, want 3", ifname, got)
		}
	}
}

func TestLinkDownAndUp(t *testing.T) {
	r := ForTest(t, Topology{Servers: 1})
	if err := r.Balancer.LinkDown("wan0"); err != nil {
		t.Fatal(err)
	}
	if err := ping(t, r.Client, BalancerAddr); err == nil {
		t.Error("the balancer answers over a link that is down")
	}
	if err := r.Balancer.LinkUp("wan0"); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{BalancerAddr, BalancerAddr6} {
		if err := ping(t, r.Client, a); err != nil {
			t.Error(err)
		}
	}
}

func TestDialAndListen(t *testing.T) {
	r := ForTest(t, Topology{Servers: 1})
	s := r.Servers[0]
	l, err := s.Listen("tcp", netip.AddrPortFrom(ServerAddr(0), 80).String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, c.RemoteAddr().String())
		c.Close()
	}()
	c, err := r.Balancer.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := c.LocalAddr().String(); string(got) != want {
		t.Errorf("the server saw %q, want %q", got, want)
	}
	if !strings.HasPrefix(string(got), BalancerLANAddr.String()) {
		t.Errorf("the server saw %q, want %v", got, BalancerLANAddr)
	}
}

func TestCapture(t *testing.T) {
	r := ForTest(t, Topology{})
	c, err := r.Client.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ping(t, r.Client, BalancerAddr); err != nil {
		t.Fatal(err)
	}
	frames, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Sent bool
		What string
	}
	var got []seen
	for _, f := range frames {
		switch {
		case f.Data[12] == 8 && f.Data[13] == 6:
			// ARP, at whatever moment the kernel confirms a neighbour.
		case f.Data[12] == 8 && f.Data[13] == 0 && f.Data[34] == 8:
			got = append(got, seen{f.Sent, "echo request"})
		case f.Data[12] == 8 && f.Data[13] == 0 && f.Data[34] == 0:
			got = append(got, seen{f.Sent, "echo reply"})
		}
	}
	if diff := cmp.Diff(got, []seen{{true, "echo request"}, {false, "echo reply"}}); diff != "" {
		t.Errorf("got - want +:\n%s", diff)
	}
	if again, err := c.Stop(); err != nil || len(again) != len(frames) {
		t.Errorf("second Stop: %d frames, %v; want %d, nil", len(again), err, len(frames))
	}
}

func TestClose(t *testing.T) {
	RequireRoot(t)
	r, err := New(Topology{Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	child, err := r.Client.Background("sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := r.Client.Run(t.Context(), "sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!")
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.Client.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	name := r.name
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("no_namespace_stays", func(t *testing.T) {
		entries, err := os.ReadDir(runDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), name+"-") {
				t.Errorf("%s is still there", e.Name())
			}
		}
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(mounts), name+"-") {
			t.Errorf("a mount of %s is still there", name)
		}
	})
	t.Run("no_program_stays", func(t *testing.T) {
		select {
		case <-child.Done():
		default:
			t.Error("a child is still running")
		}
		if cmdline, err := os.ReadFile("/proc/" + strings.TrimSpace(daemon) + "/cmdline"); err == nil && len(cmdline) > 0 {
			t.Errorf("a daemon is still running: %q", cmdline)
		}
	})
	t.Run("no_listener_stays", func(t *testing.T) {
		if _, err := l.Accept(); err == nil {
			t.Error("the listener still accepts")
		}
	})
}

func TestNewSweepsWhatADeadProcessLeft(t *testing.T) {
	RequireRoot(t)
	const left = prefix + "4194305-1-client" // above the kernel's largest process number
	h, err := newHost("client", left)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Topology{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := os.Stat(h.Path); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", left, err)
	}
	close(h.spawn)
	h.nl.Close()
	h.ns.Close()
}

func TestForwardAndSetMTU(t *testing.T) {
	r := ForTest(t, Topology{Servers: 1})
	if err := r.Balancer.Forward(); err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct {
		from *Host
		to   netip.Prefix
		by   netip.Addr
	}{
		{r.Client, ServerPrefix(0).Masked(), BalancerAddr},
		{r.Client, ServerPrefix6(0).Masked(), BalancerAddr6},
		{r.Servers[0], ClientPrefix.Masked(), BalancerLANAddr},
		{r.Servers[0], ClientPrefix6.Masked(), BalancerLANAddr6},
	} {
		if err := way.from.AddRoute(way.to, way.by); err != nil {
			t.Fatal(err)
		}
	}
	whole := func(to netip.Addr) error {
		_, err := r.Client.Run(t.Context(), "ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", to.String())
		return err
	}
	for _, to := range []netip.Addr{ServerAddr(0), ServerAddr6(0)} {
		if err := whole(to); err != nil {
			t.Error(err)
		}
	}
	if err := r.Balancer.SetMTU("lan0", 1400); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{ServerAddr(0), ServerAddr6(0)} {
		if err := whole(to); err == nil {
			t.Errorf("more than 1400 bytes reach %v whole", to)
		}
	}
}
