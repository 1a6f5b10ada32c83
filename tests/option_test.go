package tests

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/harness"
)

// An optionForm is a way to tell a real server its client's address in a TCP
// option: what is configured, and what is then to be on the wire.
type optionForm struct {
	name, keys string
	onSYN      bool
	strip      bool // timestamps
	ipv4       bool // it has no room for an IPv6 client
	bytes      func(client netip.AddrPort) []byte
}

var optionForms = []optionForm{
	{name: "toa", keys: `client_address = "toa"`, bytes: toa},
	{name: "toa_strip", keys: "client_address = \"toa\"\ntimestamps = \"strip\"", bytes: toa, strip: true},
	{name: "toa_on_syn", keys: "client_address = \"toa\"\ntoa_on_syn = true", bytes: toa, onSYN: true},
	{name: "ttm", keys: "client_address = \"ttm\"\nttm_kind = 77", bytes: ttm},
	{name: "ttm_short", ipv4: true, keys: "client_address = \"ttm\"\nttm_kind = 77\nttm_length = 10", bytes: func(client netip.AddrPort) []byte {
		return append([]byte{77, 10}, append(ttm(client)[2:10], 1, 1)...)
	}},
	{name: "none", keys: `client_address = "none"`, bytes: func(netip.AddrPort) []byte { return nil }},
}

// toa is kind 254, length 8 or 20, port, address.
func toa(client netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint16([]byte{254, 0}, client.Port())
	b = append(b, client.Addr().AsSlice()...)
	b[1] = byte(len(b))
	return b
}

// ttm is kind, length and kgwttm's struct: family (little-endian), port, and 16
// bytes for the address. Two NOPs make 24 bytes of it.
func ttm(client netip.AddrPort) []byte {
	family := byte(unix.AF_INET)
	if client.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := binary.BigEndian.AppendUint16([]byte{77, 22, family, 0}, client.Port())
	b = append(b, client.Addr().AsSlice()...)
	return append(append(b, make([]byte, 22-len(b))...), 1, 1)
}

// clientAddressOptions follows one connection for each form, segment by segment,
// on both sides of fnatd.
func clientAddressOptions(b *bed) {
	var services []harness.Service
	forms := slices.DeleteFunc(slices.Clone(optionForms), func(f optionForm) bool { return f.ipv4 && b.client == 6 })
	for i, form := range forms {
		services = append(services, harness.Service{Name: form.name, Virtual: b.vip(80 + uint16(i)), Keys: form.keys, Servers: b.to(8080, 0)})
	}
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.meet()
	b.start(services...)
	for i, form := range forms {
		before, after := b.capture(b.Client), b.capture(b.Servers[0])
		p := b.connectTo(b.vip(80+uint16(i)), netip.AddrPortFrom(b.clientAddr(), 0), accepted)
		for _, what := range []string{"one", "two", "three", megabyte[:64<<10]} {
			p.send(p.client, p.server, what)
		}
		p.send(p.server, p.client, "the first answer")
		p.send(p.client, p.server, "later")
		p.client.Close()
		p.server.Close()
		w := watched{bed: b, name: form.name, virtual: b.vip(80 + uint16(i)), peer: p.client.LocalAddr().(*net.TCPAddr).AddrPort(), real: b.rip(0, 8080)}
		w.read(before, after)
		w.option = form.bytes(w.peer)
		w.onSYN, w.strip = form.onSYN, form.strip
		w.checkInbound()
		w.checkOutbound()
		s := b.service(form.name).ClientAddresses
		if s.Inserted != uint64(w.told) || s.NotInserted.NoRoom != 0 || s.NotInserted.OverMTU != 0 {
			b.Errorf("%s: fnatd counts %+v, want %d inserted", form.name, s, w.told)
		}
	}
}

// forgedOptionsAreBlanked has a client say that it is somebody else.
func forgedOptionsAreBlanked(b *bed) {
	b.listen(b.Servers[0], b.rip(0, 8080))
	b.meet()
	b.start(b.web(0))
	got := b.capture(b.Servers[0])
	r := b.rawClient()
	mss := []byte{2, 4, 1400 >> 8, 1400 & 255}
	forged := toa(netip.MustParseAddrPort("192.0.2.66:6666"))
	other := []byte{200, 8, 1, 2, 3, 4, 5, 6, 253, 8, 1, 2, 3, 4, 5, 6}
	foreign := []byte{253, 4, 0xf9, 0x89} // an experiment (RFC 6994), not ours to touch

	r.send(packettest.TCP{Flags: packet.SYN, Seq: 1000, Options: join(mss, forged)})
	answer := r.receive(packet.SYN | packet.ACK)
	ack := answer.seq + 1
	r.send(packettest.TCP{Flags: packet.ACK, Seq: 1001, Ack: ack, Options: join(forged, foreign)})
	r.send(packettest.TCP{Flags: packet.ACK | packet.PSH, Seq: 1001, Ack: ack, Options: other, Payload: []byte("hello")})
	r.receive(packet.ACK)
	r.send(packettest.TCP{Flags: packet.RST, Seq: 1006})

	truth := toa(r.src.Netip())
	nops := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	lowered := []byte{2, 4, 0, 0}
	binary.BigEndian.PutUint16(lowered[2:], uint16(1400-(b.longestHeader()-headerLen(b.client))))
	want := [][]byte{
		join(lowered, nops(8)),
		join(truth, nops(8), foreign),
		join(truth, nops(16)),
		nil,
	}
	var options [][]byte
	b.eventually("the server has got four segments", func() bool {
		options = nil
		for _, s := range segments(got.Frames()) {
			if !s.sent && s.dst == b.rip(0, 8080) {
				options = append(options, append([]byte(nil), s.options...))
			}
		}
		return len(options) == len(want)
	})
	b.frames(got)
	for i := range want {
		if !bytes.Equal(options[i], want[i]) {
			b.Errorf("segment %d: the server got options % x, want % x", i, options[i], want[i])
		}
	}
	if got := b.service("web").ClientAddresses; got.Stripped != 4 || got.Inserted != 2 {
		b.Errorf("client addresses: got %+v, want 4 stripped, 2 inserted", got)
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
