package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connect joins two hosts by a veth pair, with both ends up and set as AF_XDP
// needs them.
func (r *Rig) Connect(a *Host, aName string, b *Host, bName string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	attrs.MTU = r.MTU
	// As many queues at both ends: XDP attaches to a veth only if it has at least
	// as many RX queues as its peer has TX queues.
	attrs.NumTxQueues, attrs.NumRxQueues = r.MaxQueues, r.MaxQueues
	veth := netlink.NewVeth(attrs)
	veth.PeerName = bName
	veth.PeerNamespace = netlink.NsFd(b.ns)
	if err := a.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth %s %s to %s %s: %w", a.Name, aName, b.Name, bName, err)
	}
	if r.MaxQueues > r.Queues { // a veth begins with all that it can have
		if err := errors.Join(a.SetQueues(aName, r.Queues), b.SetQueues(bName, r.Queues)); err != nil {
			return err
		}
	}
	return errors.Join(a.setUp(aName), b.setUp(bName))
}

// setUp turns the offloads of a veth end off and the end on.
func (h *Host) setUp(ifname string) error {
	return errors.Join(h.disableOffloads(ifname), h.LinkUp(ifname))
}

// plug connects a host to the switch's bridge.
func (r *Rig) plug(h *Host, ifname, port string) error {
	if err := r.Connect(h, ifname, r.Switch, port); err != nil {
		return err
	}
	// The bridge's port towards the balancer chooses a queue by flow only if a
	// frame came from a host with one TX queue. From one with two it puts all in
	// its first: it takes the host's choice for that of a card, less one.
	if h != r.Balancer && r.Queues > 1 {
		if err := h.setQueues(ifname, r.Queues, 1); err != nil {
			return err
		}
	}
	link, err := r.Switch.link(port)
	if err != nil {
		return err
	}
	bridge, err := r.Switch.link("br0")
	if err != nil {
		return err
	}
	if err := r.Switch.nl.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("%s: bridge port %q: %w", r.Switch.Name, port, err)
	}
	return nil
}

// addBridge makes a bridge that floods multicast: with snooping on, the first
// neighbour solicitations would be lost until it has learned its ports.
func (h *Host) addBridge(name string, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MTU = mtu
	snooping := false
	if err := h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("%s: bridge %q: %w", h.Name, name, err)
	}
	// A switch has no firewall: br_netfilter would take each frame through one, where it is there.
	for _, call := range []string{"iptables", "ip6tables", "arptables"} {
		if err := h.Sysctl("net/bridge/bridge-nf-call-"+call, "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return h.LinkUp(name)
}

// LinkUp sets the interface up.
func (h *Host) LinkUp(ifname string) error { return h.setLink(ifname, "up", h.nl.LinkSetUp) }

// LinkDown sets the interface down. The kernel forgets the host's IPv4 routes
// through it, except those that come with an address. To pull the cable and keep
// the routes, take the link down at its other end.
func (h *Host) LinkDown(ifname string) error { return h.setLink(ifname, "down", h.nl.LinkSetDown) }

func (h *Host) setLink(ifname, what string, set func(netlink.Link) error) error {
	link, err := h.link(ifname)
	if err != nil {
		return err
	}
	if err := set(link); err != nil {
		return fmt.Errorf("%s: link %q: %s: %w", h.Name, ifname, what, err)
	}
	return nil
}

// SetMAC changes the interface's hardware address.
func (h *Host) SetMAC(ifname string, mac net.HardwareAddr) error {
	return h.setLink(ifname, "address "+mac.String(), func(l netlink.Link) error {
		return h.nl.LinkSetHardwareAddr(l, mac)
	})
}

// SetMTU changes the longest IP packet that the interface sends.
func (h *Host) SetMTU(ifname string, mtu int) error {
	return h.setLink(ifname, fmt.Sprintf("mtu %d", mtu), func(l netlink.Link) error {
		return h.nl.LinkSetMTU(l, mtu)
	})
}

// MAC returns the interface's hardware address.
func (h *Host) MAC(ifname string) (net.HardwareAddr, error) {
	link, err := h.link(ifname)
	if err != nil {
		return nil, err
	}
	return link.Attrs().HardwareAddr, nil
}

// Index returns the interface's index in the namespace.
func (h *Host) Index(ifname string) (int, error) {
	link, err := h.link(ifname)
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

// AddAddress puts an address and its network on the interface.
func (h *Host) AddAddress(ifname string, p netip.Prefix) error {
	return h.setLink(ifname, "add "+p.String(), func(l netlink.Link) error {
		return h.nl.AddrAdd(l, address(p))
	})
}

// RemoveAddress takes an address off the interface.
func (h *Host) RemoveAddress(ifname string, p netip.Prefix) error {
	return h.setLink(ifname, "remove "+p.String(), func(l netlink.Link) error {
		return h.nl.AddrDel(l, address(p))
	})
}

func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // there is nobody to ask, and a second to lose
	}
	return a
}

// AddRoute sends what is for p through a gateway, in place of any route for p.
func (h *Host) AddRoute(p netip.Prefix, gateway netip.Addr) error {
	route := &netlink.Route{Dst: ipNet(p.Masked()), Gw: gateway.AsSlice()}
	if err := h.nl.RouteReplace(route); err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", h.Name, p, gateway, err)
	}
	return nil
}

// RemoveRoute removes the route for p.
func (h *Host) RemoveRoute(p netip.Prefix) error {
	if err := h.nl.RouteDel(&netlink.Route{Dst: ipNet(p.Masked())}); err != nil {
		return fmt.Errorf("%s: route %s: remove: %w", h.Name, p, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (h *Host) link(ifname string) (netlink.Link, error) {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("%s: link %q: %w", h.Name, ifname, err)
	}
	return link, nil
}

// removeLinks deletes the interfaces that can be. The other end of a veth goes
// with the first.
func (h *Host) removeLinks() error {
	links, err := h.nl.LinkList()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		if l.Type() == "veth" || l.Type() == "bridge" {
			if err := h.nl.LinkDel(l); !errors.Is(err, unix.ENODEV) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// AddNeighbour has the host know the MAC address of an IP address for good.
func (h *Host) AddNeighbour(ifname string, addr netip.Addr, mac net.HardwareAddr) error {
	link, err := h.link(ifname)
	if err != nil {
		return err
	}
	err = h.nl.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: addr.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
	})
	if err != nil {
		return fmt.Errorf("%s: neighbour %s on %q: %w", h.Name, addr, ifname, err)
	}
	return nil
}
