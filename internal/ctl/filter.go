package ctl

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A Filter selects connections. The zero Filter selects all.
type Filter struct {
	Service string       // name; empty: any
	Client  netip.Prefix // client's address; invalid: any
	State   string       // one of States; empty: any
	Limit   int          // at most so many; 0: no limit
}

// Match reports whether f selects c. It does not look at Limit.
func (f *Filter) Match(c *Connection) bool {
	return (f.Service == "" || f.Service == c.Service) &&
		(f.State == "" || f.State == c.State) &&
		(!f.Client.IsValid() || f.Client.Contains(c.Client.Addr()))
}

// ParseClient reads the client of a Filter: an address, or a network such as
// 198.51.100.0/24.
func ParseClient(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("client %q: not an address or network (such as 198.51.100.7 or 198.51.100.0/24)", s)
	}
	return p.Masked(), nil
}

// States are the states of a Connection.
var States = [...]string{
	"ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
	"LAST_ACK", "LISTEN", "SYNACK", "UDP_ONE_WAY", "UDP",
}

// ParseState reads the state of a Filter: one of States, in any case.
func ParseState(s string) (string, error) {
	if name := strings.ToUpper(s); slices.Contains(States[:], name) {
		return name, nil
	}
	return "", fmt.Errorf("state %q: no such state (want one of %s)", s, strings.Join(States[:], ", "))
}

// ParseLimit reads the limit of a Filter: 0 or more.
func ParseLimit(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("limit %q: not a number of 0 or more", s)
	}
	return int(n), nil
}

// query returns f as the query of PathConnections.
func (f *Filter) query() url.Values {
	q := url.Values{}
	if f.Service != "" {
		q.Set("service", f.Service)
	}
	if f.Client.IsValid() {
		q.Set("client", f.Client.String())
	}
	if f.State != "" {
		q.Set("state", f.State)
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return q
}

// parseFilter is the inverse of Filter.query. A parameter that it does not
// know is an error: a misspelt filter would otherwise select everything.
func parseFilter(q url.Values) (f Filter, err error) {
	for key, values := range q {
		if len(values) != 1 {
			return Filter{}, fmt.Errorf("%s: given %d times", key, len(values))
		}
		v := values[0]
		switch key {
		case "service":
			f.Service = v
		case "state":
			if f.State, err = ParseState(v); err != nil {
				return Filter{}, err
			}
		case "client":
			if f.Client, err = ParseClient(v); err != nil {
				return Filter{}, err
			}
		case "limit":
			if f.Limit, err = ParseLimit(v); err != nil {
				return Filter{}, err
			}
		default:
			return Filter{}, fmt.Errorf("%q: no such parameter (want service, client, state or limit)", key)
		}
	}
	return f, nil
}
