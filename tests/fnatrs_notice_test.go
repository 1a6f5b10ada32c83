package tests

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/realserver"
)

// A notice is an echo request by hand. Its zero value, with a Local, announces
// forged at a datagram server of server 0.
type notice struct {
	local  netip.AddrPort
	client netip.AddrPort // the zero AddrPort is forged
	proto  byte           // 0 is UDP
	real   uint16         // 0 is portRecvfrom
	rip    netip.Addr     // the zero Addr is server 0's
	padded bool
	spoil  func(data []byte) []byte
	id     uint16
	damage bool // of the checksum
}

func (w *lanEnd) notice(n notice) {
	w.Helper()
	if n.proto == 0 {
		n.proto = packet.ProtoUDP
	}
	if n.real == 0 {
		n.real = portRecvfrom
	}
	if !n.client.IsValid() {
		n.client = forged
	}
	if !n.rip.IsValid() {
		n.rip = w.rip(0, 0).Addr()
	}
	if n.id == 0 {
		n.id = 0x3412
	}
	data := binary.BigEndian.AppendUint16([]byte{123, n.proto}, n.local.Port())
	data = binary.BigEndian.AppendUint16(data, n.real)
	if n.padded {
		data = append(data, 0, 0)
	}
	data = append(data, toa(n.client)...)
	if n.spoil != nil {
		data = n.spoil(data)
	}
	f := packettest.ICMP{
		Link: w.link, Src: packet.AddrFromNetip(n.local.Addr()), Dst: packet.AddrFromNetip(n.rip),
		Type: 8, ID: n.id, Body: data,
	}.Frame()
	if n.damage {
		f.Bytes()[len(f.Bytes())-1] ^= 1
	}
	w.put(f)
}

// tell sends a datagram from a local address and port, and returns what the
// server answers to there.
func (w *lanEnd) tell(local, server netip.AddrPort) string {
	w.Helper()
	count := len(w.answers(local))
	w.put(packettest.UDP{
		Link: w.link, Src: packet.EndpointFrom(local), Dst: packet.EndpointFrom(server), Payload: []byte("who am I?"),
	}.Frame())
	w.eventually(fmt.Sprintf("%v is answered", local), func() bool { return len(w.answers(local)) > count })
	return w.answers(local)[count]
}

// answers returns the payloads of the datagrams to an address and port so far.
func (w *lanEnd) answers(to netip.AddrPort) (all []string) {
	var p packet.Packet
	for _, f := range w.in.Frames() {
		if p.Parse(f.Data, 0, len(f.Data)) == packet.Kept && p.Flow.Proto == packet.ProtoUDP && p.Flow.Destination().Netip() == to {
			all = append(all, string(f.Data[p.Payload:p.End]))
		}
	}
	return all
}

// lip returns a port of the address that fnatrs trusts.
func lip(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(trustedLIP), uint16(port))
}

// startRecvfrom starts the datagram server at these addresses of server 0.
func (r *realServer) startRecvfrom(at ...netip.AddrPort) {
	r.Helper()
	for _, addr := range at {
		r.serve("", r.listening("udp", addr), r.cServers(), "recvfrom", addr.Addr().String(), fmt.Sprint(addr.Port()))
	}
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

func set(at int, to byte) func([]byte) []byte {
	return func(b []byte) []byte { b[at] = to; return b }
}

func more(n int) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, make([]byte, n)...) }
}

