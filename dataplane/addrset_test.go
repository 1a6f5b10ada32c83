package dataplane

import (
	"math/bits"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// TestAddrSetSpreadsNetworks has whole networks in a set, whose addresses differ in
// a byte or two, and counts the slots that are read in vain.
func TestAddrSetSpreadsNetworks(t *testing.T) {
	for name, addr := range map[string]func(i byte) packet.Addr{
		"last_byte4":  func(i byte) packet.Addr { return packet.AddrFrom4([]byte{10, 0, 0, i}) },
		"third_byte4": func(i byte) packet.Addr { return packet.AddrFrom4([]byte{10, 0, i, 1}) },
		"last_byte6":  func(i byte) packet.Addr { return packet.Addr{0: 0x20, 1: 1, 15: i} },
		"subnet6":     func(i byte) packet.Addr { return packet.Addr{0: 0x20, 1: 1, 7: i, 15: 1} },
	} {
		t.Run(name, func(t *testing.T) {
			var all []packet.Addr
			for i := range 250 {
				all = append(all, addr(byte(i)))
			}
			set := newAddrSet(all[:1], all[1:])
			vain := 0
			for i, a := range all {
				want := local
				if i == 0 {
					want = virtual
				}
				if got := set.role(&a); got != want {
					t.Errorf("%v: got role %d, want %d", a, got, want)
				}
				if n, ok := a.Number4(); ok {
					n = bits.ReverseBytes32(n) // as packet.Ends have it
					for at := homeSlot(0, uint64(n)); &set.ipv4[at&uint64(len(set.ipv4)-1)] != set.slot4(n); at++ {
						vain++
					}
					if got := set.role4(n); got != want {
						t.Errorf("%v as a number: got role %d, want %d", a, got, want)
					}
				}
				high, low := halves(&a)
				for at := homeSlot(high, low); &set.slots[at&uint64(len(set.slots)-1)] != set.slot(high, low); at++ {
					vain++
				}
			}
			if vain > len(all)/2 { // of both tables
				t.Errorf("%d addresses were found after %d others, want at most half as many", len(all), vain)
			}
			if got := set.role(&packet.Addr{15: 9}); got != foreign {
				t.Errorf("an address that is not in the set: got role %d, want %d", got, foreign)
			}
		})
	}
}
