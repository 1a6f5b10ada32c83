package packet_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// Options as stacks send them.
var (
	synOptions = []byte{2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}
	timestamps = []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	forgedTOA  = []byte{254, 8, 0x12, 0x34, 192, 0, 2, 99}
)

// segment returns a TCP segment with these options, parsed.
func segment(t testing.TB, options ...byte) *packet.Packet {
	t.Helper()
	return packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.ACK, Options: options, Payload: []byte("odd")}.Frame().Parse(t)
}

// checkOptions fails the test unless p has these options and correct checksums.
func checkOptions(t *testing.T, p *packet.Packet, want ...byte) {
	t.Helper()
	packettest.CheckSums(t, p.Frame())
	if got := p.TCP().Options(); !bytes.Equal(got, want) {
		t.Errorf("options: got % x, want % x", got, want)
	}
}

func TestMSS(t *testing.T) {
	for name, c := range map[string]struct {
		options []byte
		want    uint16
		ok      bool
	}{
		"first":          {synOptions, 1460, true},
		"none":           {nil, 0, false},
		"timestamps":     {timestamps, 0, false},
		"odd_place":      {[]byte{1, 2, 4, 0x05, 0xb4, 1, 1, 0}, 1460, true},
		"wrong_length":   {[]byte{2, 3, 5, 1, 2, 4, 1, 0}, 256, true},
		"behind_the_end": {[]byte{1, 1, 1, 0, 2, 4, 1, 0}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := segment(t, c.options...).MSS(); got != c.want || ok != c.ok {
				t.Errorf("got %d %v, want %d %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestLowerMSS(t *testing.T) {
	for name, c := range map[string]struct {
		options []byte
		by      uint16
		want    []byte
	}{
		"by_an_option":      {[]byte{2, 4, 0x05, 0xb4}, 8, []byte{2, 4, 0x05, 0xac}},
		"odd_place":         {[]byte{1, 2, 4, 0x05, 0xb4, 1, 1, 1}, 20, []byte{1, 2, 4, 0x05, 0xa0, 1, 1, 1}},
		"not_below_64":      {[]byte{2, 4, 0, 70}, 8, []byte{2, 4, 0, 64}},
		"never_negative":    {[]byte{2, 4, 0, 70}, 0xffff, []byte{2, 4, 0, 64}},
		"small_stays_small": {[]byte{2, 4, 0, 40}, 8, []byte{2, 4, 0, 40}},
		"none":              {timestamps, 8, timestamps},
	} {
		t.Run(name, func(t *testing.T) {
			p := segment(t, c.options...)
			p.LowerMSS(c.by)
			checkOptions(t, p, c.want...)
		})
	}
}

func TestShiftSACK(t *testing.T) {
	for name, c := range map[string]struct {
		options []byte
		delta   uint32
		want    []byte
	}{
		"one_block":     {[]byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}, 2, []byte{1, 1, 5, 10, 0, 0, 0, 3, 0, 0, 0, 11}},
		"wraps":         {[]byte{1, 1, 5, 10, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9}, 2, []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 11}},
		"backwards":     {[]byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}, 0xfffffffe, []byte{1, 1, 5, 10, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 7}},
		"odd_place":     {[]byte{1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9, 0}, 0x01020304, []byte{1, 5, 10, 1, 2, 3, 5, 1, 2, 3, 13, 0}},
		"behind_stamps": {append(slices.Clone(timestamps), 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9), 1, append(slices.Clone(timestamps), 1, 1, 5, 10, 0, 0, 0, 2, 0, 0, 0, 10)},
		"two_blocks": {[]byte{5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 1, 1}, 0x100,
			[]byte{5, 18, 0, 0, 1, 1, 0, 0, 1, 2, 0, 0, 1, 3, 0, 0, 1, 4, 1, 1}},
		"two_options": {[]byte{5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4}, 1,
			[]byte{5, 10, 0, 0, 0, 2, 0, 0, 0, 3, 5, 10, 0, 0, 0, 4, 0, 0, 0, 5}},
		"half_an_edge":   {[]byte{5, 8, 0, 0, 0, 1, 0, 7}, 1, []byte{5, 8, 0, 0, 0, 2, 0, 7}},
		"behind_the_end": {[]byte{1, 0, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}, 2, []byte{1, 0, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}},
		"timestamps":     {timestamps, 7, timestamps},
		"by_nothing":     {[]byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}, 0, []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			p := segment(t, c.options...)
			p.ShiftSACK(c.delta)
			checkOptions(t, p, c.want...)
		})
	}
}

