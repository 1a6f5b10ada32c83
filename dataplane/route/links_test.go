package route

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/fnatd/fnatd/internal/packet"
)

func customer(id uint16) packet.VLAN { return packet.VLAN{Type: packet.EtherTypeVLAN, ID: id} }
func provider(id uint16) packet.VLAN { return packet.VLAN{Type: packet.EtherTypeQinQ, ID: id} }

// stacked are VLAN interfaces as the kernel may list them: those above before
// those below, and some that are not on eth0 (index 7) or eth1 (index 8).
var stacked = []vlanLink{
	{"too.deep", 24, 23, mac(100), 1500, customer(9)},
	{"eth0.6.5", 23, 22, mac(105), 1400, customer(5)},
	{"eth0.6", 22, 7, mac(106), 1496, provider(6)},
	{"eth0.5", 21, 7, mac(100), 1500, customer(5)},
	{"eth1.5", 25, 8, mac(101), 9000, customer(5)},
	{"eth9.5", 26, 9, mac(109), 1500, customer(5)},
	{"eth9.5.1", 27, 26, mac(109), 1500, customer(1)},
	{"nowhere", 28, 0, mac(109), 1500, customer(1)},
}

func TestStack(t *testing.T) {
	served := twoPorts().links
	gone := link{name: "eth2", port: 2}
	got := stack(append(served[:2:2], gone), stacked)
	want := append(served[:2:2], gone,
		link{"eth0.5", 21, mac(100), 1500, 0, packet.VLANs{customer(5)}},
		link{"eth0.6", 22, mac(106), 1496, 0, packet.VLANs{provider(6)}},
		link{"eth1.5", 25, mac(101), 9000, 1, packet.VLANs{customer(5)}},
		link{"eth0.6.5", 23, mac(105), 1400, 0, packet.VLANs{provider(6), customer(5)}},
	)
	if diff := cmp.Diff(got, want, cmp.AllowUnexported(link{})); diff != "" {
		t.Errorf("got - want +:\n%s", diff)
	}
}

// onVLANs is twoPorts with the VLANs on them, which are links 2 and up in the
// order that TestStack shows, without the port that has gone.
func onVLANs(routes ...kernelRoute) *snapshot {
	s := twoPorts(routes...)
	s.links = stack(s.links, stacked)
	return s
}

func TestHopsInVLANs(t *testing.T) {
	const eth0v5, eth1v5, eth0v6v5 = 2, 4, 5
	s := onVLANs(
		direct("10.5.0.0/24", eth0v5), direct("10.6.0.0/24", eth0v6v5), direct("10.7.0.0/24", eth1v5),
		via("172.16.0.0/12", eth0v6v5, "10.6.0.254"),
	).with(21, "10.5.0.9", mac(1)).with(23, "10.6.0.254", mac(2)).with(8, "10.7.0.9", mac(3))
	table := build(s, nil, newReflected())
	for _, c := range []struct {
		name, dst string
		want      Hop
	}{
		{"neighbour", "10.5.0.9", Hop{Dst: mac(1), Src: mac(100), VLANs: packet.VLANs{customer(5)}, MTU: 1500, Gateway: addr("10.5.0.9"), Resolved: true}},
		{"gateway_in_two", "172.16.0.1", Hop{Dst: mac(2), Src: mac(105), VLANs: packet.VLANs{provider(6), customer(5)}, MTU: 1400, Gateway: addr("10.6.0.254"), Resolved: true}},
		{"neighbour_of_the_port_is_none_of_its_vlan", "10.7.0.9", Hop{Port: 1, Src: mac(101), VLANs: packet.VLANs{customer(5)}, MTU: 9000}},
		{"untagged", "10.0.0.5", Hop{Src: mac(100), MTU: 1500}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(*table.Hop(table.Lookup(addr(c.dst))), c.want); diff != "" {
				t.Errorf("got - want +:\n%s", diff)
			}
		})
	}
	t.Run("generation_changes_with_a_tag", func(t *testing.T) {
		again := build(s, table, table.reflected)
		if again.Generation() != table.Generation() {
			t.Fatalf("got %d, want %d while nothing changed", again.Generation(), table.Generation())
		}
		other := *s
		other.links = append([]link{}, s.links...)
		other.links[eth0v5].vlans[0].ID = 55
		if build(&other, table, table.reflected).Generation() == table.Generation() {
			t.Error("still the same")
		}
	})
	t.Run("links_are_listed", func(t *testing.T) {
		want := []Link{
			{"eth0", 0, packet.VLANs{}}, {"eth1", 1, packet.VLANs{}},
			{"eth0.5", 0, packet.VLANs{customer(5)}}, {"eth0.6", 0, packet.VLANs{provider(6)}},
			{"eth1.5", 1, packet.VLANs{customer(5)}}, {"eth0.6.5", 0, packet.VLANs{provider(6), customer(5)}},
		}
		if diff := cmp.Diff(table.Links(), want); diff != "" {
			t.Errorf("got - want +:\n%s", diff)
		}
	})
}

func TestReflectInVLANs(t *testing.T) {
	r := &Resolver{reflected: newReflected()}
	r.table.Store(build(onVLANs(), nil, r.reflected))
	both := packet.VLANs{provider(6), customer(5)}
	unknown := packet.VLANs{customer(77)}
	for _, c := range []struct {
		name  string
		vlans packet.VLANs
		want  Hop
	}{
		{"of_a_vlan_interface", both, Hop{Dst: mac(9), Src: mac(105), VLANs: both, MTU: 1400, Resolved: true}},
		{"without_an_interface", unknown, Hop{Dst: mac(9), Src: mac(100), VLANs: unknown, MTU: 1500, Resolved: true}},
		{"untagged", packet.VLANs{}, Hop{Dst: mac(9), Src: mac(100), MTU: 1500, PlainMTU: 1500, Resolved: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := r.Reflect(0, mac(9), c.vlans)
			if diff := cmp.Diff(*r.Table().Hop(id), c.want); diff != "" {
				t.Errorf("got - want +:\n%s", diff)
			}
		})
	}
}

func TestVLANOf(t *testing.T) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index, attrs.ParentIndex, attrs.MTU = "eth0.6", 22, 7, 1496
	m := mac(106)
	attrs.HardwareAddr = net.HardwareAddr(m[:])
	got, ok := vlanOf(&netlink.Vlan{LinkAttrs: attrs, VlanId: 6, VlanProtocol: netlink.VLAN_PROTOCOL_8021AD})
	if want := stacked[2]; !ok || got != want {
		t.Errorf("got %+v %t, want %+v", got, ok, want)
	}
	elsewhere := attrs
	elsewhere.NetNsID = 0
	for name, l := range map[string]netlink.Link{
		"parent_in_another_namespace": &netlink.Vlan{LinkAttrs: elsewhere, VlanId: 6},
		"not_a_vlan":                  &netlink.Device{LinkAttrs: attrs},
		"not_ethernet":                &netlink.Vlan{VlanId: 6},
	} {
		if got, ok := vlanOf(l); ok {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
