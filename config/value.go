package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Bounds. Those of numbers that stand in a single place are there.
const (
	// MaxDuration is the longest time span. It keeps every deadline of the
	// connection table, a 32-bit count of milliseconds that wraps after 49 days,
	// well within half its range.
	MaxDuration = 480 * time.Hour

	maxWeight    = 65535
	maxThreshold = 1 << 30 // connections

	// maxLocals is how many LIPs there can be: the connection table's number of
	// one has 16 bits and 0 means none.
	maxLocals = 65535

	// maxServers keeps a scheduler's pass over a service's servers short.
	maxServers = 4096

	// minPorts gives each of the connection table's 64 shards a port.
	minPorts = 64

	maxInterfaceName = 15  // IFNAMSIZ less the final zero
	maxSocketPath    = 107 // sun_path less the final zero
)

func checkName(s string) error {
	if s == "" || s != strings.TrimSpace(s) {
		return errors.New("want a name that neither is empty nor begins or ends in a blank")
	}
	return nil
}

func checkInterface(s string) error {
	if s == "" || len(s) > maxInterfaceName || strings.ContainsAny(s, "/ \t\n") {
		return errors.New(`not the name of an interface (want one that "ip link" lists)`)
	}
	return nil
}

func checkControl(s string) error {
	if !filepath.IsAbs(s) || len(s) > maxSocketPath {
		return fmt.Errorf("want an absolute path of at most %d bytes", maxSocketPath)
	}
	return nil
}

func checkState(s string) error {
	if s != "" && !filepath.IsAbs(s) {
		return errors.New(`want an absolute path, as "/run/fnatd/state", or "" for none`)
	}
	return nil
}

func checkMetrics(s string) error {
	if s == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New(`want host:port, as "127.0.0.1:9632", or "" for none`)
	}
	return nil
}

// parseEndpoint returns an address and port that packets can be forwarded to.
func parseEndpoint(s string) (netip.AddrPort, error) {
	e, err := netip.ParseAddrPort(s)
	if err != nil {
		return e, errors.New("not an IP address and port (want it as 203.0.113.10:80 or [2001:db8::10]:80)")
	}
	return netip.AddrPortFrom(e.Addr().Unmap(), e.Port()), CheckEndpoint(e)
}

// CheckEndpoint says why packets cannot be forwarded to an address and port.
func CheckEndpoint(e netip.AddrPort) error {
	if e.Port() == 0 {
		return errors.New("port 0 is none (want 1 to 65535)")
	}
	_, err := forwardable(e.Addr())
	return err
}

// forwardable returns addr in its plain form, and an error if it is not that of
// one machine that a packet can be sent to.
func forwardable(addr netip.Addr) (netip.Addr, error) {
	kind := ""
	switch addr = addr.Unmap(); {
	case addr.Zone() != "", addr.Is6() && addr.IsLinkLocalUnicast():
		kind = "a link-local"
	case addr.IsUnspecified():
		kind = "the unspecified"
	case addr.IsLoopback():
		kind = "a loopback"
	case addr.IsMulticast():
		kind = "a multicast"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		kind = "the broadcast"
	default:
		return addr, nil
	}
	return addr, fmt.Errorf("%s address cannot be forwarded to (want a unicast address of the network)", kind)
}

// parseRange returns the ends of a range of addresses: "10.0.1.10", or
// "10.0.1.10-10.0.1.13", or shorter "10.0.1.10-13", where what follows the dash
// replaces the last part of the address.
func parseRange(s string) (first, last netip.Addr, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	bad := errors.New("not an IP address or range (want it as 10.0.1.10 or 10.0.1.10-10.0.1.13 or 10.0.1.10-13)")
	if first, err = netip.ParseAddr(strings.TrimSpace(from)); err != nil {
		return first, last, bad
	}
	to = strings.TrimSpace(to)
	if isRange && !strings.ContainsAny(to, ".:") {
		to = from[:strings.LastIndexAny(from, ".:")+1] + to
	}
	if last, err = netip.ParseAddr(to); err != nil || last.BitLen() != first.BitLen() {
		return first, last, bad
	}
	if last.Less(first) {
		return first, last, errors.New("the range is backwards (write the lower address first)")
	}
	if first, err = forwardable(first); err != nil {
		return first, last, err
	}
	last, err = forwardable(last)
	return first, last, err
}

// parsePorts returns a range of ports, "1024-65535".
func parsePorts(s string) (Ports, error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	first, err1 := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
	last, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
	p := Ports{uint16(first), uint16(last)}
	switch {
	case err1 != nil, err2 != nil, first == 0:
		return p, errors.New(`not a range of ports (want it as "1024-65535")`)
	case last < first:
		return p, errors.New("the range has no port (write the lower one first)")
	case last-first+1 < minPorts:
		return p, fmt.Errorf("the range has %d ports (want at least %d)", last-first+1, minPorts)
	}
	return p, nil
}

// parseMask returns the prefix length of a netmask such as "255.255.255.0".
func parseMask(s string) (ones int, err error) {
	mask, err := netip.ParseAddr(s)
	if err == nil && mask.Is4() {
		ones, _ = net.IPMask(mask.AsSlice()).Size() // 0 if the ones are not in one piece
	}
	if ones > 0 {
		return ones, nil
	}
	return 0, errors.New(`not a netmask (want it as "255.255.255.0" or as the number 24)`)
}

// span formats a duration as an operator would write it: 480h, not 480h0m0s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