// noticeCases are notices, and what becomes of them.
var noticeCases = []struct {
	name    string
	from    string // trustedLIP if empty
	notice  notice
	counter realserver.Counter
	shown   bool // the datagram that follows is the client's
}{
	{name: "42_bytes", counter: realserver.Noticed, shown: true},
	{name: "44_bytes", notice: notice{padded: true}, counter: realserver.Noticed, shown: true},
	{name: "ipv6_client", notice: notice{client: forged6}, counter: realserver.Noticed},
	{name: "ipv6_client_padded", notice: notice{client: forged6, padded: true}, counter: realserver.Noticed},
	{name: "of_tcp", notice: notice{proto: packet.ProtoTCP}, counter: realserver.Noticed},
	{name: "of_another_port", notice: notice{real: 53}, counter: realserver.Noticed},
	{name: "untrusted", from: strangeLIP, counter: realserver.NoticeUntrusted},
	{name: "untrusted_and_broken", from: strangeLIP, notice: notice{spoil: cut(3)}, counter: realserver.NoticeUntrusted},
	{name: "damaged", notice: notice{damage: true}, counter: realserver.NoticeChecksum},
	{name: "magic_124", notice: notice{spoil: set(0, 124)}, counter: realserver.NoticeMagic},
	{name: "protocol_1", notice: notice{spoil: set(1, 1)}, counter: realserver.NoticeProtocol},
	{name: "nothing", notice: notice{spoil: cut(0)}, counter: realserver.NoticeLength},
	{name: "a_byte_short", notice: notice{spoil: cut(13)}, counter: realserver.NoticeLength},
	{name: "a_byte_long", notice: notice{spoil: more(1)}, counter: realserver.NoticeLength},
	{name: "four_bytes_long", notice: notice{spoil: more(4)}, counter: realserver.NoticeLength},
	{name: "a_page_long", notice: notice{spoil: more(1400)}, counter: realserver.NoticeLength},
	{name: "ipv6_cut", notice: notice{client: forged6, spoil: cut(25)}, counter: realserver.NoticeLength},
	{name: "padding_missing", notice: notice{spoil: more(2)}, counter: realserver.NoticeOption},
	{name: "kind_77", notice: notice{spoil: set(6, 77)}, counter: realserver.NoticeOption},
	{name: "option_length_20_of_8", notice: notice{spoil: set(7, 20)}, counter: realserver.NoticeOption},
	{name: "option_length_8_of_20", notice: notice{client: forged6, spoil: set(7, 8)}, counter: realserver.NoticeOption},
	{name: "port_0", notice: notice{client: netip.MustParseAddrPort("192.0.2.66:0")}, counter: realserver.NoticeAddress},
	{name: "no_address", notice: notice{client: netip.MustParseAddrPort("0.0.0.0:6666")}, counter: realserver.NoticeAddress},
	{name: "multicast", notice: notice{client: netip.MustParseAddrPort("239.0.0.1:6666")}, counter: realserver.NoticeAddress},
	{name: "multicast_ipv6", notice: notice{client: netip.MustParseAddrPort("[ff02::1]:6666")}, counter: realserver.NoticeAddress},
}

// TestFnatrsReadsNotices makes them by hand, read in either way.
func TestFnatrsReadsNotices(t *testing.T) {
	for name, flags := range map[string][]string{"icmp_sockets": nil, "tcx": {"--interface", "eth0"}} {
		t.Run(name, func(t *testing.T) {
			r := newRealServer(t)
			r.attach(append(flags, "--trust", trustLIPs)...)
			at := r.rip(0, portRecvfrom)
			r.startRecvfrom(at)
			w := r.lanEnd()
			for i, c := range noticeCases {
				t.Run(c.name, func(t *testing.T) {
					c.notice.local = lip(40000 + i)
					if c.from != "" {
						c.notice.local = netip.AddrPortFrom(netip.MustParseAddr(c.from), c.notice.local.Port())
					}
					before := r.count(c.counter)
					w.notice(c.notice)
					r.eventually(fmt.Sprintf("%s is one more than %d", c.counter, before), func() bool { return r.count(c.counter) == before+1 })
					want := c.notice.local
					if c.shown {
						want = forged
					}
					if got := w.tell(c.notice.local, at); got != want.String() {
						t.Errorf("got %s, want %s", got, want)
					}
				})
			}
			before := r.count(realserver.Noticed)
			w.notice(notice{local: lip(50000), id: 7})
			if got := w.tell(lip(50000), at); got != lip(50000).String() || r.count(realserver.Noticed) != before {
				t.Errorf("after an ordinary ping: got %s, and %s counted", got, realserver.Noticed)
			}
			r.detach()
		})
	}
}

