package selftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

// patience is how long an answer may take.
const patience = 5 * time.Second

// A wire is the balancer's end of the wire to the real server. Its LIPs are
// addresses that no kernel has, so none answers for them.
type wire struct {
	fd       int
	to       unix.SockaddrLinklayer
	ethernet [12]byte // destination and source of what it sends
}

func newWire(balancer, server *netns.Host) (*wire, error) {
	w := &wire{}
	from, err := balancer.MAC(ifname)
	if err != nil {
		return nil, err
	}
	to, err := server.MAC(ifname)
	if err != nil {
		return nil, err
	}
	copy(w.ethernet[copy(w.ethernet[:], to):], from)
	index, err := balancer.Index(ifname)
	if err != nil {
		return nil, err
	}
	w.to = unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Protocol: all}
	err = balancer.Do(func() (err error) {
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(patience.Nanoseconds())
		return errors.Join(unix.Bind(w.fd, &w.to), unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	})
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	for _, lip := range []netip.Addr{lip4, lip6, stranger} {
		if err := server.AddNeighbour(ifname, lip, net.HardwareAddr(from)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// all is ETH_P_ALL in network order.
var all = binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))

func (w *wire) Close() error { return unix.Close(w.fd) }

// send sends a frame whose MAC addresses are still missing.
func (w *wire) send(frame []byte) error {
	copy(frame, w.ethernet[:])
	return unix.Sendto(w.fd, frame, 0, &w.to)
}

// receive waits for a packet that match takes.
func (w *wire) receive(what string, match func(*packet.Packet) bool) (*packet.Packet, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		buf := make([]byte, 2048)
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("no %s: %w", what, err)
		}
		var p packet.Packet
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING &&
			p.Parse(buf, 0, n) == packet.Kept && match(&p) {
			return &p, nil
		}
	}
	return nil, fmt.Errorf("no %s within %v", what, patience)
}

// A segment is what a TCP segment of the balancer's says.
type segment struct {
	flags    packet.TCPFlags
	seq, ack uint32
	options  []byte // a multiple of four bytes
	payload  string
}

func (w *wire) sendTCP(local, server netip.AddrPort, s segment) error {
	b := ports(local, server)
	b = binary.BigEndian.AppendUint32(b, s.seq)
	b = binary.BigEndian.AppendUint32(b, s.ack)
	b = append(b, byte((20+len(s.options))/4<<4), byte(s.flags), 0xff, 0xff, 0, 0, 0, 0)
	b = append(append(b, s.options...), s.payload...)
	return w.send(datagram(local.Addr(), server.Addr(), packet.ProtoTCP, b, 16))
}

func (w *wire) sendUDP(local, server netip.AddrPort, payload string) error {
	b := binary.BigEndian.AppendUint16(ports(local, server), uint16(8+len(payload)))
	b = append(append(b, 0, 0), payload...)
	return w.send(datagram(local.Addr(), server.Addr(), packet.ProtoUDP, b, 6))
}

func ports(from, to netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from.Port()), to.Port())
}

// datagram returns a frame with room for the MAC addresses. The transport header
// lacks its checksum, at offset sum.
func datagram(src, dst netip.Addr, proto byte, transport []byte, sum int) []byte {
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(transport)))
	pseudo = append(pseudo, 0, 0, 0, proto)
	binary.BigEndian.PutUint16(transport[sum:], uint16(packet.Checksum(append(pseudo, transport...))))

	frame := make([]byte, 12, 128)
	if src.Is6() {
		frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0)
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(transport)))
		frame = append(frame, proto, 64)
		frame = append(append(frame, src.AsSlice()...), dst.AsSlice()...)
		return append(frame, transport...)
	}
	frame = append(frame, 0x08, 0x00, 0x45, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(20+len(transport)))
	frame = append(frame, 0, 0, 0x40, 0, 64, proto, 0, 0)
	frame = append(append(frame, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(frame[24:], uint16(packet.Checksum(frame[14:])))
	return append(frame, transport...)
}

// A handshake says how a client's address comes with a connection.
type handshake struct {
	syn, ack []byte // options of the SYN and of the segment that completes it
	lost     bool   // the third ACK is lost: the first data complete it
}

// connect makes a connection, as seen from the balancer's end.
func (w *wire) connect(local, server netip.AddrPort, h handshake) error {
	const isn = 1000
	mss := []byte{2, 4, 1460 >> 8, 1460 & 0xff}
	if err := w.sendTCP(local, server, segment{flags: packet.SYN, seq: isn, options: append(mss, h.syn...)}); err != nil {
		return err
	}
	p, err := w.receive("SYN-ACK", func(p *packet.Packet) bool {
		return p.Flow.Proto == packet.ProtoTCP && p.Flow.Destination().Netip() == local && p.TCP().Flags() == packet.SYN|packet.ACK
	})
	if err != nil {
		return err
	}
	third := segment{flags: packet.ACK, seq: isn + 1, ack: p.TCP().Seq() + 1, options: h.ack}
	if h.lost {
		third.flags |= packet.PSH
		third.payload = "hello"
	}
	return w.sendTCP(local, server, third)
}

// notice announces a client's flow, and waits for the echo that acknowledges it.
func (w *wire) notice(n packet.Notice) error {
	buf := make([]byte, packet.NoticeLen)
	if err := w.send(buf[:packet.BuildNotice(buf, 0, &n)]); err != nil {
		return err
	}
	_, err := w.receive("echo reply", func(p *packet.Packet) bool {
		f, ok := p.NoticeReply()
		return ok && f.DstPort == n.Local.Port
	})
	return err
}
