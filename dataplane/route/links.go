package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/fnatd/fnatd/internal/packet"
)

// A vlanLink is a VLAN interface as the kernel has it.
type vlanLink struct {
	name   string
	index  int
	parent int // index of the interface that it stands on
	mac    [6]byte
	mtu    int
	vlan   packet.VLAN
}

// stack returns links, which are the interfaces that are served, and after them
// the VLAN interfaces that stand on one of them, be it by way of another. One with
// more tags than a frame may carry leads nowhere.
func stack(links []link, vlans []vlanLink) []link {
	on := make(map[int][]vlanLink)
	for _, v := range vlans {
		on[v.parent] = append(on[v.parent], v)
	}
	for _, same := range on { // the kernel's order may change, hops shall not
		slices.SortFunc(same, func(a, b vlanLink) int { return cmp.Compare(a.index, b.index) })
	}
	for i := 0; i < len(links); i++ { // also over those that are added
		if links[i].index == 0 {
			continue
		}
		for _, v := range on[links[i].index] {
			if tags, ok := links[i].vlans.With(v.vlan); ok {
				links = append(links, link{v.name, v.index, v.mac, v.mtu, links[i].port, tags})
			}
		}
	}
	return links
}

// readLinks reads the interfaces that are served, and all VLANs on them.
func (k *kernel) readLinks(s *snapshot) error {
	s.links = make([]link, len(k.names))
	for i, name := range k.names {
		s.links[i] = link{name: name, port: int32(i)}
		l, err := k.nl.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return fmt.Errorf("interface %q: %w", name, err)
		}
		a := l.Attrs()
		if len(a.HardwareAddr) != 6 {
			return fmt.Errorf("interface %q: not an Ethernet interface", name)
		}
		s.links[i].index, s.links[i].mac, s.links[i].mtu = a.Index, [6]byte(a.HardwareAddr), a.MTU
	}
	all, err := k.nl.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var vlans []vlanLink
	for _, l := range all {
		if v, ok := vlanOf(l); ok {
			vlans = append(vlans, v)
		}
	}
	s.links = stack(s.links, vlans)
	return nil
}

// vlanOf returns a link as the VLAN interface that it is. One whose parent is in
// another network namespace is none: the parent's index means nothing here.
func vlanOf(l netlink.Link) (vlanLink, bool) {
	v, ok := l.(*netlink.Vlan)
	if !ok || v.NetNsID >= 0 || len(v.HardwareAddr) != 6 {
		return vlanLink{}, false
	}
	return vlanLink{
		name: v.Name, index: v.Index, parent: v.ParentIndex,
		mac: [6]byte(v.HardwareAddr), mtu: v.MTU,
		vlan: packet.VLAN{Type: uint16(v.VlanProtocol), ID: uint16(v.VlanId)},
	}, true
}

// A Link is an interface by which a Table can send: one that is served, or a VLAN
// interface stacked on one.
type Link struct {
	Name  string
	Port  int // position in the list of interfaces given to Open
	VLANs packet.VLANs
}

// Links returns the interfaces by which t can send, those that are served first.
func (t *Table) Links() (all []Link) {
	for _, l := range t.links {
		all = append(all, Link{l.name, int(l.port), l.vlans})
	}
	return all
}
