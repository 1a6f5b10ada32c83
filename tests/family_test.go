package tests

import (
	"fmt"
	"net/netip"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// families are the IP versions that clients and real servers speak, 4 or 6. The
// VIP is of the clients', the LIPs are of the servers'.
type families struct{ client, server int }

var (
	fourToFour = families{4, 4}
	sixToSix   = families{6, 6}
	sixToFour  = families{6, 4}
	fourToSix  = families{4, 6}

	everyFamily = []families{fourToFour, sixToSix, sixToFour, fourToSix}
)

func (f families) String() string { return fmt.Sprintf("%dto%d", f.client, f.server) }

// translated reports whether fnatd has to exchange one IP header for the other.
func (f families) translated() bool { return f.client != f.server }

// of returns what there is for the IP version.
func of[T any](version int, four, six T) T {
	if version == 6 {
		return six
	}
	return four
}

// headerLen returns the length of an IP header without options.
func headerLen(version int) int { return of(version, 20, 40) }

// longestHeader returns the length of the longer of the headers on both sides.
func (f families) longestHeader() int { return max(headerLen(f.client), headerLen(f.server)) }

// clientNetwork returns an address of the client's with the length of its network.
func (f families) clientNetwork(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr, of(f.client, netns.ClientPrefix, netns.ClientPrefix6).Bits())
}

// vip returns port of the first virtual address.
func (f families) vip(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(of(f.client, netns.VIP(0), netns.VIP6(0)), port)
}

// rip returns port of the i-th server.
func (f families) rip(i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(of(f.server, netns.ServerAddr(i), netns.ServerAddr6(i)), port)
}

// lip returns the i-th local address that the servers see.
func (f families) lip(i int) netip.Addr { return of(f.server, netns.LIP(i), netns.LIP6(i)) }

// clientAddr returns the client's address.
func (f families) clientAddr() netip.Addr { return f.clientNumber(2) }

// clientNumber returns an address on the client's network: 2 is the client's own,
// others it has when addClient has been called.
func (f families) clientNumber(n int) netip.Addr {
	a, b := netns.ClientAddr.As4(), netns.ClientAddr6.As16()
	a[3], b[15] = byte(n), byte(n)
	return of(f.client, netip.AddrFrom4(a), netip.AddrFrom16(b))
}

// balancerAddr and balancerLANAddr return the host's own addresses, towards the
// client and towards the servers.
func (f families) balancerAddr() netip.Addr {
	return of(f.client, netns.BalancerAddr, netns.BalancerAddr6)
}

func (f families) balancerLANAddr() netip.Addr {
	return of(f.server, netns.BalancerLANAddr, netns.BalancerLANAddr6)
}

// url returns the URL of a path at the VIP's port 80.
func (f families) url(path string) string {
	return "http://" + f.vip(80).String() + path
}

// to returns the servers with these numbers, all at one port.
func (f families) to(port uint16, servers ...int) (all []harness.Server) {
	for _, i := range servers {
		all = append(all, harness.Server{Real: f.rip(i, port)})
	}
	return all
}

// addClient gives the client one more address, and returns it.
func (b *bed) addClient(number int) netip.Addr {
	b.Helper()
	addr := b.clientNumber(number)
	if err := b.Client.AddAddress("eth0", b.clientNetwork(addr)); err != nil {
		b.Fatal(err)
	}
	return addr
}
