package realserver

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Kind is the kind of a TCP option that tells a client's address.
type Kind uint8

// The bits of forms: an address of either IP version, which the option's
// length tells apart. They are those of peer.c.
const (
	formIPv4 = 1 // kind, length 8, port, IPv4 address
	formIPv6 = 2 // kind, length 20, port, IPv6 address
)

// forms are the kinds that are known, with the forms in which balancers send
// them: 254 LVS and DPVS, 253 LVS for IPv6, 200 the first LVS-FULLNAT.
var forms = map[Kind]uint8{254: formIPv4 | formIPv6, 253: formIPv6, 200: formIPv4}

// DefaultKinds are all that are known.
var DefaultKinds = Kinds{254, 253, 200}

// Kinds is a list of option kinds, and a flag's value.
type Kinds []Kind

// Type names the value in a command's usage.
func (*Kinds) Type() string { return "KINDS" }

// String returns the list as Set takes it.
func (k *Kinds) String() string {
	var all []string
	for _, kind := range *k {
		all = append(all, strconv.Itoa(int(kind)))
	}
	return strings.Join(all, ",")
}

// Set replaces the list by a comma-separated one.
func (k *Kinds) Set(list string) error {
	var all Kinds
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 8)
		if err != nil || forms[Kind(n)] == 0 {
			return fmt.Errorf("option kind %q: not supported (want some of 254, 253 and 200)", s)
		}
		if !slices.Contains(all, Kind(n)) {
			all = append(all, Kind(n))
		}
	}
	*k = all
	return nil
}

// Prefixes is a list of networks, and a flag's value.
type Prefixes []netip.Prefix

// Type names the value in a command's usage.
func (*Prefixes) Type() string { return "PREFIXES" }

// String returns the list as Set takes it.
func (p *Prefixes) String() string {
	var all []string
	for _, prefix := range *p {
		all = append(all, prefix.String())
	}
	return strings.Join(all, ",")
}

// Set adds a comma-separated list of prefixes and single addresses.
func (p *Prefixes) Set(list string) error {
	for s := range strings.SplitSeq(list, ",") {
		prefix, err := parsePrefix(strings.TrimSpace(s))
		if err != nil {
			return err
		}
		*p = append(*p, prefix)
	}
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if addr, bad := netip.ParseAddr(s); bad == nil && addr.Zone() == "" {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("trusted prefix %q: not a network (want one such as 10.0.1.0/24 or fd00:1::/64)", s)
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("trusted prefix %q: has bits behind its length (want %s, or %s alone)", s, prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}
