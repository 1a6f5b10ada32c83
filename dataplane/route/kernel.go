package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
)

// usable are the neighbour states in which the kernel itself sends to the
// Ethernet address it has.
const usable = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE |
	unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE

// eventBuffer lets 1,000 and more routes change at once without a resync.
const eventBuffer = 1 << 20

// kernel is the way to the kernel of one network namespace, that of the thread
// which has called dial.
type kernel struct {
	nl     *netlink.Handle
	events *nl.NetlinkSocket
	names  []string // of the interfaces that are served
}

func dial(names []string) (*kernel, error) {
	// Before anything is read, so that no change is missed.
	events, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err == nil {
		err = events.SetReceiveBufferSize(eventBuffer, false)
	}
	if err != nil {
		events.Close()
		return nil, err
	}
	return &kernel{handle, events, names}, nil
}

func (k *kernel) close() {
	k.events.Close()
	k.nl.Close()
}

// snapshot reads everything. When the kernel's tables change meanwhile it tries
// again, and at last returns netlink.ErrDumpInterrupted.
func (k *kernel) snapshot() (*snapshot, error) {
	s, err := k.read()
	for range 4 {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		s, err = k.read()
	}
	return s, err
}

func (k *kernel) read() (*snapshot, error) {
	s := &snapshot{}
	for _, read := range []func(*snapshot) error{k.readLinks, k.readOwn, k.readRoutes, k.readNeighbours} {
		if err := read(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (k *kernel) readOwn(s *snapshot) error {
	addrs, err := k.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			s.own = append(s.own, ip.Unmap())
		}
	}
	return nil
}

func (k *kernel) readRoutes(s *snapshot) error {
	at := s.positions()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := k.nl.RouteList(nil, family)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for i := range routes {
			if r, ok := routeOf(&routes[i], at); ok {
				s.routes = append(s.routes, r)
			}
		}
	}
	return nil
}

// routeOf translates a route, with the links at these positions. It reports false
// for one that the kernel would not choose: a dead one, or one for a type of service.
func routeOf(r *netlink.Route, at map[int]int32) (kernelRoute, bool) {
	if r.Dst == nil || r.Tos != 0 {
		return kernelRoute{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	if !ok {
		return kernelRoute{}, false
	}
	// A default route comes as 0.0.0.0 in 16 bytes and with a mask of 4.
	ones, size := r.Dst.Mask.Size()
	if size == 32 {
		addr = addr.Unmap()
	}
	k := kernelRoute{prefix: netip.PrefixFrom(addr, ones), metric: r.Priority}
	if r.Type != unix.RTN_UNICAST {
		return k, true
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Encap: r.Encap, Flags: r.Flags}}
	}
	alive := false
	for _, h := range hops {
		if h.Flags&unix.RTNH_F_DEAD != 0 {
			continue
		}
		alive = true
		to, ok := targetOf(h, r.MTU, at)
		for range h.Hops + 1 { // its weight
			if ok {
				k.targets = append(k.targets, to)
			}
		}
	}
	return k, alive
}

// targetOf translates one way of a route. It reports false if that leads through
// no link, or is more than an Ethernet address away.
func targetOf(h *netlink.NexthopInfo, mtu int, at map[int]int32) (target, bool) {
	link, ours := at[h.LinkIndex]
	to := target{link: link, mtu: int32(mtu)}
	gateway := h.Gw
	if via, ok := h.Via.(*netlink.Via); ok { // an IPv6 gateway for IPv4 (RFC 8950)
		gateway = via.Addr
	}
	if len(gateway) != 0 && !gateway.IsUnspecified() {
		to.gateway = addrOf(gateway)
	}
	return to, ours && h.Encap == nil
}

func (k *kernel) readNeighbours(s *snapshot) error {
	s.neighbours = make(map[neighbourKey]neighbour)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := k.nl.NeighList(0, family)
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		for i := range list {
			s.learn(&list[i], false)
		}
	}
	return nil
}

// learn takes over what the kernel says of a neighbour. It reports whether that
// makes a difference to packets.
func (s *snapshot) learn(n *netlink.Neigh, deleted bool) bool {
	key := neighbourKey{n.LinkIndex, addrOf(n.IP)}
	old := s.neighbours[key]
	if deleted {
		delete(s.neighbours, key)
		return old.known
	}
	now := neighbour{static: n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0}
	// A group address is not a neighbour's but what the kernel keeps for broadcast
	// and multicast destinations. To forward to one would amplify.
	if n.State&usable != 0 && len(n.HardwareAddr) == 6 && n.HardwareAddr[0]&1 == 0 {
		now.mac, now.known = [6]byte(n.HardwareAddr), true
	}
	s.neighbours[key] = now
	return now != old
}

// An event is something that has changed in the kernel: a neighbour, or, if
// neighbour is nil, anything.
type event struct {
	neighbour *netlink.Neigh
	deleted   bool
}

// receive waits for events. Its error is final.
func (k *kernel) receive() ([]event, error) {
	msgs, _, err := k.events.Receive()
	if errors.Is(err, unix.ENOBUFS) {
		return []event{{}}, nil // some are lost
	}
	if err != nil {
		return nil, err
	}
	events := make([]event, 0, len(msgs))
	for _, m := range msgs {
		events = append(events, eventOf(m)...)
	}
	return events, nil
}

func eventOf(m syscall.NetlinkMessage) []event {
	if m.Header.Type != unix.RTM_NEWNEIGH && m.Header.Type != unix.RTM_DELNEIGH {
		return []event{{}}
	}
	n, err := netlink.NeighDeserialize(m.Data)
	switch {
	case err != nil:
		return []event{{}}
	case n.Family != netlink.FAMILY_V4 && n.Family != netlink.FAMILY_V6 || n.Flags&netlink.NTF_PROXY != 0:
		return nil // of a bridge's forwarding table, or answered for somebody else
	default:
		return []event{{n, m.Header.Type == unix.RTM_DELNEIGH}}
	}
}

// use tells the kernel that a neighbour is in use, as if a packet had been sent to
// it: it is resolved if it is not, and probed if it is stale. One that is new to us
// is created; unix.EEXIST says that it has just come to be.
func (k *kernel) use(key neighbourKey, isNew bool) error {
	n := &netlink.Neigh{
		LinkIndex: key.index,
		Family:    netlink.FAMILY_V6,
		State:     unix.NUD_NONE,
		Flags:     netlink.NTF_USE,
		IP:        key.addr.Netip().AsSlice(),
	}
	if key.addr.Is4() {
		n.Family = netlink.FAMILY_V4
	}
	if isNew {
		return k.nl.NeighAdd(n)
	}
	return k.nl.NeighSet(n)
}

func addrOf(ip net.IP) packet.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return packet.AddrFromNetip(a)
}
