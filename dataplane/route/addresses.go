package route

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addressProtocol marks our addresses (ip address show: "proto 0xfa"), so that one
// that a killed fnatd has left is known as ours. Values from 4 on are for
// programs like this one. Kernels before 5.18 keep no mark.
const addressProtocol = 0xfa

// ifaProto is IFA_PROTO of linux/if_addr.h.
const ifaProto = 11

// An Address is a VIP or LIP and the interface that it belongs on.
type Address struct {
	Interface string
	Addr      netip.Addr
}

func (a Address) String() string { return fmt.Sprintf("%s on %q", a.Addr, a.Interface) }

// Addresses puts VIPs and LIPs on interfaces and announces them to the neighbours.
// Only then does the kernel answer ARP and neighbour solicitations for them, and
// pings. It takes off what it, or another fnatd before it, has put there, and
// nothing else. Methods may be called from any goroutine.
type Addresses struct {
	log      *slog.Logger
	links    *netlink.Handle
	socket   *nl.SocketHandle
	announce *announcer

	mu   sync.Mutex
	mine map[Address]bool // false: found there, not ours to remove
}

// NewAddresses returns an Addresses for the network namespace of the calling
// thread. It does nothing before Set.
func NewAddresses(log *slog.Logger) (*Addresses, error) {
	a := &Addresses{log: log, mine: make(map[Address]bool)}
	var err error
	if a.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("addresses: netlink: %w", err)
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		a.links.Close()
		return nil, fmt.Errorf("addresses: netlink: %w", err)
	}
	a.socket = &nl.SocketHandle{Socket: socket}
	if a.announce, err = newAnnouncer(log, a.links); err != nil {
		a.links.Close()
		a.socket.Close()
		return nil, fmt.Errorf("addresses: %w", err)
	}
	return a, nil
}

// Set makes want the addresses that are on the interfaces: it adds and announces
// what is missing, then removes what was wanted before and is no longer. All
// errors are reported; what they do not concern is done.
func (a *Addresses) Set(want []Address) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	there, err := a.list()
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	on := newLinks(a.links)
	var errs []error
	var announce []Address
	wanted := make(map[Address]bool, len(want))
	for _, w := range want {
		wanted[w] = true
		ours, isNew, err := a.add(w, on, there)
		if err != nil {
			errs = append(errs, fmt.Errorf("address %v: %w", w, err))
			continue
		}
		if _, had := a.mine[w]; isNew || !had {
			announce = append(announce, w)
			if !ours {
				a.log.Info("address was there already and will stay there", "address", w.Addr, "interface", w.Interface)
			}
		}
		a.mine[w] = a.mine[w] || ours
	}
	a.announce.start(announce)
	for old := range a.mine {
		if !wanted[old] {
			errs = append(errs, a.drop(old, on))
		}
	}
	return errors.Join(errs...)
}

// Close takes off the addresses that are ours.
func (a *Addresses) Close() error {
	a.announce.close() // or it would announce what is gone
	err := a.Set(nil)
	a.links.Close()
	a.socket.Close()
	return err
}

// A place is an address on an interface, as the kernel names it.
type place struct {
	index int
	addr  netip.Addr
}

// add puts an address on its interface, unless it is there. It reports whether it
// is ours to remove, and whether it was not there before.
func (a *Addresses) add(w Address, on links, there map[place]bool) (ours, isNew bool, err error) {
	link, err := on.of(w.Interface)
	if err != nil {
		return false, false, err
	}
	index := link.Attrs().Index
	if ours, known := there[place{index, w.Addr}]; known {
		return ours, false, nil
	}
	req := a.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, index, w.Addr)
	req.AddData(nl.NewRtAttr(ifaProto, nl.Uint8Attr(addressProtocol)))
	if w.Addr.Is6() {
		// Deprecated at once: the host's own connections shall not begin from an
		// address of fnatd's (RFC 6724, section 5, rule 3). IPv4 has no such notion,
		// but prefers the address whose network the other end is in.
		forever := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: ^uint32(0)}}
		req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, forever.Serialize()))
	}
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.EEXIST) { // somebody else's, of this moment
		return false, false, nil
	}
	return true, true, err
}

// drop forgets an address, and takes it off if it is ours.
func (a *Addresses) drop(old Address, on links) error {
	ours := a.mine[old]
	delete(a.mine, old)
	if !ours {
		return nil
	}
	link, err := on.of(old.Interface)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return nil
	}
	if err == nil {
		req := a.request(unix.RTM_DELADDR, unix.NLM_F_ACK, link.Attrs().Index, old.Addr)
		_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	}
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("address %v: remove: %w", old, err)
	}
	return nil
}

// list returns the addresses that are on interfaces with the longest prefix, and
// of each whether it has our mark. One question for all of them: a thousand VIPs
// would make a thousand answers of a thousand addresses each.
func (a *Addresses) list() (map[place]bool, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: a.socket}
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, err
	}
	there := make(map[place]bool, len(msgs))
	for _, m := range msgs {
		head := nl.DeserializeIfAddrmsg(m)
		attrs, err := nl.ParseRouteAttrAsMap(m[head.Len():])
		if err != nil {
			return nil, err
		}
		// An IPv6 address has no IFA_LOCAL unless it has a peer.
		local, ok := attrs[unix.IFA_LOCAL]
		if !ok {
			local = attrs[unix.IFA_ADDRESS]
		}
		addr, ok := netip.AddrFromSlice(local.Value)
		if !ok || int(head.Prefixlen) != addr.BitLen() {
			continue
		}
		mark := attrs[ifaProto].Value
		there[place{int(head.Index), addr}] = len(mark) == 1 && mark[0] == addressProtocol
	}
	return there, nil
}

// links looks up interfaces by their names, each once.
type links struct {
	kernel *netlink.Handle
	known  map[string]netlink.Link
}

func newLinks(kernel *netlink.Handle) links { return links{kernel, map[string]netlink.Link{}} }

func (l links) of(name string) (netlink.Link, error) {
	if link := l.known[name]; link != nil {
		return link, nil
	}
	link, err := l.kernel.LinkByName(name)
	if err != nil {
		return nil, err
	}
	l.known[name] = link
	return link, nil
}

// request returns a request about an address with the longest prefix.
func (a *Addresses) request(command, flags, index int, addr netip.Addr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(command, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: a.socket}
	msg := nl.NewIfAddrmsg(family(addr))
	msg.Prefixlen = uint8(addr.BitLen())
	msg.Index = uint32(index)
	if addr.Is6() {
		// A balancer that takes over must answer at once; it announces the address
		// instead of asking for it.
		msg.Flags = unix.IFA_F_NODAD
	}
	req.AddData(msg)
	ip := net.IP(addr.AsSlice())
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip))
	return req
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
