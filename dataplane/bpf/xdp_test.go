package bpf

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/vishvananda/netlink"

	"github.com/fnatd/fnatd/internal/packet"
)

// XDP's verdicts (linux/bpf.h).
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

// What the program knows of while it runs over the packets below.
var (
	tcp4 = ServiceKey{packet.ProtoTCP, endpoint("192.0.2.1:80")}
	udp4 = ServiceKey{packet.ProtoUDP, endpoint("192.0.2.2:53")}
	tcp6 = ServiceKey{packet.ProtoTCP, endpoint("[2001:db8::1]:80")}

	local4 = LocalPorts{addr("10.0.0.1"), 5000, 6000}
	local6 = LocalPorts{addr("fd00::1"), 1024, 65535}
)

// Pieces of frames, put together by join.

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// eth returns an Ethernet header with the EtherTypes given; all but the last are
// those of VLAN tags.
func eth(types ...uint16) []byte {
	f := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for i, t := range types {
		if i > 0 {
			f = append(f, 0, 7) // the tag before: VLAN 7
		}
		f = binary.BigEndian.AppendUint16(f, t)
	}
	return f
}

// ip4 returns an IPv4 header; fragment is the word of flags and offset.
func ip4(dst string, proto uint8, fragment uint16, options ...byte) []byte {
	h := make([]byte, 20, 60)
	h[0], h[8], h[9] = byte(0x45+len(options)/4), 64, proto
	binary.BigEndian.PutUint16(h[6:], fragment)
	a := addr(dst).As4()
	copy(h[16:], a[:])
	return append(h, options...)
}

// ip6 returns an IPv6 header with its next header.
func ip6(dst string, next uint8) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next, 64
	a := addr(dst)
	copy(h[24:], a[:])
	return h
}

// extension returns an IPv6 extension header of 8 bytes and units more of 8.
func extension(next, units uint8) []byte {
	h := make([]byte, 8+8*int(units))
	h[0], h[1] = next, units
	return h
}

// fragment6 returns an IPv6 fragment header; offset is the word of offset and M.
func fragment6(next uint8, offset uint16) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{next, 0}, offset), 1)
}

// to returns the ports of a transport header, and what else of it fits in 8 bytes.
func to(port uint16) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0x9c, 0x40}, port), 0, 0, 0, 0)
}

// from4, from6 and from are ip4, ip6 and to for a quoted packet, of which the
// source is looked at.
func from4(src string, proto uint8, fragment uint16, options ...byte) []byte {
	h := ip4("0.0.0.0", proto, fragment, options...)
	a := addr(src).As4()
	copy(h[12:], a[:])
	return h
}

func from6(src string, next uint8) []byte {
	h := ip6("::", next)
	a := addr(src)
	copy(h[8:], a[:])
	return h
}

func from(port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, port), 0x9c, 0x40, 0, 0, 0, 0)
}

// icmp returns the eight bytes ahead of an error's quote.
func icmp(kind uint8) []byte { return []byte{kind, 0, 0, 0, 0, 0, 0, 0} }

func echo(kind, code uint8, id ...byte) []byte {
	return slices.Concat([]byte{kind, code, 0, 0}, id, []byte{0, 0})
}

