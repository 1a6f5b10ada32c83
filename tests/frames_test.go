package tests

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// A segment is a captured TCP segment, taken apart byte by byte: RFC 791, section
// 3.1, RFC 8200, section 3, and RFC 9293, section 3.1. Over IPv6 length is that of
// the whole packet, and id and frag are zero.
type segment struct {
	sent             bool // by the host that captured it
	tos, ttl         byte
	label            uint32 // IPv6: flow label
	length, id, frag uint16
	src, dst         netip.AddrPort
	seq, ack         uint32
	flags            packet.TCPFlags
	window           uint16
	options, payload []byte
}

func (s segment) String() string {
	return fmt.Sprintf("%v > %v flags %#02x seq %d ack %d options [% x] payload %d bytes", s.src, s.dst, byte(s.flags), s.seq, s.ack, s.options, len(s.payload))
}

// datagram returns the IP datagram of a frame, nil if there is none.
func datagram(f netns.Frame) []byte {
	b := f.Data[14:]
	switch binary.BigEndian.Uint16(f.Data[12:]) {
	case 0x0800:
		return b[:binary.BigEndian.Uint16(b[2:])]
	case 0x86dd:
		return b[:40+binary.BigEndian.Uint16(b[4:])]
	}
	return nil
}

// transport returns the protocol behind a datagram's IP header, and what it says.
func transport(ip []byte) (proto byte, b []byte) {
	if ip[0]>>4 == 6 {
		return ip[6], ip[40:]
	}
	return ip[9], ip[int(ip[0]&15)*4:]
}

// segments returns the TCP segments among frames.
func segments(frames []netns.Frame) (all []segment) {
	for _, f := range frames {
		ip := datagram(f)
		if ip == nil {
			continue
		}
		proto, tcp := transport(ip)
		if proto != unix.IPPROTO_TCP {
			continue
		}
		be := binary.BigEndian
		data := int(tcp[12]>>4) * 4
		s := segment{
			sent: f.Sent, length: uint16(len(ip)),
			seq: be.Uint32(tcp[4:]), ack: be.Uint32(tcp[8:]),
			flags: packet.TCPFlags(tcp[13]), window: be.Uint16(tcp[14:]),
			options: tcp[20:data], payload: tcp[data:],
		}
		var src, dst netip.Addr
		if ip[0]>>4 == 6 {
			s.tos, s.label, s.ttl = byte(be.Uint16(ip)>>4), be.Uint32(ip)&0xfffff, ip[7]
			src, dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		} else {
			s.tos, s.ttl, s.id, s.frag = ip[1], ip[8], be.Uint16(ip[4:]), be.Uint16(ip[6:])
			src, dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		}
		s.src, s.dst = netip.AddrPortFrom(src, be.Uint16(tcp)), netip.AddrPortFrom(dst, be.Uint16(tcp[2:]))
		all = append(all, s)
	}
	return all
}

// only returns the segments that match.
func only(all []segment, match func(*segment) bool) (some []segment) {
	for i := range all {
		if match(&all[i]) {
			some = append(some, all[i])
		}
	}
	return some
}

// capture records what a host's eth0 sends and receives.
func (b *bed) capture(on *netns.Host) *netns.Capture {
	b.Helper()
	c, err := on.Capture("eth0")
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// frames ends a capture. Every checksum of every frame in it must be right.
func (b *bed) frames(c *netns.Capture) []netns.Frame {
	b.Helper()
	frames, err := c.Stop()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range frames {
		if kind := binary.BigEndian.Uint16(f.Data[12:]); kind != 0x0806 { // ARP has none
			packettest.CheckSums(b, f.Data)
		}
	}
	return frames
}

// A rawClient is a client that makes its segments by hand, at an address that no
// kernel answers for.
type rawClient struct {
	*bed
	link packettest.Link
	src  packet.Endpoint
	in   *netns.Capture
	fd   int
	to   unix.SockaddrLinklayer
}

func (b *bed) rawClient() *rawClient {
	b.Helper()
	r := &rawClient{bed: b, src: packet.EndpointFrom(netip.AddrPortFrom(b.clientNumber(50), 40000)), in: b.capture(b.Client)}
	mac := func(of *netns.Host, ifname string) net.HardwareAddr {
		m, err := of.MAC(ifname)
		if err != nil {
			b.Fatal(err)
		}
		return m
	}
	copy(r.link.SrcMAC[:], mac(b.Client, "eth0"))
	copy(r.link.DstMAC[:], mac(b.Balancer, b.ClientSide()))
	index, err := b.Client.Index("eth0")
	if err != nil {
		b.Fatal(err)
	}
	r.to = unix.SockaddrLinklayer{Ifindex: index, Halen: 6}
	err = b.Client.Do(func() (err error) {
		r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(r.fd) })
	return r
}

// send sends s to the VIP's port 80.
func (r *rawClient) send(s packettest.TCP) {
	r.Helper()
	s.Link, s.Src, s.Dst = r.link, r.src, packet.EndpointFrom(r.vip(80))
	if err := unix.Sendto(r.fd, s.Frame().Bytes(), 0, &r.to); err != nil {
		r.Fatal(err)
	}
}

// receive waits for a segment to this client with these flags.
func (r *rawClient) receive(flags packet.TCPFlags) (got segment) {
	r.Helper()
	r.eventually(fmt.Sprintf("the client receives a segment with flags %#02x", byte(flags)), func() bool {
		found := only(segments(r.in.Frames()), func(s *segment) bool {
			return !s.sent && s.dst == r.src.Netip() && s.flags == flags
		})
		if len(found) > 0 {
			got = found[0]
		}
		return len(found) > 0
	})
	return got
}