// TestFnatrsFollowsLocalPorts lets a LIP's port pass from client to client.
func TestFnatrsFollowsLocalPorts(t *testing.T) {
	r := newRealServer(t)
	r.attach("--trust", trustLIPs)
	at, local := r.rip(0, portRecvfrom), lip(40000)
	c := r.ownSocket(at)
	w := r.lanEnd()
	heard := func(when string, from, want netip.AddrPort) {
		t.Helper()
		buf := make([]byte, 64)
		w.put(packettest.UDP{Link: w.link, Src: packet.EndpointFrom(from), Dst: packet.EndpointFrom(at), Payload: []byte("hello")}.Frame())
		c.SetReadDeadline(time.Now().Add(patience))
		_, got, err := c.ReadFromUDPAddrPort(buf)
		if got = netip.AddrPortFrom(got.Addr().Unmap(), got.Port()); err != nil || got != want {
			t.Fatalf("%s: got %v, %v, want %v", when, got, err, want)
		}
	}
	said := func(when string, to, want netip.AddrPort) {
		t.Helper()
		before := len(w.answers(want))
		if _, err := c.WriteToUDPAddrPort([]byte(when), to); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		r.eventually(fmt.Sprintf("%s: what is sent to %v goes to %v", when, to, want), func() bool { return len(w.answers(want)) > before })
	}
	first := netip.AddrPortFrom(netip.MustParseAddr(strangeLIP), 5555) // one that can be reached
	second := netip.MustParseAddrPort("192.0.2.77:7777")

	heard("before the notice", local, local)
	w.notice(notice{local: local, client: first})
	heard("after it", local, first)
	said("the answer", first, local)
	w.notice(notice{local: lip(40001), client: first})
	heard("the same client, by another port", lip(40001), first)
	said("its answer", first, lip(40001))
	heard("the first port again", local, first)
	said("its answer, then", first, local)
	heard("the same client past the balancer", first, first)
	said("its answer goes past it", first, first)
	heard("by the balancer once more", local, first)
	said("and back", first, local)

	before := r.count(realserver.Noticed)
	w.notice(notice{local: local, client: second})
	r.eventually("the notice has come", func() bool { return r.count(realserver.Noticed) > before })
	said("an answer to the first one, of whom it has heard last, goes to no other", first, first)
	heard("the port is another client's", local, second)
	said("its answer", second, local)
	said("a late answer to the first one goes to no other", first, first)
	r.detach()
}

// ownSocket returns a UDP socket of this process in the cgroup.
func (r *realServer) ownSocket(at netip.AddrPort) *net.UDPConn {
	r.Helper()
	leave, err := r.cgroup.Enter()
	if err != nil {
		r.Fatal(err)
	}
	c, err := r.host.ListenPacket("udp", at.String())
	if back := leave(); err != nil || back != nil {
		r.Fatal(err, back)
	}
	return c.(*net.UDPConn)
}

