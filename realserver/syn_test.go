package realserver

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// FuzzOptions holds what the program reads of a SYN's options against a walk in
// another language.
func FuzzOptions(f *testing.F) {
	four := []byte{254, 8, 0x9c, 0x40, 198, 51, 100, 7}
	six := append([]byte{253, 20, 0x9c, 0x40, 0x20, 0x01, 0x0d, 0xb8}, make([]byte, 12)...)
	f.Add(four, false)
	f.Add(six, true)
	f.Add(append([]byte{2, 4, 5, 180, 1, 1, 200}, four[1:]...), true)
	f.Add(append(append([]byte{}, four...), six...), false)
	f.Add(append(append([]byte{}, four...), 254, 8, 0x9c, 0x40, 198, 51, 100, 8), false)
	f.Add([]byte{1, 1, 254, 8}, false)
	f.Add([]byte{254, 0, 1, 1}, true)
	f.Add([]byte{77, 22, 2, 0, 0x9c, 0x40, 198, 51, 100, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, false)
	f.Add([]byte{77, 22, 10, 0, 0x9c, 0x40, 0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}, true)
	p := loadForTest(f)
	f.Fuzz(func(t *testing.T, options []byte, ipv6 bool) {
		if len(options) > 40 {
			return
		}
		src, dst := endpoint("10.0.1.10:1024"), endpoint("10.0.2.11:80")
		if ipv6 {
			src, dst = endpoint("[fd00:1::10]:1024"), endpoint("[fd00:2::11]:80")
		}
		p.forget(t)
		// What follows the header must not be taken for an option.
		payload := []byte{254, 8, 0x11, 0x11, 192, 0, 2, 1, 254, 8, 0x11, 0x11, 192, 0, 2, 1}
		p.run(t, "fnatrs_syn", packettest.TCP{Src: src, Dst: dst, Flags: packet.SYN, Options: options, Payload: payload}.Frame().Bytes())
		all, err := p.listMappings()
		if err != nil || len(all) > 1 {
			t.Fatalf("got %+v, %v, want one at most", all, err)
		}
		var got netip.AddrPort
		if len(all) == 1 {
			got = all[0].Client
		}
		if want := readOptions(options); got != want {
			t.Errorf("% x: got %v, want %v", options, got, want)
		}
	})
}

// readOptions returns the client that options name, the zero AddrPort if they
// name none or are not to be believed.
func readOptions(o []byte) (found netip.AddrPort) {
	o = append(append([]byte{}, o...), make([]byte, -len(o)&3)...)
	for len(o) > 0 && o[0] != 0 {
		if o[0] == 1 {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return netip.AddrPort{}
		}
		one := o[:o[1]]
		o = o[o[1]:]
		port, addr := 2, netip.Addr{}
		switch {
		case len(one) == 8 && (one[0] == 254 || one[0] == 200):
			addr = netip.AddrFrom4([4]byte(one[4:]))
		case len(one) == 20 && (one[0] == 254 || one[0] == 253):
			addr = netip.AddrFrom16([16]byte(one[4:])).Unmap()
		case len(one) == 22 && one[0] == 77:
			port = 4
			switch binary.LittleEndian.Uint16(one[2:]) {
			case 2:
				addr = netip.AddrFrom4([4]byte(one[6:]))
			case 10:
				addr = netip.AddrFrom16([16]byte(one[6:])).Unmap()
			}
		default:
			continue
		}
		client := netip.AddrPortFrom(addr, binary.BigEndian.Uint16(one[port:]))
		if !possible(client) || found.IsValid() && found != client {
			return netip.AddrPort{}
		}
		found = client
	}
	return found
}

// possible reports whether a client can have an address and port.
func possible(c netip.AddrPort) bool {
	a := c.Addr()
	return c.Port() != 0 && a.IsValid() && !a.IsMulticast() && !a.IsUnspecified() &&
		!(a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 224))
}
