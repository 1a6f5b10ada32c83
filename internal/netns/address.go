package netns

import (
	"fmt"
	"net/netip"
)

// Addresses of the rig, the same in every shape: 198.18.0.0/15 is for tests of
// this kind (RFC 2544, appendix C.2.2), 2001:db8::/32 for documentation.
var (
	ClientPrefix      = netip.MustParsePrefix("198.18.0.2/24")
	BalancerPrefix    = netip.MustParsePrefix("198.18.0.1/24") // towards the client
	BalancerLANPrefix = netip.MustParsePrefix("198.19.0.1/24") // towards the servers

	ClientPrefix6      = netip.MustParsePrefix("2001:db8:18::2/64")
	BalancerPrefix6    = netip.MustParsePrefix("2001:db8:18::1/64")
	BalancerLANPrefix6 = netip.MustParsePrefix("2001:db8:19::1/64")

	ClientAddr       = ClientPrefix.Addr()
	BalancerAddr     = BalancerPrefix.Addr()
	BalancerLANAddr  = BalancerLANPrefix.Addr()
	ClientAddr6      = ClientPrefix6.Addr()
	BalancerAddr6    = BalancerPrefix6.Addr()
	BalancerLANAddr6 = BalancerLANPrefix6.Addr()
)

// First of each range, the last number of the address.
const (
	firstVIP    = 100 // 198.18.0.100
	firstLIP    = 10  // 198.19.0.10
	firstServer = 101 // 198.19.0.101
)

// VIP returns the i-th virtual address, 198.18.0.100 for 0.
func VIP(i int) netip.Addr { return number4(BalancerPrefix, firstVIP+i) }

// VIP6 returns the i-th virtual IPv6 address, 2001:db8:18::100 for 0.
func VIP6(i int) netip.Addr { return number6("2001:db8:18::", firstVIP+i) }

// LIP returns the i-th local address, 198.19.0.10 for 0.
func LIP(i int) netip.Addr { return number4(BalancerLANPrefix, firstLIP+i) }

// LIP6 returns the i-th local IPv6 address, 2001:db8:19::10 for 0.
func LIP6(i int) netip.Addr { return number6("2001:db8:19::", firstLIP+i) }

// ServerAddr returns the address of the i-th server, 198.19.0.101 for 0.
func ServerAddr(i int) netip.Addr { return number4(BalancerLANPrefix, firstServer+i) }

// ServerAddr6 returns the IPv6 address of the i-th server, 2001:db8:19::101 for 0.
func ServerAddr6(i int) netip.Addr { return number6("2001:db8:19::", firstServer+i) }

// ServerPrefix returns the address of the i-th server with its network's length.
func ServerPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(ServerAddr(i), BalancerLANPrefix.Bits())
}

// ServerPrefix6 returns the IPv6 address of the i-th server with its network's length.
func ServerPrefix6(i int) netip.Prefix {
	return netip.PrefixFrom(ServerAddr6(i), BalancerLANPrefix6.Bits())
}

// number4 returns the address of p's /24 that ends in n.
func number4(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

// number6 returns the address whose last group reads like the decimal n, so that
// both families of a host look alike.
func number6(network string, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("%s%d", network, n))
}
