package packet

import (
	"encoding/binary"
	"math"
)

// A report is what an ICMP error says: its header but for the checksum.
type report struct {
	kind, code uint8
	word       uint32 // MTU, pointer, or nothing
}

func (m ICMP) report() report {
	return report{m.Type(), m.Code(), binary.BigEndian.Uint32(m[icmpWord:])}
}

func (m ICMP) setReport(r report) {
	m[0], m[icmpCode] = r.kind, r.code
	binary.BigEndian.PutUint32(m[icmpWord:], r.word)
}

// mtu returns the MTU that r reports in that version of ICMP. ICMP has it in 16
// bits of the word (RFC 1191, section 4).
func (r report) mtu(version uint8) (mtu int, ok bool) {
	if version == 4 {
		return int(r.word & 0xffff), r.kind == ICMPUnreachable && r.code == ICMPFragNeeded
	}
	return int(r.word), r.kind == ICMPv6TooBig
}

// quotedLen returns how many bytes of r's body the quote occupies if an extension
// follows it (RFC 4884, section 4), and 0 if none does.
func (r report) quotedLen(version uint8) int {
	switch {
	case version == 4:
		return int(r.word>>16&0xff) * 4
	case r.kind == ICMPv6Unreachable || r.kind == ICMPv6TimeExceeded:
		return int(r.word>>24) * 8
	}
	return 0
}

// unreachable6 has for each code of an IPv4 destination unreachable what RFC 7915,
// section 4.2, makes of it; the zero report is dropped.
var unreachable6 = [...]report{
	0:                   {ICMPv6Unreachable, ICMPv6NoRoute, 0},
	ICMPHostUnreachable: {ICMPv6Unreachable, ICMPv6NoRoute, 0},
	ICMPProtocol:        {ICMPv6Parameter, ICMPv6NextHeader, ipv6NextHeader},
	ICMPPortUnreachable: {ICMPv6Unreachable, ICMPv6PortUnreachable, 0},
	ICMPFragNeeded:      {ICMPv6TooBig, 0, 0},
	5:                   {ICMPv6Unreachable, ICMPv6NoRoute, 0}, // source route failed
	6:                   {ICMPv6Unreachable, ICMPv6NoRoute, 0},
	7:                   {ICMPv6Unreachable, ICMPv6NoRoute, 0},
	8:                   {ICMPv6Unreachable, ICMPv6NoRoute, 0},
	9:                   {ICMPv6Unreachable, ICMPv6Prohibited, 0},
	ICMPHostProhibited:  {ICMPv6Unreachable, ICMPv6Prohibited, 0},
	11:                  {ICMPv6Unreachable, ICMPv6NoRoute, 0},
	12:                  {ICMPv6Unreachable, ICMPv6NoRoute, 0},
	13:                  {ICMPv6Unreachable, ICMPv6Prohibited, 0},
	15:                  {ICMPv6Unreachable, ICMPv6Prohibited, 0}, // precedence cutoff
}

// unreachable4 has for each code of an ICMPv6 destination unreachable what RFC
// 7915, section 5.2, makes of it.
var unreachable4 = [...]report{
	ICMPv6NoRoute:         {ICMPUnreachable, ICMPHostUnreachable, 0},
	ICMPv6Prohibited:      {ICMPUnreachable, ICMPHostProhibited, 0},
	2:                     {ICMPUnreachable, ICMPHostUnreachable, 0}, // beyond scope
	3:                     {ICMPUnreachable, ICMPHostUnreachable, 0}, // address unreachable
	ICMPv6PortUnreachable: {ICMPUnreachable, ICMPPortUnreachable, 0},
}

