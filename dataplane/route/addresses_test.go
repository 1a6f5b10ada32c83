package route

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/fnatd/fnatd/internal/netns"
)

// addresses returns an Addresses in the balancer that announces without delay.
func addresses(t *testing.T, rig *netns.Rig) *Addresses {
	t.Helper()
	var a *Addresses
	must(t, rig.Balancer.Do(func() (err error) {
		a, err = NewAddresses(quiet())
		return err
	}))
	a.announce.gap = time.Millisecond
	return a
}

// on returns the interface's addresses with all bits, in order.
func on(t *testing.T, h *netns.Host, ifname string) (list []string) {
	t.Helper()
	must(t, h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range addrs {
			if ones, size := a.Mask.Size(); ones == size {
				list = append(list, a.IP.String())
			}
		}
		return err
	}))
	slices.Sort(list)
	return list
}

func TestAddresses(t *testing.T) {
	rig := netns.ForTest(t, netns.Topology{})
	a := addresses(t, rig)
	vip0, vip1 := Address{"wan0", netns.VIP(0)}, Address{"wan0", netns.VIP(1)}
	vip6 := Address{"wan0", netns.VIP6(0)}
	theirs, theirs6 := Address{"wan0", netns.VIP(7)}, Address{"wan0", netns.VIP6(7)}
	for _, w := range []Address{theirs, theirs6} {
		must(t, rig.Balancer.AddAddress("wan0", netip.PrefixFrom(w.Addr, w.Addr.BitLen())))
	}
	step := func(name string, want ...Address) {
		t.Helper()
		list := []string{}
		for _, w := range want {
			list = append(list, w.Addr.String())
		}
		slices.Sort(list)
		if diff := cmp.Diff(on(t, rig.Balancer, "wan0"), list); diff != "" {
			t.Errorf("%s: got - want +:\n%s", name, diff)
		}
	}
	must(t, a.Set([]Address{vip0, vip6, theirs, theirs6}))
	step("set", vip0, vip6, theirs, theirs6)
	ping(t, rig.Client, vip0.Addr)
	ping(t, rig.Client, vip6.Addr)

	must(t, a.Set([]Address{vip0, vip6, theirs, theirs6}))
	step("set_again", vip0, vip6, theirs, theirs6)

	must(t, a.Set([]Address{vip1, vip6, theirs6}))
	step("reload_adds_and_removes_but_not_what_was_there", vip1, vip6, theirs, theirs6)

	err := a.Set([]Address{vip1, {"eth7", netns.VIP(2)}, vip0, theirs6})
	if err == nil || !strings.Contains(err.Error(), `198.18.0.102 on "eth7"`) {
		t.Errorf("got error %v, want one that names the address and eth7", err)
	}
	step("one_that_fails_does_not_stop_the_others", vip0, vip1, theirs, theirs6)

	must(t, a.Close())
	step("close_leaves_what_was_there", theirs, theirs6)
}

func TestAddressesOfAKilledProcessAreOurs(t *testing.T) {
	rig := netns.ForTest(t, netns.Topology{})
	want := []Address{{"wan0", netns.VIP(0)}, {"wan0", netns.VIP6(0)}}
	killed := addresses(t, rig)
	must(t, killed.Set(want))
	killed.announce.close() // and no more of it

	next := addresses(t, rig)
	must(t, next.Set(want))
	must(t, next.Close())
	if got := on(t, rig.Balancer, "wan0"); len(got) != 0 {
		t.Errorf("still there: %v", got)
	}
}

func TestAddressesSurviveTheirInterface(t *testing.T) {
	rig := netns.ForTest(t, netns.Topology{})
	a := addresses(t, rig)
	must(t, a.Set([]Address{{"lan0", netns.LIP(0)}}))
	_, err := rig.Balancer.Run(t.Context(), "ip", "link", "delete", "lan0")
	must(t, err)
	must(t, a.Close())
}

func TestNewAddressesAreAnnounced(t *testing.T) {
	rig := netns.ForTest(t, netns.Topology{})
	capture, err := rig.Client.Capture("eth0")
	must(t, err)
	a := addresses(t, rig)
	want := []Address{{"wan0", netns.VIP(0)}, {"wan0", netns.VIP6(0)}}
	must(t, a.Set(want))
	must(t, a.Set(want)) // announces nothing more
	a.announce.wait.Wait()
	must(t, a.Close())
	frames, err := capture.Stop()
	must(t, err)

	mac := macOf(t, rig.Balancer, "wan0")
	var arps, advertisements int
	for _, f := range frames {
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
		if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && !f.Sent {
			arps++
			checkARP(t, arp, mac)
		}
		if na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
			advertisements++
			checkAdvertisement(t, p, na, mac)
		}
	}
	if arps != announcements || advertisements != announcements {
		t.Errorf("got %d ARP announcements and %d advertisements, want %d each", arps, advertisements, announcements)
	}
}

func checkARP(t *testing.T, arp *layers.ARP, mac [6]byte) {
	t.Helper()
	vip := netns.VIP(0).As4()
	want := layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
		HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
		SourceHwAddress: mac[:], SourceProtAddress: vip[:],
		DstHwAddress: make([]byte, 6), DstProtAddress: vip[:],
	}
	got := *arp
	got.BaseLayer = layers.BaseLayer{}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("ARP: got - want +:\n%s", diff)
	}
}

func checkAdvertisement(t *testing.T, p gopacket.Packet, na *layers.ICMPv6NeighborAdvertisement, mac [6]byte) {
	t.Helper()
	ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if ip.HopLimit != 255 || ip.DstIP.String() != "ff02::1" || !ip.SrcIP.Equal(netns.VIP6(0).AsSlice()) {
		t.Errorf("advertisement: got %v", ip)
	}
	if !na.Override() || na.Solicited() || na.Router() || !na.TargetAddress.Equal(netns.VIP6(0).AsSlice()) {
		t.Errorf("advertisement: got %+v", na)
	}
	if len(na.Options) != 1 || na.Options[0].Type != layers.ICMPv6OptTargetAddress || [6]byte(na.Options[0].Data) != mac {
		t.Errorf("advertisement: options: got %v", na.Options)
	}
	must(t, p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6).SetNetworkLayerForChecksum(ip))
	if err, mismatches := p.VerifyChecksums(); err != nil || len(mismatches) != 0 {
		t.Errorf("advertisement: checksum: %v %v", mismatches, err)
	}
}