var packets = []struct {
	name  string
	frame []byte
	want  Counter
}{
	{"tcp_to_service", join(eth(0x800), ip4("192.0.2.1", 6, 0), to(80)), Service},
	{"udp_to_service", join(eth(0x800), ip4("192.0.2.2", 17, 0), to(53)), Service},
	{"dont_fragment_is_no_fragment", join(eth(0x800), ip4("192.0.2.1", 6, 0x4000), to(80)), Service},
	{"ip_options", join(eth(0x800), ip4("192.0.2.1", 6, 0, make([]byte, 40)...), to(80)), Service},
	{"vlan_tag", join(eth(0x8100, 0x800), ip4("192.0.2.1", 6, 0), to(80)), Service},
	{"two_vlan_tags", join(eth(0x88a8, 0x8100, 0x800), ip4("192.0.2.1", 6, 0), to(80)), Service},
	{"three_vlan_tags", join(eth(0x88a8, 0x8100, 0x8100, 0x800), ip4("192.0.2.1", 6, 0), to(80)), Passed},
	{"other_protocol_same_port", join(eth(0x800), ip4("192.0.2.1", 17, 0), to(80)), Passed},
	{"ssh_to_vip", join(eth(0x800), ip4("192.0.2.1", 6, 0), to(22)), Passed},
	{"port_zero_is_not_the_wildcard", join(eth(0x800), ip4("192.0.2.1", 6, 0), to(0)), Passed},
	{"other_address", join(eth(0x800), ip4("192.0.2.9", 6, 0), to(80)), Passed},
	{"ping_to_vip", join(eth(0x800), ip4("192.0.2.1", 1, 0), echo(8, 0, 0x34, 0x12)), Passed},
	{"icmp_error_to_vip", join(eth(0x800), ip4("192.0.2.1", 1, 0), echo(3, 4, 0, 0)), Passed},
	{"broadcast_frame", join([]byte{0xff}, eth(0x800)[1:], ip4("192.0.2.1", 6, 0), to(80)), Passed},
	{"arp", join(eth(0x806), make([]byte, 28)), Passed},

	{"reply_to_first_local_port", join(eth(0x800), ip4("10.0.0.1", 6, 0), to(5000)), Local},
	{"reply_to_last_local_port", join(eth(0x800), ip4("10.0.0.1", 17, 0), to(6000)), Local},
	{"below_local_ports", join(eth(0x800), ip4("10.0.0.1", 6, 0), to(4999)), Passed},
	{"above_local_ports", join(eth(0x800), ip4("10.0.0.1", 6, 0), to(6001)), Passed},
	{"other_protocol_to_local", join(eth(0x800), ip4("10.0.0.1", 132, 0), to(5000)), Passed},

	{"notice_reply", join(eth(0x800), ip4("10.0.0.1", 1, 0), echo(0, 0, 0x34, 0x12)), Notice},
	{"notice_reply_other_byte_order", join(eth(0x800), ip4("10.0.0.1", 1, 0), echo(0, 0, 0x12, 0x34)), Passed},
	{"notice_reply_with_a_code", join(eth(0x800), ip4("10.0.0.1", 1, 0), echo(0, 1, 0x34, 0x12)), Passed},
	{"notice_reply_to_vip", join(eth(0x800), ip4("192.0.2.1", 1, 0), echo(0, 0, 0x34, 0x12)), Passed},
	{"ping_of_local", join(eth(0x800), ip4("10.0.0.1", 1, 0), echo(8, 0, 0x34, 0x12)), Passed},

	{"first_fragment_to_service", join(eth(0x800), ip4("192.0.2.2", 17, 0x2000), to(53)), Fragment},
	{"first_fragment_goes_by_address", join(eth(0x800), ip4("192.0.2.2", 17, 0x2000), to(54)), Fragment},
	{"last_fragment_to_service", join(eth(0x800), ip4("192.0.2.2", 17, 0x00b9)), Fragment},
	{"fragment_of_other_protocol", join(eth(0x800), ip4("192.0.2.2", 6, 0x2000), to(53)), Passed},
	{"fragment_of_big_ping_to_vip", join(eth(0x800), ip4("192.0.2.2", 1, 0x2000), to(53)), Passed},
	{"fragment_to_local", join(eth(0x800), ip4("10.0.0.1", 17, 0x00b9)), Fragment},
	{"fragment_of_notice_reply", join(eth(0x800), ip4("10.0.0.1", 1, 0x2000), echo(0, 0, 0x34, 0x12)), Passed},

	{"ipv6_to_service", join(eth(0x86dd), ip6("2001:db8::1", 6), to(80)), Service},
	{"ipv6_other_port", join(eth(0x86dd), ip6("2001:db8::1", 6), to(81)), Passed},
	{"ipv6_to_local", join(eth(0x86dd), ip6("fd00::1", 17), to(1024)), Local},
	{"ipv6_notice_reply", join(eth(0x86dd), ip6("fd00::1", 58), echo(129, 0, 0x34, 0x12)), Notice},
	{"ipv6_neighbour_advertisement", join(eth(0x86dd), ip6("fd00::1", 58), echo(136, 0, 0x34, 0x12)), Passed},
	{"ipv6_extension_headers", join(eth(0x86dd), ip6("2001:db8::1", 0), extension(43, 0), extension(60, 2), extension(6, 30), to(80)), Service},
	{"ipv6_too_many_extension_headers", join(eth(0x86dd), ip6("2001:db8::1", 0), extension(60, 0), extension(60, 0), extension(60, 0), extension(60, 0), extension(60, 0), extension(60, 0), extension(6, 0), to(80)), Passed},
	{"ipv6_first_fragment", join(eth(0x86dd), ip6("2001:db8::1", 44), fragment6(6, 1), to(80)), Fragment},
	{"ipv6_last_fragment", join(eth(0x86dd), ip6("2001:db8::1", 44), fragment6(6, 0xb8)), Fragment},
	{"ipv6_later_fragment_of_options", join(eth(0x86dd), ip6("2001:db8::1", 44), fragment6(60, 0xb8), extension(6, 0), to(80)), Passed},
	{"ipv6_atomic_fragment", join(eth(0x86dd), ip6("2001:db8::1", 44), fragment6(6, 0), to(80)), Service},
	{"ipv6_mapped_address_is_not_the_ipv4_one", join(eth(0x800), ip4("10.0.0.1", 41, 0), ip6("2001:db8::1", 6), to(80)), Passed},

	{"only_ethernet", eth(0x800), Passed},
	{"cut_in_vlan_tag", eth(0x8100, 0x800)[:16], Passed},
	{"cut_in_ipv4", join(eth(0x800), ip4("192.0.2.1", 6, 0)[:19]), Passed},
	{"cut_in_ipv4_options", join(eth(0x800), ip4("192.0.2.1", 6, 0, 1, 1, 1, 1)[:22]), Passed},
	{"cut_in_ports", join(eth(0x800), ip4("192.0.2.1", 6, 0), to(80)[:3]), Passed},
	{"cut_in_echo", join(eth(0x800), ip4("10.0.0.1", 1, 0), echo(0, 0, 0x34, 0x12)[:7]), Passed},
	{"cut_in_ipv6", join(eth(0x86dd), ip6("2001:db8::1", 6)[:39]), Passed},
	{"cut_in_extension_header", join(eth(0x86dd), ip6("2001:db8::1", 60), extension(6, 0)[:7]), Passed},
	{"extension_header_past_the_end", join(eth(0x86dd), ip6("2001:db8::1", 60), []byte{6, 255, 0, 0, 0, 0, 0, 0}, to(80)), Passed},
	{"error_about_what_a_service_sent", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(3), from4("192.0.2.1", 6, 0), from(80)), ICMPError},
	{"error_about_what_a_local_port_sent", join(eth(0x800), ip4("10.0.0.1", 1, 0), icmp(11), from4("10.0.0.1", 17, 0), from(5000)), ICMPError},
	{"error_about_quoted_ip_options", join(eth(0x800), ip4("10.0.0.1", 1, 0), icmp(12), from4("10.0.0.1", 17, 0, make([]byte, 8)...), from(5000)), ICMPError},
	{"error_about_the_hosts_own_port", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(3), from4("192.0.2.1", 6, 0), from(22)), Passed},
	{"error_about_another_address", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(3), from4("192.0.2.9", 6, 0), from(80)), Passed},
	{"error_about_a_fragment", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(3), from4("192.0.2.1", 6, 0x2000), from(80)), Passed},
	{"error_about_an_icmp_message", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(3), from4("192.0.2.1", 1, 0), from(80)), Passed},
	{"error_without_a_quote", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(3)), Passed},
	{"error_cut_in_the_quote", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(3), from4("192.0.2.1", 6, 0), from(80)[:3]), Passed},
	{"redirect_is_the_kernels", join(eth(0x800), ip4("192.0.2.1", 1, 0), icmp(5), from4("192.0.2.1", 6, 0), from(80)), Passed},
	{"icmpv6_error_about_what_a_service_sent", join(eth(0x86dd), ip6("2001:db8::1", 58), icmp(2), from6("2001:db8::1", 6), from(80)), ICMPError},
	{"icmpv6_error_about_a_later_fragment", join(eth(0x86dd), ip6("2001:db8::1", 58), icmp(2), from6("2001:db8::1", 44), fragment6(6, 8), from(80)), Passed},
	{"icmpv6_error_about_another_address", join(eth(0x86dd), ip6("2001:db8::1", 58), icmp(2), from6("2001:db8::9", 6), from(80)), Passed},
	{"neighbour_solicitation", join(eth(0x86dd), ip6("2001:db8::1", 58), icmp(135), make([]byte, 48)), Passed},
	{"wrong_ip_version", join(eth(0x800), []byte{0x65}, ip4("192.0.2.1", 6, 0)[1:], to(80)), Passed},
	{"ip_header_length_below_minimum", join(eth(0x800), []byte{0x44}, ip4("192.0.2.1", 6, 0)[1:], to(80)), Passed},
}

