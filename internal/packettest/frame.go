// Package packettest builds frames for tests and checks them. It writes headers
// and checksums by its own plain code, sharing none with package packet, so that
// a test of one does not rest on the other.
package packettest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// Headroom is how many bytes a built frame has in front of it, as many as the
// kernel leaves in front of a received one (XDP_PACKET_HEADROOM).
const Headroom = 256

// bufferLen is the least size of a built frame's buffer: an AF_XDP chunk's.
const bufferLen = 2048

// A Frame is a frame in a buffer with headroom, as AF_XDP hands it over.
type Frame struct {
	Buf        []byte
	Start, End int // the frame is Buf[Start:End]
}

// NewFrame returns a Frame that holds a copy of b.
func NewFrame(b []byte) Frame {
	f := Frame{Buf: make([]byte, max(bufferLen, Headroom+len(b))), Start: Headroom, End: Headroom + len(b)}
	copy(f.Buf[f.Start:], b)
	return f
}

// Bytes returns the frame.
func (f Frame) Bytes() []byte { return f.Buf[f.Start:f.End] }

// Parse returns the frame as a Packet, which shares its buffer. It ends the test
// if Parse has a Reason against it.
func (f Frame) Parse(t testing.TB) *packet.Packet {
	t.Helper()
	p := new(packet.Packet)
	if why := p.Parse(f.Buf, f.Start, f.End); why != packet.Kept {
		t.Fatalf("Parse(% x): got %v, want %v", f.Bytes(), why, packet.Kept)
	}
	return p
}

// Endpoint returns the address and port that s tells, as "192.0.2.1:80" or
// "[2001:db8::1]:80". It panics if s is not such.
func Endpoint(s string) packet.Endpoint { return packet.EndpointFrom(netip.MustParseAddrPort(s)) }

// Addr returns the address that s tells. It panics if s is not one.
func Addr(s string) packet.Addr { return packet.AddrFromNetip(netip.MustParseAddr(s)) }

// Link is what stands around the transport in a built frame. The zero Link is
// good for most tests.
type Link struct {
	DstMAC, SrcMAC [6]byte
	VLAN           []uint16 // identifiers of the VLAN tags, outermost first
	TTL            uint8    // or hop limit; 0 means 64
	IPOptions      []byte   // IPv4 options, a multiple of four bytes

	// Extensions are IPv6 extension headers, one after another. The type of the
	// first is FirstExtension; the last one's next header is filled in.
	Extensions     []byte
	FirstExtension uint8
	LastExtension  int // offset of the last one in Extensions

	Pad int // bytes of Ethernet padding behind the datagram
}

// build returns the frame of a transport header and payload.
func (l *Link) build(src, dst packet.Addr, proto uint8, transport []byte) Frame {
	b := append(append([]byte{}, l.DstMAC[:]...), l.SrcMAC[:]...)
	for i, id := range l.VLAN {
		tpid := uint16(0x8100)
		if i+1 < len(l.VLAN) {
			tpid = 0x88a8
		}
		b = binary.BigEndian.AppendUint16(b, tpid)
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if src.Is4() {
		b = binary.BigEndian.AppendUint16(b, 0x0800)
		b = l.appendIPv4(b, src, dst, proto, len(transport))
	} else {
		b = binary.BigEndian.AppendUint16(b, 0x86dd)
		b = l.appendIPv6(b, src, dst, proto, len(transport))
	}
	b = append(b, transport...)
	return NewFrame(append(b, make([]byte, l.Pad)...))
}

func (l *Link) ttl() byte {
	if l.TTL == 0 {
		return 64
	}
	return l.TTL
}

func (l *Link) appendIPv4(b []byte, src, dst packet.Addr, proto uint8, size int) []byte {
	at := len(b)
	head := 20 + len(l.IPOptions)
	b = append(b, 0x40|byte(head/4), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(head+size))
	b = append(b, 0, 1, 0x40, 0, l.ttl(), proto, 0, 0) // identification 1, DF
	b = append(append(b, src[12:]...), dst[12:]...)
	b = append(b, l.IPOptions...)
	binary.BigEndian.PutUint16(b[at+10:], ^sum(b[at:]))
	return b
}

func (l *Link) appendIPv6(b []byte, src, dst packet.Addr, proto uint8, size int) []byte {
	next, ext := proto, append([]byte{}, l.Extensions...)
	if len(ext) > 0 {
		next = l.FirstExtension
		ext[l.LastExtension] = proto
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(ext)+size))
	b = append(b, next, l.ttl())
	b = append(append(b, src[:]...), dst[:]...)
	return append(b, ext...)
}
