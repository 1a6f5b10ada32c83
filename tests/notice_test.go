package tests

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/ctl"
)

// udpNotices checks both forms of the notice, its echo and its count.
func udpNotices(b *bed) {
	b.echoServer(0)
	b.meet()
	b.start(b.echoService("notice_length = 42", 0))
	for sent, length := range []byte{42, 44} {
		b.reload(b.echoService(fmt.Sprintf("notice_length = %d", length), 0))
		capture := b.capture(b.Servers[0])
		c := b.udpClient(b.clientAddr())
		for range 3 {
			if err := c.ask([]byte("question")); err != nil {
				b.Fatal(err)
			}
		}
		b.eventually("the notice is acknowledged", func() bool { return b.service("echo").ClientAddresses.Notices.Acknowledged > uint64(sent) })
		var all [][]byte
		for _, f := range b.frames(capture) {
			if d := datagram(f); d != nil && !neighbourDiscovery(d) {
				all = append(all, d)
			}
		}
		if len(all) != 8 {
			b.Fatalf("got %d datagrams, want a notice, its echo, three questions, three answers", len(all))
		}
		checkNotice(b, length, all, c.LocalAddr().(*net.UDPAddr).AddrPort())
		want := ctl.Notices{Sent: uint64(sent) + 1, Acknowledged: uint64(sent) + 1}
		if got := b.service("echo").ClientAddresses.Notices; got != want {
			b.Errorf("notices: got %+v, want %+v", got, want)
		}
	}
}

// neighbourDiscovery reports whether a datagram is IPv6's own housekeeping: RFC
// 4861, section 4, or a report of multicast listeners behind a hop-by-hop option.
func neighbourDiscovery(d []byte) bool {
	proto, b := transport(d)
	return d[0]>>4 == 6 && (proto == 0 || proto == unix.IPPROTO_ICMPV6 && b[0] >= 133 && b[0] <= 137)
}

// checkNotice checks the first of the datagrams at the server against the layout
// that ip_vs_ca reads, and that the kernel has echoed it.
func checkNotice(b *bed, length byte, all [][]byte, client netip.AddrPort) {
	b.Helper()
	notice := bytes.Clone(all[0])
	_, question := transport(all[slices.IndexFunc(all, func(d []byte) bool { proto, _ := transport(d); return proto == unix.IPPROTO_UDP })])
	local := question[:2]
	data := join([]byte{0x7b, 17}, local, []byte{0, 7}) // magic, UDP, local and real port
	if length == 44 {
		data = append(data, 0, 0) // padding
	}
	data = join(data, toa(client))
	var header []byte
	lip, at, request, answer := notice[12:16], 20, byte(8), byte(0)
	if b.server == 6 {
		lip, at, request, answer = notice[8:24], 40, 128, 129
		header = []byte{
			0x60, 0, 0, 0, // no class, no label
			0, byte(8 + len(data)), unix.IPPROTO_ICMPV6, 60, // length, hop limit
		}
	} else {
		header = []byte{
			0x45, 0, 0, byte(28 + len(data)), // no TOS, total length
			0, 0, 0x40, 0, // identification 0, DF
			60, unix.IPPROTO_ICMP, 0, 0, // TTL, checksum
		}
	}
	want := join(header, lip, b.rip(0, 7).Addr().AsSlice(),
		[]byte{request, 0, 0, 0, 0x34, 0x12, 0, 0}, // identifier as a little-endian sender leaves 0x1234, sequence 0
		data)
	if client.Addr().Is4() && b.server == 4 && len(want) != int(length) {
		b.Errorf("a notice has %d bytes, want %d", len(want), length)
	}

	echoed := false
	for _, d := range all {
		if proto, m := transport(d); (proto == unix.IPPROTO_ICMP || proto == unix.IPPROTO_ICMPV6) && m[0] == answer {
			echoed = bytes.Equal(m[4:], notice[at+4:]) && bytes.Contains(d[:at], lip)
		}
	}
	if !echoed {
		b.Errorf("form of %d bytes: the server has not echoed the notice", length)
	}
	if b.server == 4 { // the checksums have been checked
		clear(notice[10:12])
	}
	clear(notice[at+2 : at+4])
	if !bytes.Equal(notice, want) {
		b.Errorf("form of %d bytes: got\n% x\nwant\n% x", length, notice, want)
	}
}