// run runs the program over a frame, as if it came in on queue 0 of lo, and checks
// its verdict and that it scored want once and nothing else.
func (p *Program) run(t *testing.T, frame []byte, verdict uint32, want Counter) {
	t.Helper()
	before, err := p.Counters()
	must(t, err)
	got, err := p.objs.FnatdXdp.Run(&ebpf.RunOptions{Data: frame})
	must(t, err)
	if got != verdict {
		t.Errorf("verdict %d, want %d", got, verdict)
	}
	after, err := p.Counters()
	must(t, err)
	before[want]++
	for c := range after {
		if after[c] != before[c] {
			t.Errorf("counter %s went to %d, want %d", Counter(c), after[c], before[c])
		}
	}
}

// loopback returns the index of lo, where Program.Run lets packets come in. It is 1 in
// every namespace, so that subtests need not run in the test's own.
func loopback(t testing.TB) int {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	return lo.Attrs().Index
}

// plain returns the services, without guards, as SetServices takes them.
func plain(keys ...ServiceKey) map[ServiceKey]*Guard {
	services := make(map[ServiceKey]*Guard)
	for _, k := range keys {
		services[k] = nil
	}
	return services
}

func loadWithTables(t *testing.T) *Program {
	t.Helper()
	p := mustLoad(t, pinDir(t))
	must(t, p.SetServices(plain(tcp4, udp4, tcp6)))
	must(t, p.SetLocals([]LocalPorts{local4, local6}))
	return p
}

