package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/realserver"
)

// Addresses that nobody has, in the servers' network: the one that fnatrs trusts,
// and one that it does not.
const (
	trustedLIP = "198.19.0.50"
	strangeLIP = "198.19.0.70"
)

// optionCases are the options of the segment that completes a handshake.
var optionCases = []struct {
	name    string
	from    string // trustedLIP if empty
	options []byte
	data    bool // the segment is the first data: the third ACK was lost
	client  string
	counter realserver.Counter
}{
	{name: "254_8", options: toa(forged), client: "192.0.2.66:6666"},
	{name: "200_8", options: optionOf(200, forged), client: "192.0.2.66:6666"},
	{name: "254_20", options: optionOf(254, forged6), client: "[2001:db8::66]:6666"},
	{name: "253_20", options: optionOf(253, forged6), client: "[2001:db8::66]:6666"},
	{name: "third_ack_lost", options: toa(forged), data: true, client: "192.0.2.66:6666"},
	{name: "behind_others", options: join([]byte{1, 1, 1, 30, 4, 0, 0, 1}, toa(forged)), client: "192.0.2.66:6666"},
	{name: "nothing_but_nops", options: bytes.Repeat([]byte{1}, 40), counter: realserver.NoOption},
	{name: "at_the_very_end", options: join(bytes.Repeat([]byte{1}, 32), toa(forged)), client: "192.0.2.66:6666"},
	{name: "twice_the_same", options: join(toa(forged), toa(forged)), client: "192.0.2.66:6666"},
	{name: "none", counter: realserver.NoOption},
	{name: "behind_the_end_of_options", options: join([]byte{0, 0, 0, 0}, toa(forged)), counter: realserver.NoOption},
	{name: "untrusted", from: strangeLIP, options: toa(forged), counter: realserver.Untrusted},
	{name: "untrusted_and_malformed", from: strangeLIP, options: []byte{254, 40, 0, 0}, counter: realserver.Untrusted},
	{name: "253_8_is_not_ours", options: optionOf(253, forged), counter: realserver.WrongLength},
	{name: "experiment_of_another", options: []byte{254, 4, 0xf9, 0x89}, counter: realserver.WrongLength},
	{name: "longer_than_an_address", options: []byte{254, 12, 0x1a, 0x0a, 192, 0, 2, 66, 0, 0, 0, 0}, counter: realserver.WrongLength},
	{name: "longer_than_an_ipv6_address", options: join([]byte{253, 24}, optionOf(253, forged6)[2:], []byte{0, 0, 0, 0}), counter: realserver.WrongLength},
	{name: "longer_than_the_header", options: join([]byte{254, 20}, toa(forged)[2:]), counter: realserver.Malformed},
	{name: "cut_by_the_header", options: []byte{1, 1, 254, 8}, counter: realserver.Malformed},
	{name: "cut_in_the_address", options: toa(forged)[:4], counter: realserver.Malformed},
	{name: "length_missing", options: []byte{1, 1, 1, 254}, counter: realserver.Malformed},
	{name: "length_0", options: []byte{254, 0, 1, 1}, counter: realserver.Malformed},
	{name: "length_1", options: []byte{254, 1, 1, 1}, counter: realserver.Malformed},
	{name: "malformed_behind_a_good_one", options: join(toa(forged), []byte{254, 40, 0, 0}), counter: realserver.Malformed},
	{name: "two_clients", options: join(toa(forged), toa(netip.MustParseAddrPort("192.0.2.67:6666"))), counter: realserver.Contradiction},
	{name: "two_kinds_two_clients", options: join(toa(forged), optionOf(200, netip.MustParseAddrPort("192.0.2.66:6667"))), counter: realserver.Contradiction},
	{name: "two_versions_two_clients", options: join(toa(forged), optionOf(253, forged6)), counter: realserver.Contradiction},
	{name: "port_0", options: toa(netip.MustParseAddrPort("192.0.2.66:0")), counter: realserver.BadAddress},
	{name: "no_address", options: toa(netip.MustParseAddrPort("0.0.0.0:6666")), counter: realserver.BadAddress},
	{name: "multicast", options: toa(netip.MustParseAddrPort("224.0.0.1:6666")), counter: realserver.BadAddress},
	{name: "multicast_ipv6", options: optionOf(254, netip.MustParseAddrPort("[ff02::1]:6666")), counter: realserver.BadAddress},
}

var (
	forged  = netip.MustParseAddrPort("192.0.2.66:6666")
	forged6 = netip.MustParseAddrPort("[2001:db8::66]:6666")
)

// optionOf is kind, length, port, address.
func optionOf(kind byte, client netip.AddrPort) []byte {
	addr := client.Addr().AsSlice()
	b := []byte{kind, byte(4 + len(addr)), byte(client.Port() >> 8), byte(client.Port())}
	return append(b, addr...)
}