// TestFnatrsTellsNobodyInDoubt has flows that differ in the server's address alone, or in
// its port.
func TestFnatrsTellsNobodyInDoubt(t *testing.T) {
	r := newRealServer(t)
	first, other := r.rip(0, 0).Addr(), netns.ServerAddr(50)
	if err := r.host.AddAddress("eth0", netip.PrefixFrom(other, 24)); err != nil {
		t.Fatal(err)
	}
	r.attach("--trust", trustLIPs)
	const bound, wildcard, beside = portRecvfrom, portRecvmmsg, portGo
	r.startRecvfrom(netip.AddrPortFrom(first, bound), netip.AddrPortFrom(first, beside), netip.AddrPortFrom(other, bound), netip.AddrPortFrom(netip.IPv4Unspecified(), wildcard))
	w := r.lanEnd()
	second, third := netip.MustParseAddrPort("192.0.2.77:7777"), netip.MustParseAddrPort("192.0.2.78:7778")
	w.notice(notice{local: lip(40000), real: beside, rip: first, client: third})
	for _, port := range []uint16{bound, wildcard} {
		w.notice(notice{local: lip(40000), real: port, rip: first, client: forged})
		w.notice(notice{local: lip(40000), real: port, rip: other, client: second})
	}
	r.eventually("the notices have come", func() bool { return r.count(realserver.Noticed) == 5 })
	for _, test := range []struct{ at, want netip.AddrPort }{
		{netip.AddrPortFrom(first, bound), forged},
		{netip.AddrPortFrom(first, beside), third},
		{netip.AddrPortFrom(other, bound), second},
		{netip.AddrPortFrom(first, bound), forged},
		{netip.AddrPortFrom(first, wildcard), lip(40000)},
		{netip.AddrPortFrom(other, wildcard), lip(40000)},
	} {
		if got := w.tell(lip(40000), test.at); got != test.want.String() {
			t.Errorf("%v: got %s, want %s", test.at, got, test.want)
		}
	}
	if got := r.count(realserver.Ambiguous); got != 2 {
		t.Errorf("ambiguous: got %d, want 2", got)
	}
	r.detach()
}

// TestFnatrsReadsAhead has the client told before the handshake is complete.
func TestFnatrsReadsAhead(t *testing.T) {
	r := newRealServer(t)
	r.attach("--trust", trustLIPs, "--ttm-kind", "77")
	r.asks()
	w := r.lanEnd()
	other := netip.MustParseAddrPort("192.0.2.77:7777")
	nothing := func() {}

	checkAsked(t, "on the SYN", w.connectAfter(lip(40000), toa(forged), nothing, nil, false), forged, lip(40000))
	checkAsked(t, "and another on the ACK", w.connectAfter(lip(40001), toa(forged), nothing, toa(other), false), other, lip(40001))
	checkAsked(t, "ttm's on the SYN", w.connectAfter(lip(40002), ttm(forged), nothing, nil, false), forged, lip(40002))
	checkAsked(t, "ttm's on the ACK", w.connect(lip(40003), ttm(forged), false), forged, lip(40003))
	checkAsked(t, "from a stranger", w.connectAfter(netip.MustParseAddrPort(strangeLIP+":40004"), toa(forged), nothing, nil, false),
		netip.AddrPort{}, netip.MustParseAddrPort(strangeLIP+":40004"))
	checkAsked(t, "two clients on the SYN", w.connectAfter(lip(40005), join(toa(forged), toa(other)), nothing, nil, false), netip.AddrPort{}, lip(40005))

	w.notice(notice{local: lip(40006), proto: packet.ProtoTCP, real: portAsks})
	checkAsked(t, "by a notice", w.connect(lip(40006), nil, false), forged, lip(40006))

	// A SYN that came to nothing must not name the client of the next.
	w.send(lip(40007), packettest.TCP{Flags: packet.SYN, Seq: 1, Options: toa(forged)})
	w.receive("a SYN-ACK", lip(40007), func(s *segment) bool { return s.flags == packet.SYN|packet.ACK })
	w.send(lip(40007), packettest.TCP{Flags: packet.RST, Seq: 2})
	checkAsked(t, "without, after another's SYN", w.connect(lip(40007), nil, false), netip.AddrPort{}, lip(40007))

	for counter, want := range map[realserver.Counter]uint64{
		realserver.LearnedAhead: 3, realserver.Untrusted: 1, realserver.Contradiction: 1, realserver.NoOption: 3,
	} {
		if got := r.count(counter); got != want {
			t.Errorf("%s: got %d, want %d", counter, got, want)
		}
	}
	r.detach()
}

// checkAsked compares what asks.py has learnt with what it should know of a
// client, which is the zero AddrPort if that is nothing.
func checkAsked(t *testing.T, when string, got asked, client, local netip.AddrPort) {
	t.Helper()
	want := untold()
	want.Accept, want.Getpeername = shown(local), shown(local)
	if client.IsValid() {
		want = told(client)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", when, diff)
	}
}
