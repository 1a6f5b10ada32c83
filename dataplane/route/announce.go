package route

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
)

// From the standards.
const (
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd

	arpRequest = 1 // RFC 826

	neighbourAdvertisement = 136  // ICMPv6 type (RFC 4861, section 4.4)
	overrideFlag           = 0x20 // replace what you know of this address
	targetLinkAddress      = 2    // option (RFC 4861, section 4.6.1)
)

// Our choices: RFC 5227, section 2.3, wants two announcements, RFC 4861, section
// 7.2.6, up to three, a second and more apart. Nothing acknowledges one.
const (
	announcements   = 3
	announcementGap = time.Second
)

// An announcer tells neighbours about addresses that have come to this host, so
// that they need not wait until what they know of the former holder has aged out.
type announcer struct {
	log   *slog.Logger
	links *netlink.Handle
	fd    int
	gap   time.Duration
	done  chan struct{}
	wait  sync.WaitGroup
}

// newAnnouncer returns an announcer for the namespace of the calling thread.
func newAnnouncer(log *slog.Logger, links *netlink.Handle) (*announcer, error) {
	// Protocol 0: a socket that receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	return &announcer{log: log, links: links, fd: fd, gap: announcementGap, done: make(chan struct{})}, nil
}

// start announces the addresses three times, the first time before it returns.
func (a *announcer) start(addrs []Address) {
	if len(addrs) == 0 {
		return
	}
	a.send(addrs)
	a.wait.Go(func() {
		for range announcements - 1 {
			select {
			case <-a.done:
				return
			case <-time.After(a.gap):
				a.send(addrs)
			}
		}
	})
}

// close ends all announcements.
func (a *announcer) close() {
	close(a.done)
	a.wait.Wait()
	unix.Close(a.fd)
}

// send announces the addresses once. An error is logged and no more: the address
// works, and a neighbour that knew another holder will find out in time.
func (a *announcer) send(addrs []Address) {
	on := newLinks(a.links)
	for _, w := range addrs {
		link, err := on.of(w.Interface)
		if err == nil {
			mac := link.Attrs().HardwareAddr
			if len(mac) != 6 {
				continue // no Ethernet, no neighbours
			}
			to := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}
			err = unix.Sendto(a.fd, announcement([6]byte(mac), w.Addr), 0, to)
		}
		if err != nil {
			a.log.Warn("address not announced", "address", w.Addr, "interface", w.Interface, "error", err)
		}
	}
}

// announcement returns the frame that says that addr is at mac.
func announcement(mac [6]byte, addr netip.Addr) []byte {
	if addr.Is4() {
		return gratuitousARP(mac, addr.As4())
	}
	return unsolicitedAdvertisement(mac, addr.As16())
}

// gratuitousARP is an ARP announcement (RFC 5227, section 3): a request for the
// sender's own address.
func gratuitousARP(mac [6]byte, ip [4]byte) []byte {
	f := ethernet([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, etherTypeARP)
	f = append(f, 0, 1, 8, 0, 6, 4) // Ethernet and IPv4, and the lengths of their addresses
	f = binary.BigEndian.AppendUint16(f, arpRequest)
	f = append(append(f, mac[:]...), ip[:]...)
	f = append(append(f, make([]byte, 6)...), ip[:]...)
	return append(f, make([]byte, 60-len(f))...) // the shortest Ethernet frame
}

// unsolicitedAdvertisement is a neighbour advertisement to all nodes (RFC 4861,
// section 7.2.6).
func unsolicitedAdvertisement(mac [6]byte, ip [16]byte) []byte {
	allNodes := [16]byte{0: 0xff, 1: 2, 15: 1}
	icmp := append([]byte{neighbourAdvertisement, 0, 0, 0, overrideFlag, 0, 0, 0}, ip[:]...)
	icmp = append(append(icmp, targetLinkAddress, 1), mac[:]...) // 1: of 8 bytes
	// RFC 8200, section 8.1: the checksum covers both addresses, length and protocol.
	pseudo := append(append([]byte{}, ip[:]...), allNodes[:]...)
	pseudo = append(pseudo, 0, 0, 0, byte(len(icmp)), 0, 0, 0, packet.ProtoICMPv6)
	binary.BigEndian.PutUint16(icmp[2:], uint16(packet.Checksum(append(pseudo, icmp...))))

	f := ethernet([6]byte{0x33, 0x33, 0, 0, 0, 1}, mac, etherTypeIPv6) // RFC 2464, section 7
	// RFC 4861, section 7.1.2: a hop limit of 255 proves that no router passed it on.
	f = append(f, 0x60, 0, 0, 0, 0, byte(len(icmp)), packet.ProtoICMPv6, 255)
	f = append(append(f, ip[:]...), allNodes[:]...)
	return append(f, icmp...)
}

func ethernet(dst, src [6]byte, etherType uint16) []byte {
	f := make([]byte, 0, 128)
	f = append(append(f, dst[:]...), src[:]...)
	return binary.BigEndian.AppendUint16(f, etherType)
}