// TestFnatrsReadsOptions makes the segments by hand, without fnatd: it would blank
// what is forged, and makes no mistakes.
func TestFnatrsReadsOptions(t *testing.T) {
	r := newRealServer(t)
	r.attach("--trust", trustLIPs)
	r.asks()
	w := r.lanEnd()
	for i, c := range optionCases {
		t.Run(c.name, func(t *testing.T) {
			if c.from == "" {
				c.from = trustedLIP
			}
			local := netip.AddrPortFrom(netip.MustParseAddr(c.from), uint16(40000+i))
			before := r.count(c.counter)
			got := w.connect(local, c.options, c.data)
			if after := r.count(c.counter); after != before+1 {
				t.Errorf("%s: got %d, want one more than %d", c.counter, after, before)
			}
			want := untold()
			if c.client != "" {
				want = told(netip.MustParseAddrPort(c.client))
			}
			if c.client == "" || netip.MustParseAddrPort(c.client).Addr().Is6() {
				want.Accept, want.Getpeername = shown(local), shown(local)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	r.detach()
}

// A lanEnd is the balancer's end of the servers' network, with no fnatd on it.
type lanEnd struct {
	*realServer
	link packettest.Link
	in   *netns.Capture
	fd   int
	to   unix.SockaddrLinklayer
}

func (r *realServer) lanEnd() *lanEnd {
	r.Helper()
	ifname := r.ServerSide()
	w := &lanEnd{realServer: r, fd: -1}
	mac := func(of *netns.Host, ifname string) net.HardwareAddr {
		m, err := of.MAC(ifname)
		if err != nil {
			r.Fatal(err)
		}
		return m
	}
	copy(w.link.SrcMAC[:], mac(r.Balancer, ifname))
	copy(w.link.DstMAC[:], mac(r.host, "eth0"))
	for _, lip := range []string{trustedLIP, strangeLIP} {
		r.must(r.host.AddNeighbour("eth0", netip.MustParseAddr(lip), mac(r.Balancer, ifname)))
	}
	index, err := r.Balancer.Index(ifname)
	if err != nil {
		r.Fatal(err)
	}
	w.to = unix.SockaddrLinklayer{Ifindex: index, Halen: 6}
	if w.in, err = r.Balancer.Capture(ifname); err != nil {
		r.Fatal(err)
	}
	err = r.Balancer.Do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *lanEnd) send(local netip.AddrPort, s packettest.TCP) {
	w.Helper()
	s.Link, s.Src, s.Dst = w.link, packet.EndpointFrom(local), packet.EndpointFrom(w.rip(0, portAsks))
	w.put(s.Frame())
}

func (w *lanEnd) put(f packettest.Frame) {
	w.Helper()
	if err := unix.Sendto(w.fd, f.Bytes(), 0, &w.to); err != nil {
		w.Fatal(err)
	}
}

// receive waits for a segment to local that matches.
func (w *lanEnd) receive(what string, local netip.AddrPort, match func(*segment) bool) (got segment) {
	w.Helper()
	w.eventually(fmt.Sprintf("%v receives %s", local, what), func() bool {
		found := only(segments(w.in.Frames()), func(s *segment) bool { return !s.sent && s.dst == local && match(s) })
		if len(found) > 0 {
			got = found[0]
		}
		return len(found) > 0
	})
	return got
}

// connect opens a connection from local with these options on the segment that
// completes the handshake, and returns what asks.py says about it.
func (w *lanEnd) connect(local netip.AddrPort, options []byte, data bool) (answer asked) {
	w.Helper()
	return w.connectAfter(local, nil, func() {}, options, data)
}

// connectAfter is connect with further options on the SYN, and something to be
// done before the handshake is completed.
func (w *lanEnd) connectAfter(local netip.AddrPort, syn []byte, before func(), options []byte, data bool) (answer asked) {
	w.Helper()
	w.send(local, packettest.TCP{Flags: packet.SYN, Seq: 1000, Options: append([]byte{2, 4, 1460 >> 8, 1460 & 255}, syn...)})
	ack := w.receive("a SYN-ACK", local, func(s *segment) bool { return s.flags == packet.SYN|packet.ACK && s.ack == 1001 }).seq + 1
	before()
	third := packettest.TCP{Flags: packet.ACK, Seq: 1001, Ack: ack, Options: options}
	if data {
		third.Flags |= packet.PSH
		third.Payload = []byte("hello")
	}
	w.send(local, third)
	got := w.receive("an answer", local, func(s *segment) bool { return len(s.payload) > 0 })
	w.send(local, packettest.TCP{Flags: packet.RST | packet.ACK, Seq: 1001 + uint32(len(third.Payload)), Ack: got.seq + uint32(len(got.payload))})
	if err := json.Unmarshal(got.payload, &answer); err != nil {
		w.Fatalf("answer %q: %v", got.payload, err)
	}
	return answer
}
