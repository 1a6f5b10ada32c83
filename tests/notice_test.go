package tests

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/netns"
)

// udpNotices checks both forms of the notice, its echo and its count.
func udpNotices(b *bed) {
	b.echoServer(0)
	b.meet()
	b.start(echo("notice_length = 42", 0))
	for sent, length := range []byte{42, 44} {
		b.reload(echo(fmt.Sprintf("notice_length = %d", length), 0))
		capture := b.capture(b.Servers[0])
		c := b.udpClient(netns.ClientAddr)
		for range 3 {
			if err := c.ask([]byte("question")); err != nil {
				b.Fatal(err)
			}
		}
		b.eventually("the notice is acknowledged", func() bool { return b.service("echo").ClientAddresses.Notices.Acknowledged > uint64(sent) })
		var all [][]byte
		for _, f := range b.frames(capture) {
			if d := datagram(f); d != nil {
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

// checkNotice checks the first of the datagrams at the server against the layout
// that ip_vs_ca reads, and that the kernel has echoed it.
func checkNotice(b *bed, length byte, all [][]byte, client netip.AddrPort) {
	b.Helper()
	notice := bytes.Clone(all[0])
	question := all[slices.IndexFunc(all, func(d []byte) bool { return d[9] == unix.IPPROTO_UDP })]
	lip, local := question[12:16], question[20:22]
	rip4 := netns.ServerAddr(0).AsSlice()
	want := []byte{
		0x45, 0, 0, length, // no TOS, total length
		0, 0, 0x40, 0, // identification 0, DF
		60, 1, 0, 0, // TTL, ICMP, checksum
	}
	want = join(want, lip, rip4)
	want = append(want,
		8, 0, 0, 0, // echo request, checksum
		0x34, 0x12, 0, 0, // identifier as a little-endian sender leaves 0x1234, sequence 0
		0x7b, 17) // magic, UDP
	want = join(want, local, []byte{0, 7}) // local and real port
	if length == 44 {
		want = append(want, 0, 0) // padding
	}
	want = join(want, toa(client))

	echoed := false
	for _, d := range all {
		if d[9] == unix.IPPROTO_ICMP && d[20] == 0 {
			echoed = bytes.Equal(d[24:], notice[24:]) && bytes.Equal(d[16:20], lip)
		}
	}
	if !echoed {
		b.Errorf("form of %d bytes: the server has not echoed the notice", length)
	}
	clear(notice[10:12]) // the checksums have been checked
	clear(notice[22:24])
	if !bytes.Equal(notice, want) {
		b.Errorf("form of %d bytes: got\n% x\nwant\n% x", length, notice, want)
	}
}
