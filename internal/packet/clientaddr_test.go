package packet_test

import (
	"bytes"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestAddressOption(t *testing.T) {
	lvs := packet.TOA(253)
	ttm := packet.AddressOption{TTM: true, Kind4: 30, Kind6: 31}
	short := packet.AddressOption{TTM: true, Kind4: 30, Kind6: 31, TTMLength: 10}
	long := packet.AddressOption{TTM: true, Kind4: 30, Kind6: 31, TTMLength: 24}
	for name, c := range map[string]struct {
		option *packet.AddressOption
		client packet.Endpoint
		want   []byte
	}{
		"toa4":       {&lvs, client4, []byte{254, 8, 0x9c, 0x40, 198, 51, 100, 7}},
		"toa6":       {&lvs, client6, []byte{253, 20, 0x9c, 0x40, 0x20, 1, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
		"ttm4":       {&ttm, client4, []byte{30, 22, 2, 0, 0x9c, 0x40, 198, 51, 100, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}},
		"ttm6":       {&ttm, client6, []byte{31, 22, 10, 0, 0x9c, 0x40, 0x20, 1, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}},
		"ttm4_short": {&short, client4, []byte{30, 10, 2, 0, 0x9c, 0x40, 198, 51, 100, 7, 1, 1}},
		"ttm6_short": {&short, client6, nil},
		"ttm4_long":  {&long, client4, []byte{30, 24, 2, 0, 0x9c, 0x40, 198, 51, 100, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"ttm6_long":  {&long, client6, []byte{31, 24, 10, 0, 0x9c, 0x40, 0x20, 1, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Repeat([]byte{0xee}, packet.MaxAddressOption)
			n := c.option.Encode(b, c.client)
			if !bytes.Equal(b[:n], c.want) {
				t.Errorf("got  % x\nwant % x", b[:n], c.want)
			}
			if got := c.option.Len(&c.client.Addr); got != n || n%4 != 0 {
				t.Errorf("Len: got %d, want %d, a multiple of 4", got, n)
			}
			if got, ok := c.option.Decode(append([]byte{1, 8, 2, 1, 1}, b[:n]...)); n > 0 && (!ok || got != c.client) {
				t.Errorf("Decode: got %v %v, want %v", got, ok, c.client)
			}
		})
	}
}

func TestAddressOptionDecodeIgnoresOthers(t *testing.T) {
	toa := packet.TOA(254)
	ttm := packet.AddressOption{TTM: true, Kind4: 254, Kind6: 254}
	for _, b := range [][]byte{
		nil, {254}, {254, 8}, {254, 7, 0, 0, 0, 0, 0}, {253, 8, 0, 0, 0, 0, 0, 0}, {0, 254, 8, 0, 0, 0, 0, 0, 0},
		append([]byte{254, 22, 3, 0}, make([]byte, 18)...), append([]byte{254, 21, 2, 0}, make([]byte, 17)...),
	} {
		if got, ok := toa.Decode(b); ok {
			t.Errorf("TOA in % x: got %v", b, got)
		}
		if got, ok := ttm.Decode(b); ok {
			t.Errorf("TTM in % x: got %v", b, got)
		}
	}
}
