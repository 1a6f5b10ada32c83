package packet

// maxError4 is how long an ICMP error gets that quotes much (RFC 1812, section
// 4.3.2.3). An ICMPv6 error gets as long as the least MTU (RFC 4443, section 2.4).
const maxError4 = 576

// ErrorLen is the most bytes that BuildError writes.
const ErrorLen = ethLen + minMTU6

// networkControl is the TOS of an ICMP error: RFC 1812, section 4.3.2.5, gives it
// precedence 6.
const networkControl = 6 << 5

// An ErrorKind is what an error of fnatd's own reports.
type ErrorKind uint8

const (
	ErrorTimeExceeded ErrorKind = iota // TTL or hop limit ran out on the way
	ErrorTooBig                        // larger than the next hop's MTU, and not to be fragmented
	ErrorNoRoute                       // no way to the destination
	ErrorNoPort                        // nothing serves the destination's port
	numErrorKinds
)

// errorKinds has each kind in ICMP and in ICMPv6.
var errorKinds = [numErrorKinds]struct{ v4, v6 report }{
	ErrorTimeExceeded: {report{ICMPTimeExceeded, 0, 0}, report{ICMPv6TimeExceeded, 0, 0}},
	ErrorTooBig:       {report{ICMPUnreachable, ICMPFragNeeded, 0}, report{ICMPv6TooBig, 0, 0}},
	ErrorNoRoute:      {report{ICMPUnreachable, ICMPHostUnreachable, 0}, report{ICMPv6Unreachable, ICMPv6NoRoute, 0}},
	ErrorNoPort:       {report{ICMPUnreachable, ICMPPortUnreachable, 0}, report{ICMPv6Unreachable, ICMPv6PortUnreachable, 0}},
}

// An Error is an ICMP or ICMPv6 error of fnatd's own.
type Error struct {
	Kind  ErrorKind
	MTU   int     // for ErrorTooBig: what would have been small enough for About to send
	From  Addr    // of About's family
	About *Packet // as it was received
}

// BuildError writes the frame of e to buf at start, which has room for ErrorLen
// bytes, and returns the frame's end. It goes to About's source and quotes as much
// of it as it may. Both MAC addresses are zero. ok is false, and nothing written,
// if there must be no error about such a packet.
func BuildError(buf []byte, start int, e *Error) (end int, ok bool) {
	about := e.About
	if !about.deservesError() {
		return start, false
	}
	r, proto, quoted := errorKinds[e.Kind].v4, uint8(ProtoICMP), maxError4-ipv4MinLen-icmpLen
	if about.Version == 6 {
		r, proto, quoted = errorKinds[e.Kind].v6, ProtoICMPv6, minMTU6-ipv6Len-icmpLen
	}
	if e.Kind == ErrorTooBig {
		r.word = uint32(e.MTU)
	}
	quoted = min(quoted, about.IPLen())
	var p Packet
	p.buildIP(buf, start, e.From, about.Flow.Src, proto, defaultTTL, icmpLen+quoted)
	if p.Version == 4 {
		p.IPv4().setTOS(networkControl)
	}
	m := p.ICMP()
	m.setReport(r)
	copy(m.Body(), about.Buf[about.L3:])
	m.setSum(p.transportSum())
	return p.End, true
}

// deservesError reports whether p may be answered by an ICMP error: RFC 1122,
// section 3.2.2, and RFC 4443, section 2.4 (e), have none about an ICMP error,
// about what was sent to many on the link or beyond, and none to a source that is
// not one host; RFC 1122 none about a fragment other than the first.
func (p *Packet) deservesError() bool {
	toMany := p.Buf[p.Start]&1 != 0 // the group bit of the MAC address
	return !toMany && p.HasTransport() && !p.IsError() && p.Flow.Src.isHost() && p.Flow.Dst.isHost()
}

// isHost reports whether a may be the address of one host: it is not unspecified,
// loopback, multicast, broadcast or reserved.
func (a *Addr) isHost() bool {
	if a.Is4() {
		return a[12] != 0 && a[12] != 127 && a[12] < 224
	}
	return a[0] != 0xff && *a != Addr{} && *a != Addr{15: 1}
}
