package route

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

// The topology is that of package netns, two arms: port 0 is wan0 towards the
// client, port 1 is lan0 towards server0 and server1.

// patience is how long a test waits for something that should happen at once.
const patience = 10 * time.Second

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// resolver returns a rig and a Resolver in its balancer.
func resolver(t *testing.T, refresh time.Duration) (*netns.Rig, *Resolver) {
	t.Helper()
	rig := netns.ForTest(t, netns.Topology{Servers: 2})
	var r *Resolver
	if err := rig.Balancer.Do(func() (err error) {
		r, err = open(rig.Interfaces(), quiet(), refresh)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return rig, r
}

// eventually waits until ok is true of the current table.
func eventually(t *testing.T, r *Resolver, what string, ok func(*Table) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(r.Table()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func macOf(t *testing.T, h *netns.Host, ifname string) [6]byte {
	t.Helper()
	m, err := h.MAC(ifname)
	if err != nil {
		t.Fatal(err)
	}
	return [6]byte(m)
}

// leadsTo waits, wanting it, until dst is reached by the station with that MAC.
func leadsTo(t *testing.T, r *Resolver, dst packet.Addr, mac [6]byte) HopID {
	t.Helper()
	var id HopID
	eventually(t, r, dst.String()+" is resolved", func(table *Table) bool {
		id = table.Lookup(dst)
		if h := table.Hop(id); h.Resolved && h.Dst == mac {
			return true
		}
		r.Want(dst)
		return false
	})
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWantResolvesWhatTheKernelHasNeverSentTo(t *testing.T) {
	rig, r := resolver(t, time.Hour)
	for _, c := range []struct {
		name string
		dst  netip.Addr
		host *netns.Host
		port int
	}{
		{"server", netns.ServerAddr(0), rig.Servers[0], 1},
		{"other_server_ipv6", netns.ServerAddr6(1), rig.Servers[1], 1},
		{"client", netns.ClientAddr, rig.Client, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := packet.AddrFromNetip(c.dst)
			before := r.Table().Hop(r.Table().Lookup(dst))
			if before.Resolved || before.Port != c.port {
				t.Fatalf("before: got %+v, want port %d and not resolved", before, c.port)
			}
			id := leadsTo(t, r, dst, macOf(t, c.host, "eth0"))
			h := r.Table().Hop(id)
			if want := macOf(t, rig.Balancer, rig.Interfaces()[c.port]); h.Src != want {
				t.Errorf("source: got %x, want %x", h.Src, want)
			}
			if h.Port != c.port || h.MTU != 1500 || h.Gateway != dst {
				t.Errorf("got %+v", h)
			}
		})
	}
	t.Run("nobody_there_stays_unresolved", func(t *testing.T) {
		dst := packet.AddrFromNetip(netns.ServerAddr(50))
		r.Want(dst)
		if h := r.Table().Hop(r.Table().Lookup(dst)); h.Resolved {
			t.Errorf("got %+v", h)
		}
	})
	t.Run("own_address_has_no_hop", func(t *testing.T) {
		if id := r.Table().Lookup(packet.AddrFromNetip(netns.BalancerLANAddr)); id != 0 {
			t.Errorf("got %+v", r.Table().Hop(id))
		}
	})
	t.Run("broadcast_is_never_resolved", func(t *testing.T) {
		broadcast := packet.AddrFromNetip(netip.MustParseAddr("198.19.0.255"))
		r.Want(broadcast)
		leadsTo(t, r, packet.AddrFromNetip(netns.ServerAddr(1)), macOf(t, rig.Servers[1], "eth0"))
		if h := r.Table().Hop(r.Table().Lookup(broadcast)); h.Resolved {
			t.Errorf("got %+v", h)
		}
	})
}

func TestRoutesAreFollowed(t *testing.T) {
	rig, r := resolver(t, time.Hour)
	net203 := netip.MustParsePrefix("203.0.113.0/24")
	dst := packet.AddrFromNetip(netip.MustParseAddr("203.0.113.7"))
	if id := r.Table().Lookup(dst); id != 0 {
		t.Fatalf("without a route: got %+v", r.Table().Hop(id))
	}
	must(t, rig.Balancer.AddRoute(net203, netns.ServerAddr(0)))
	// Nobody wants it: a gateway is resolved unasked.
	eventually(t, r, "the new route", func(table *Table) bool {
		h := table.Hop(table.Lookup(dst))
		return h.Resolved && h.Dst == macOf(t, rig.Servers[0], "eth0")
	})
	before := r.Table().Generation()

	must(t, rig.Balancer.AddRoute(net203, netns.ServerAddr(1))) // in place of the first
	eventually(t, r, "the other gateway", func(table *Table) bool {
		h := table.Hop(table.Lookup(dst))
		return h.Resolved && h.Dst == macOf(t, rig.Servers[1], "eth0") && table.Generation() != before
	})
	must(t, rig.Balancer.RemoveRoute(net203))
	eventually(t, r, "no route", func(table *Table) bool { return table.Lookup(dst) == 0 })
}

func TestNeighbourThatAnnouncesANewMAC(t *testing.T) {
	rig, r := resolver(t, time.Hour)
	dst := packet.AddrFromNetip(netns.ServerAddr(0))
	id := leadsTo(t, r, dst, macOf(t, rig.Servers[0], "eth0"))
	generation := r.Table().Generation()

	moved := [6]byte{2, 0, 0, 0, 0, 0x99}
	must(t, rig.Servers[0].SetMAC("eth0", net.HardwareAddr(moved[:])))
	ping(t, rig.Servers[0], netns.BalancerLANAddr) // tells the balancer, by ARP
	eventually(t, r, "the new address", func(table *Table) bool { return table.Hop(id).Dst == moved })
	if got := r.Table().Generation(); got != generation {
		t.Errorf("generation: got %d, want %d", got, generation)
	}
}

func TestOwnMACIsFollowed(t *testing.T) {
	rig, r := resolver(t, time.Hour)
	id := leadsTo(t, r, packet.AddrFromNetip(netns.ServerAddr(0)), macOf(t, rig.Servers[0], "eth0"))
	reflected := r.Reflect(1, [6]byte{2, 0, 0, 0, 0, 1}, packet.VLANs{})
	own := [6]byte{2, 0, 0, 0, 0, 0x77}
	must(t, rig.Balancer.SetMAC("lan0", net.HardwareAddr(own[:])))
	for _, id := range []HopID{id, reflected} {
		eventually(t, r, "the new source", func(table *Table) bool { return table.Hop(id).Src == own })
	}
}

func TestLinkThatGoesDownAndUp(t *testing.T) {
	rig, r := resolver(t, time.Hour)
	dst := packet.AddrFromNetip(netns.ServerAddr(0))
	server := macOf(t, rig.Servers[0], "eth0")
	leadsTo(t, r, dst, server)
	t.Run("by_the_operator", func(t *testing.T) {
		must(t, rig.Balancer.LinkDown("lan0"))
		eventually(t, r, "no hop", func(table *Table) bool { return table.Lookup(dst) == 0 })
		must(t, rig.Balancer.LinkUp("lan0"))
		leadsTo(t, r, dst, server)
	})
	t.Run("by_the_cable", func(t *testing.T) {
		must(t, rig.Switch.LinkDown("lb"))
		eventually(t, r, "no neighbour", func(table *Table) bool { return !table.Hop(table.Lookup(dst)).Resolved })
		must(t, rig.Switch.LinkUp("lb"))
		leadsTo(t, r, dst, server)
	})
}

func TestInterfaceThatIsReplaced(t *testing.T) {
	rig, r := resolver(t, time.Hour)
	dst := packet.AddrFromNetip(netns.ClientAddr)
	leadsTo(t, r, dst, macOf(t, rig.Client, "eth0"))
	_, err := rig.Balancer.Run(t.Context(), "ip", "link", "delete", "wan0")
	must(t, err)
	eventually(t, r, "no hop", func(table *Table) bool { return table.Lookup(dst) == 0 })
	must(t, rig.Connect(rig.Client, "eth0", rig.Balancer, "wan0"))
	must(t, rig.Client.AddAddress("eth0", netns.ClientPrefix))
	must(t, rig.Balancer.AddAddress("wan0", netns.BalancerPrefix))
	leadsTo(t, r, dst, macOf(t, rig.Client, "eth0"))
}

// impatient makes the kernel give up neighbours in seconds rather than minutes.
func impatient(t *testing.T, h *netns.Host, ifname string) {
	t.Helper()
	dir := "net/ipv4/neigh/" + ifname + "/"
	for name, value := range map[string]string{
		"base_reachable_time_ms": "500", "delay_first_probe_time": "1", "retrans_time_ms": "100",
	} {
		must(t, h.Sysctl(dir+name, value))
	}
}

// A station that takes over an address without a word is found only by probing,
// and the kernel probes only what is in use.
func TestUsedNeighbourIsProbed(t *testing.T) {
	rig, r := resolver(t, 100*time.Millisecond)
	impatient(t, rig.Balancer, "lan0")
	dst := packet.AddrFromNetip(netns.ServerAddr(0))
	id := leadsTo(t, r, dst, macOf(t, rig.Servers[0], "eth0"))
	moved := [6]byte{2, 0, 0, 0, 0, 0x99}
	must(t, rig.Servers[0].SetMAC("eth0", net.HardwareAddr(moved[:])))
	eventually(t, r, "the new address", func(table *Table) bool {
		h := table.Hop(id)
		if r.Use(id); !h.Resolved {
			r.Want(dst)
		}
		return h.Resolved && h.Dst == moved
	})
}

// A server that has died is noticed in the same way.
func TestUsedNeighbourThatDiesIsNotResolved(t *testing.T) {
	rig, r := resolver(t, 100*time.Millisecond)
	impatient(t, rig.Balancer, "lan0")
	id := leadsTo(t, r, packet.AddrFromNetip(netns.ServerAddr(0)), macOf(t, rig.Servers[0], "eth0"))
	must(t, rig.Servers[0].LinkDown("eth0"))
	eventually(t, r, "the end of the neighbour", func(table *Table) bool {
		r.Use(id)
		return !table.Hop(id).Resolved
	})
}

func TestStaticNeighbourIsLeftAlone(t *testing.T) {
	rig, r := resolver(t, 20*time.Millisecond)
	static := [6]byte{2, 0, 0, 0, 0, 0x55}
	_, err := rig.Balancer.Run(t.Context(), "ip", "neighbour", "replace", netns.ServerAddr(9).String(),
		"lladdr", net.HardwareAddr(static[:]).String(), "nud", "permanent", "dev", "lan0")
	must(t, err)
	dst := packet.AddrFromNetip(netns.ServerAddr(9))
	id := leadsTo(t, r, dst, static)
	before := r.Table()
	for range 50 {
		r.Want(dst)
		r.Use(id)
		time.Sleep(2 * time.Millisecond)
	}
	leadsTo(t, r, packet.AddrFromNetip(netns.ServerAddr(0)), macOf(t, rig.Servers[0], "eth0")) // run has been through
	if r.Table() == before {
		t.Error("no new table")
	}
	must(t, rig.Balancer.Do(func() error {
		neighbours, err := netlink.NeighList(0, netlink.FAMILY_V4)
		for _, n := range neighbours {
			if n.IP.Equal(netns.ServerAddr(9).AsSlice()) && n.State != unix.NUD_PERMANENT {
				t.Errorf("state: got %#x, want permanent (%#x)", n.State, unix.NUD_PERMANENT)
			}
		}
		return err
	}))
}

func TestOpen(t *testing.T) {
	rig := netns.ForTest(t, netns.Topology{})
	_, err := rig.Balancer.Run(t.Context(), "ip", "tuntap", "add", "tun0", "mode", "tun")
	must(t, err)
	for _, c := range []struct {
		name   string
		ifname []string
		want   string
	}{
		{"no_such_interface", []string{"wan0", "eth7"}, `interface "eth7": no such interface`},
		{"not_ethernet", []string{"tun0"}, `interface "tun0": not an Ethernet interface`},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, rig.Balancer.Do(func() error {
				r, err := Open(c.ifname, quiet())
				if err == nil {
					r.Close()
					t.Fatal("no error")
				}
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %q, want it to contain %q", err, c.want)
				}
				return nil
			}))
		})
	}
}

func ping(t *testing.T, from *netns.Host, to netip.Addr) {
	t.Helper()
	if _, err := from.Run(t.Context(), "ping", "-c", "1", "-W", "2", to.String()); err != nil {
		t.Fatal(err)
	}
}
