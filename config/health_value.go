package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, errors.New("not an IP address (want it as 10.0.2.11 or fd00::11)")
	}
	return a.Unmap(), nil
}

func checkPath(s string) error {
	if !filepath.IsAbs(s) || strings.ContainsRune(s, 0) {
		return errors.New("want the absolute path of a file")
	}
	return nil
}

// checkURLPath makes sure that s can stand in a request line.
func checkURLPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return errors.New(`want a path that begins with "/"`)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return errors.New("has a blank or another byte that must be escaped (write it as %20)")
		}
	}
	return nil
}

// checkHostField makes sure that s can stand in a Host field: a name or an
// address, with or without a port.
func checkHostField(s string) error {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`/\@,;"`, s[i]) >= 0 {
			s = ""
			break
		}
	}
	if s == "" {
		return errors.New("not the name of a host (want it as www.example.com)")
	}
	return nil
}

func checkHostName(s string) error {
	if _, ok := dns.IsDomainName(s); !ok || checkHostField(s) != nil {
		return errors.New("not the name of a host (want it as www.example.com)")
	}
	return nil
}

func checkDNSName(s string) error {
	if _, ok := dns.IsDomainName(s); !ok {
		return errors.New("not a domain name (want it as example.com)")
	}
	return nil
}

// checkSNI allows "", which sends none.
func checkSNI(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return errors.New("an address is no server name (RFC 6066, section 3: want a host name, or \"\" for none)")
	}
	if s == "" {
		return nil
	}
	return checkHostName(s)
}

// hostName returns the name in a Host field, or "" if that is an address.
func hostName(host string) string {
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.Contains(host[i:], "]") {
		name = host[:i]
	}
	if checkSNI(name) != nil || strings.HasPrefix(name, "[") {
		return ""
	}
	return name
}

// parseStatus returns a code or a range of codes.
func parseStatus(v any) (r StatusRange, err error) {
	switch v := v.(type) {
	case int64:
		r = StatusRange{int(min(v, 1000)), int(min(v, 1000))}
	case string:
		from, to, isRange := strings.Cut(v, "-")
		if !isRange {
			to = from
		}
		var err1, err2 error
		r.First, err1 = strconv.Atoi(from)
		r.Last, err2 = strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			r = StatusRange{}
		}
	}
	if r.First < 100 || r.Last > 999 || r.Last < r.First {
		return r, errors.New(`not a status code or range (want 200 or "200-299")`)
	}
	return r, nil
}

// checkDigest allows MD5, as keepalived's genhash prints it, and SHA-256.
func checkDigest(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 16 && len(b) != 32 {
		return errors.New("not a digest (want the 32 hexadecimal digits of an MD5 or the 64 of a SHA-256)")
	}
	return nil
}

func checkRegex(s string) error {
	if _, err := regexp.Compile(s); err != nil {
		return fmt.Errorf("not a regular expression: %s (want one of RE2: no back-references, no look-around)", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return nil
}

// parseHex returns hexadecimal digits without the blanks between them; with
// wild an x stands for any.
func parseHex(s string, wild bool) (string, error) {
	s = strings.ToLower(strings.Join(strings.Fields(s), ""))
	probe := s
	if wild {
		probe = strings.ReplaceAll(s, "x", "0")
	}
	if _, err := hex.DecodeString(probe); err != nil || len(probe) > 2*1472 {
		want := `two hexadecimal digits for each byte, as "00 1f"`
		if wild {
			want += ", x for any digit"
		}
		return s, fmt.Errorf("not the bytes of a datagram (want %s, at most 1472 bytes)", want)
	}
	return s, nil
}
