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
// length tells apart. They are those of bpf/option.h.
const (
	formIPv4 = 1 // kind, length 8, port, IPv4 address
	formIPv6 = 2 // kind, length 20, port, IPv6 address
	formTTM  = 4 // kind, length, family, port, address
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

// A TTM is the form of kgwttm's option, whose kind and length are not published.
type TTM struct {
	Kind   uint8 // 0: there is none
	Length uint8 // of the whole option
}

// The lengths of TTM's option: kind, length and the struct of 20 bytes, which
// may be cut behind an IPv4 address or be followed by zeros.
const (
	minTTM     = 10
	DefaultTTM = 22
	maxTTM     = 24
)

// check is an error if there is no such option, or one of kinds would be taken for it.
func (t TTM) check(kinds Kinds) error {
	if t.Kind == 0 {
		return nil
	}
	if t.Kind == 1 { // no operation (RFC 9293, section 3.2)
		return fmt.Errorf("ttm kind %d: has no length (want 2 to 255)", t.Kind)
	}
	if t.Length < minTTM || t.Length > maxTTM {
		return fmt.Errorf("ttm length %d: out of range (want %d to %d)", t.Length, minTTM, maxTTM)
	}
	if slices.Contains(kinds, Kind(t.Kind)) && t.Length == 20 && forms[Kind(t.Kind)]&formIPv6 != 0 {
		return fmt.Errorf("ttm kind %d, length %d: that is an option of --kinds (leave it out there)", t.Kind, t.Length)
	}
	return nil
}

// kindTable returns what the programs read of each kind.
func (o *Options) kindTable() (table [256]uint8) {
	for _, k := range o.Kinds {
		table[k] = forms[k]
	}
	if o.TTM.Kind != 0 {
		table[o.TTM.Kind] |= formTTM
	}
	return table
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