// Where a pointer to a byte of one header points in the other: figures 3 and 6 of
// RFC 7915. The length fields and the addresses have counterparts as a whole.
var (
	pointers6 = [ipv4MinLen]int8{
		0, 1, ipv6PayloadLen, ipv6PayloadLen,
		-1, -1, -1, -1, // identification, fragment
		ipv6HopLimit, ipv6NextHeader, -1, -1,
		ipv6Src, ipv6Src, ipv6Src, ipv6Src,
		ipv6Dst, ipv6Dst, ipv6Dst, ipv6Dst,
	}
	pointers4 = [ipv6Src]int8{
		0, 1, -1, -1, // flow label
		ipv4TotalLen, ipv4TotalLen, ipv4Proto, ipv4TTL,
	}
)

// toICMPv6 returns the ICMPv6 error that means what the ICMP error r does, MTU
// aside; ok is false if there is none.
func (r report) toICMPv6() (to report, ok bool) {
	switch r.kind {
	case ICMPUnreachable:
		if int(r.code) < len(unreachable6) {
			to = unreachable6[r.code]
		}
	case ICMPTimeExceeded:
		to = report{ICMPv6TimeExceeded, r.code, 0}
	case ICMPParameter:
		pointer := r.word >> 24
		// Code 2 is "bad length"; 1 tells of a missing option.
		if (r.code == 0 || r.code == 2) && pointer < ipv4MinLen && pointers6[pointer] >= 0 {
			to = report{ICMPv6Parameter, 0, uint32(pointers6[pointer])}
		}
	}
	return to, to.kind != 0
}

// toICMP returns the ICMP error that means what the ICMPv6 error r does, MTU
// aside; ok is false if there is none.
func (r report) toICMP() (to report, ok bool) {
	switch {
	case r.kind == ICMPv6Unreachable:
		if int(r.code) < len(unreachable4) {
			to = unreachable4[r.code]
		}
	case r.kind == ICMPv6TooBig:
		to = report{ICMPUnreachable, ICMPFragNeeded, 0}
	case r.kind == ICMPv6TimeExceeded:
		to = report{ICMPTimeExceeded, r.code, 0}
	case r.kind == ICMPv6Parameter && r.code == ICMPv6NextHeader:
		to = report{ICMPUnreachable, ICMPProtocol, 0}
	case r.kind == ICMPv6Parameter && r.code == 0:
		pointer := -1
		switch at := r.word; {
		case at < ipv6Src:
			pointer = int(pointers4[at])
		case at < ipv6Dst:
			pointer = ipv4Src
		case at < ipv6Len:
			pointer = ipv4Dst
		}
		if pointer >= 0 {
			to = report{ICMPParameter, 0, uint32(pointer) << 24}
		}
	}
	return to, to.kind != 0
}

// minMTU4 is the MTU that every IPv4 link has (RFC 791, section 3.2).
const minMTU4 = 68

// plateaus are MTUs that a path is likely to have (RFC 1191, section 7.1), those
// that are of use to IPv6.
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492}

// plateau returns the likely MTU of the path on which a packet of size bytes was
// too big, or less than IPv6 has.
func plateau(size int) int {
	for _, mtu := range plateaus {
		if mtu < size {
			return mtu
		}
	}
	return minMTU4
}

// translateMTU returns what to report in IP version to for an mtu reported in
// version from about a packet of size bytes, when packets become by bytes shorter
// on the way, a change of header aside. It goes below no version's least MTU: RFC
// 8201, section 4, has a smaller one ignored, and RFC 7915, section 4.2, forbids it.
// Zero, from a router that knows no better, stays zero in IPv4; IPv6 does not know
// that, and gets a plateau.
func translateMTU(mtu int, from, to uint8, size, by int) int {
	switch {
	case from == 6:
		mtu = max(mtu, minMTU6)
	case mtu == 0 && to == 4:
		return 0
	case mtu == 0:
		mtu = plateau(size)
	}
	mtu += by
	switch {
	case from < to:
		mtu += ipv6Len - ipv4MinLen
	case from > to:
		mtu -= ipv6Len - ipv4MinLen
	}
	if to == 6 {
		return min(max(mtu, minMTU6), math.MaxUint32)
	}
	return min(max(mtu, minMTU4), math.MaxUint16)
}