func TestVerdict(t *testing.T) {
	privateNetns(t)
	p := loadWithTables(t)
	sock := openSocket(t, p, loopback(t))
	for _, tt := range packets {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == Passed {
				p.run(t, tt.frame, xdpPass, Passed)
			} else {
				p.run(t, tt.frame, xdpRedirect, tt.want)
			}
		})
	}
	must(t, sock.Close())
	for _, tt := range packets {
		t.Run("unserved/"+tt.name, func(t *testing.T) {
			if tt.want == Passed {
				p.run(t, tt.frame, xdpPass, Passed)
			} else {
				p.run(t, tt.frame, xdpDrop, Unserved)
			}
		})
	}
}

func TestSetServices(t *testing.T) {
	privateNetns(t)
	p := loadWithTables(t)
	openSocket(t, p, loopback(t))
	toTCP := join(eth(0x800), ip4("192.0.2.1", 6, 0), to(80))
	toUDP := join(eth(0x800), ip4("192.0.2.2", 17, 0), to(53))

	must(t, p.SetServices(plain(tcp4, tcp6)))
	p.run(t, toTCP, xdpRedirect, Service)
	p.run(t, toUDP, xdpPass, Passed)
	p.run(t, join(eth(0x800), ip4("192.0.2.2", 17, 0x2000), to(53)), xdpPass, Passed)
	must(t, p.SetServices(plain(udp4)))
	p.run(t, toTCP, xdpPass, Passed)
	p.run(t, toUDP, xdpRedirect, Service)
	must(t, p.SetServices(nil))
	p.run(t, toUDP, xdpPass, Passed)
}

func TestSetLocals(t *testing.T) {
	privateNetns(t)
	p := loadWithTables(t)
	openSocket(t, p, loopback(t))
	moved := local4
	moved.PortMin, moved.PortMax = 7000, 7000
	must(t, p.SetLocals([]LocalPorts{moved}))
	p.run(t, join(eth(0x800), ip4("10.0.0.1", 6, 0), to(5000)), xdpPass, Passed)
	p.run(t, join(eth(0x800), ip4("10.0.0.1", 6, 0), to(7000)), xdpRedirect, Local)
	p.run(t, join(eth(0x86dd), ip6("fd00::1", 17), to(1024)), xdpPass, Passed)
}

// A fresh table takes all keys, one key more says how many there is room for.
func TestTableFull(t *testing.T) {
	privateNetns(t)
	p := mustLoad(t, pinDir(t))
	room := p.objs.Locals.MaxEntries()
	locals := make([]LocalPorts, room+1)
	for i := range locals {
		binary.BigEndian.PutUint32(locals[i].Addr[12:], uint32(i))
	}
	must(t, p.SetLocals(locals[:room]))
	err := p.SetLocals(locals)
	if want := "xdp program: local addresses: 16385 entries: the program has room for 16384"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestSocketOfImpossibleQueue(t *testing.T) {
	privateNetns(t)
	p := mustLoad(t, pinDir(t))
	for _, queue := range []int{-1, p.maxQueues()} {
		if err := p.SetSocket(loopback(t), queue, 0); err == nil {
			t.Errorf("queue %d: no error", queue)
		}
	}
}

// The C enum is the table of names: every value has one, and they agree.
func TestCounterNames(t *testing.T) {
	spec, err := loadXdp()
	must(t, err)
	var enum *btf.Enum
	must(t, spec.Types.TypeByName("counter", &enum))
	if len(enum.Values) != NumCounters+1 {
		t.Fatalf("enum counter has %d values, want %d and NUM_COUNTERS", len(enum.Values), NumCounters)
	}
	for i, v := range enum.Values[:NumCounters] {
		want := "COUNTER_" + strings.ToUpper(Counter(i).String())
		if v.Name != want || v.Value != uint64(i) {
			t.Errorf("value %d of enum counter is %s = %d, want %s = %d", i, v.Name, v.Value, want, i)
		}
	}
	if got := Counter(NumCounters).String(); got != "unknown" {
		t.Errorf("counter out of range is called %q", got)
	}
}