func TestStripOptions(t *testing.T) {
	list := packet.DefaultStripList()
	list.Add(77, 22)
	blank := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	ttm := append([]byte{77, 22}, make([]byte, 20)...)
	for name, c := range map[string]struct {
		options, want []byte
		n             int
	}{
		"forged":       {forgedTOA, blank(8), 1},
		"odd_place":    {slices.Concat([]byte{1}, forgedTOA, []byte{1, 1, 0}), slices.Concat(blank(11), []byte{0}), 1},
		"twice":        {slices.Concat(forgedTOA, forgedTOA), blank(16), 2},
		"other_length": {[]byte{254, 4, 0xf9, 0x89}, []byte{254, 4, 0xf9, 0x89}, 0},
		"other_kind":   {[]byte{251, 8, 0, 0, 0, 0, 0, 0}, []byte{251, 8, 0, 0, 0, 0, 0, 0}, 0},
		"whole_area":   {append([]byte{249, 40}, make([]byte, 38)...), blank(40), 1},
		"added":        {slices.Concat(ttm, []byte{1, 1}), blank(24), 1},
		"timestamps":   {timestamps, timestamps, 0},
		"beside_others": {slices.Concat([]byte{2, 4, 5, 0xb4}, forgedTOA, []byte{1, 3, 3, 7}),
			slices.Concat([]byte{2, 4, 5, 0xb4}, blank(8), []byte{1, 3, 3, 7}), 1},
		"within_another": {append([]byte{251, 12, 0, 0}, forgedTOA...), append([]byte{251, 12, 0, 0}, forgedTOA...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := segment(t, c.options...)
			if got := p.StripOptions(list); got != c.n {
				t.Errorf("got %d stripped, want %d", got, c.n)
			}
			checkOptions(t, p, c.want...)
		})
	}
}

func TestStripList(t *testing.T) {
	var l packet.StripList
	l.Add(5, 41)
	l.Add(5, 255)
	l.Add(5, 1)
	l.Add(5, 40)
	for length := range 256 {
		if got, want := l.Has(5, uint8(length)), length == 40; got != want {
			t.Errorf("kind 5, length %d: got %v, want %v", length, got, want)
		}
	}
	d := packet.DefaultStripList()
	for _, o := range [][2]uint8{{200, 8}, {201, 6}, {202, 8}, {249, 40}, {250, 8}, {252, 20}, {253, 8}, {253, 20}, {254, 8}, {254, 16}, {254, 20}} {
		if !d.Has(o[0], o[1]) {
			t.Errorf("kind %d, length %d is not on the default list", o[0], o[1])
		}
	}
	for _, o := range [][2]uint8{{2, 4}, {3, 3}, {4, 2}, {5, 10}, {8, 10}, {254, 4}, {34, 8}} {
		if d.Has(o[0], o[1]) {
			t.Errorf("kind %d, length %d is on the default list", o[0], o[1])
		}
	}
}

func TestStripListAddOption(t *testing.T) {
	for name, c := range map[string]struct {
		option packet.AddressOption
		want   [][2]uint8
	}{
		"toa":       {packet.TOA(253), [][2]uint8{{254, 8}, {253, 20}}},
		"ttm":       {packet.AddressOption{TTM: true, Kind4: 30, Kind6: 31}, [][2]uint8{{30, 22}, {31, 22}}},
		"ttm_short": {packet.AddressOption{TTM: true, Kind4: 30, Kind6: 31, TTMLength: 10}, [][2]uint8{{30, 10}}},
	} {
		t.Run(name, func(t *testing.T) {
			var l, want packet.StripList
			l.AddOption(&c.option)
			for _, o := range c.want {
				want.Add(o[0], o[1])
			}
			if l != want {
				t.Errorf("not just %v is on the list", c.want)
			}
		})
	}
}
