package synproxy

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
)

func flow(src, dst string) packet.Flow {
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return packet.Flow{
		Src: packet.AddrFromNetip(from.Addr()), SrcPort: from.Port(),
		Dst: packet.AddrFromNetip(to.Addr()), DstPort: to.Port(),
		Proto: packet.ProtoTCP,
	}
}

var (
	flow4 = flow("198.51.100.7:40000", "203.0.113.10:80")
	flow6 = flow("[2001:db8::7]:40000", "[2001:db8:1::10]:80")
	noon  = time.Unix(1_800_000_000, 0) // the beginning of an epoch: 64 divides it
)

func TestCookieTellsWhatWasOffered(t *testing.T) {
	keys := NewSecret().Keys(noon)
	for name, f := range map[string]*packet.Flow{"ipv4": &flow4, "ipv6": &flow6} {
		sizes := mss6
		if name == "ipv4" {
			sizes = mss4
		}
		t.Run(name, func(t *testing.T) {
			for _, mss := range sizes {
				for scale := range uint8(NoScale + 1) {
					for i := range 4 {
						want := Options{MSS: mss, Scale: scale, SACK: i&1 != 0, Timestamps: i&2 != 0}
						isn := rand.Uint32()
						got, ok := keys.Check(f, isn, keys.Cookie(f, isn, &want))
						if !ok || got != want {
							t.Fatalf("offered %+v, got %+v, %t", want, got, ok)
						}
					}
				}
			}
		})
	}
}

func TestCookieMSS(t *testing.T) {
	keys := NewSecret().Keys(noon)
	for _, test := range []struct {
		name      string
		flow      *packet.Flow
		mss, told uint16
	}{
		{"ipv4_none_is_536", &flow4, 0, 536},
		{"ipv6_none_is_1220", &flow6, 0, 1220},
		{"ipv4_exact", &flow4, 1460, 1460},
		{"ipv4_rounded_down", &flow4, 1459, 1440},
		{"ipv4_tiny", &flow4, 100, 64},
		{"ipv4_less_than_any", &flow4, 1, 64},
		{"ipv4_jumbo", &flow4, 65535, 8960},
		{"ipv6_exact", &flow6, 1440, 1440},
		{"ipv6_rounded_down", &flow6, 1300, 1280},
		{"ipv6_jumbo", &flow6, 9000, 8940},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Options{MSS: test.mss, Scale: NoScale}
			got, ok := keys.Check(test.flow, 1, keys.Cookie(test.flow, 1, &o))
			if !ok || got.MSS != test.told {
				t.Errorf("offered %d, told %d, %t; want %d", test.mss, got.MSS, ok, test.told)
			}
		})
	}
}

func TestCookieLifetime(t *testing.T) {
	secret := NewSecret()
	o := Options{MSS: 1460, Scale: 7, SACK: true, Timestamps: true}
	for _, test := range []struct {
		name        string
		made, check time.Duration // after the beginning of an epoch
		good        bool
	}{
		{"at_once", 0, 0, true},
		{"after_a_minute", 0, 60 * time.Second, true},
		{"at_the_end_of_the_next_epoch_but_for_the_lead", 0, 124*time.Second - 1, true},
		{"after_that", 0, 124 * time.Second, false},
		{"late_in_the_epoch", 63 * time.Second, 123 * time.Second, true},
		{"late_in_the_epoch_too_old", 63 * time.Second, 124 * time.Second, false},
		{"two_epochs_later", 0, 128 * time.Second, false},
		{"of_a_balancer_whose_clock_is_ahead", 64 * time.Second, 60 * time.Second, true},
		{"of_one_too_far_ahead", 64 * time.Second, 59 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			made, now := secret.Keys(noon.Add(test.made)), secret.Keys(noon.Add(test.check))
			if got, ok := now.Check(&flow4, 1, made.Cookie(&flow4, 1, &o)); ok != test.good || ok && got != o {
				t.Errorf("made at %s, checked at %s: %+v, %t", test.made, test.check, got, ok)
			}
		})
	}
}

// A cookie proves exactly the flow and the initial sequence number that it was made
// for.
func TestCookieOfAnotherIsBad(t *testing.T) {
	keys := NewSecret().Keys(noon)
	o := Options{MSS: 1460, Scale: 7, SACK: true, Timestamps: true}
	cookie := keys.Cookie(&flow4, 1000, &o)
	bad := map[string]func(f *packet.Flow) uint32{
		"client":     func(f *packet.Flow) uint32 { f.Src[15]++; return 1000 },
		"port":       func(f *packet.Flow) uint32 { f.SrcPort++; return 1000 },
		"virtual":    func(f *packet.Flow) uint32 { f.Dst[15]++; return 1000 },
		"vport":      func(f *packet.Flow) uint32 { f.DstPort++; return 1000 },
		"isn_before": func(*packet.Flow) uint32 { return 999 },
		"isn_after":  func(*packet.Flow) uint32 { return 1001 },
	}
	for name, change := range bad {
		t.Run(name, func(t *testing.T) {
			f := flow4
			if isn := change(&f); isnGood(&keys, &f, isn, cookie) {
				t.Error("the cookie was accepted")
			}
		})
	}
	other := NewSecret().Keys(noon)
	if isnGood(&other, &flow4, 1000, cookie) {
		t.Error("another secret's cookie was accepted")
	}
}

func isnGood(k *Keys, f *packet.Flow, isn, cookie uint32) bool {
	_, ok := k.Check(f, isn, cookie)
	return ok
}

// A blind guess is right once in 2^22 times: of 2^25 guesses 8 are expected, and as
// a Poisson variable that is at most 30 but for once in 10^9 runs. That some are
// right shows that the test can see them.
func TestBlindGuess(t *testing.T) {
	keys := NewSecret().Keys(noon)
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	right, tries := 0, 1<<25
	for range tries {
		if isnGood(&keys, &flow4, r.Uint32(), r.Uint32()) {
			right++
		}
	}
	t.Logf("%d of %d guesses were right, %d expected", right, tries, tries>>checkBits)
	if right > 30 {
		t.Errorf("%d of %d guesses were right", right, tries)
	}
	if right == 0 { // once in 3,000 runs by chance: look for longer
		for !isnGood(&keys, &flow4, r.Uint32(), r.Uint32()) {
			if tries++; tries > 1<<28 {
				t.Fatal("no guess is ever right")
			}
		}
	}
}

func TestCookieAllocatesNothing(t *testing.T) {
	keys := NewSecret().Keys(noon)
	o := Options{MSS: 1460, Scale: 7, SACK: true, Timestamps: true}
	if n := testing.AllocsPerRun(100, func() { keys.Check(&flow4, 1, keys.Cookie(&flow4, 1, &o)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeysOfASharedSecret(t *testing.T) {
	shared := [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	a, b := SecretFrom(shared), SecretFrom(shared)
	if a.Keys(noon) != b.Keys(noon) {
		t.Error("the same secret gives different keys")
	}
	if a == NewSecret() || NewSecret() == NewSecret() {
		t.Error("secrets are not random")
	}
	k := a.Keys(noon)
	if k.ByParity[0] == k.ByParity[1] {
		t.Error("two epochs have the same key")
	}
}

func FuzzCookie(f *testing.F) {
	f.Add([]byte(flow4.Src[:]), []byte(flow4.Dst[:]), uint16(40000), uint16(80), uint32(1), uint16(1460), uint8(7), uint8(3))
	f.Add([]byte(flow6.Src[:]), []byte(flow6.Dst[:]), uint16(1), uint16(65535), ^uint32(0), uint16(0), uint8(15), uint8(0))
	keys := NewSecret().Keys(noon)
	f.Fuzz(func(t *testing.T, src, dst []byte, sport, dport uint16, isn uint32, mss uint16, scale, bits uint8) {
		if len(src) != 16 || len(dst) != 16 {
			return
		}
		flow := packet.Flow{Src: [16]byte(src), Dst: [16]byte(dst), SrcPort: sport, DstPort: dport, Proto: packet.ProtoTCP}
		o := Options{MSS: mss, Scale: min(scale, NoScale), SACK: bits&1 != 0, Timestamps: bits&2 != 0}
		cookie := keys.Cookie(&flow, isn, &o)
		got, ok := keys.Check(&flow, isn, cookie)
		if !ok {
			t.Fatal("our own cookie is bad")
		}
		if mss >= 64 && got.MSS > mss && mss != 0 {
			t.Errorf("MSS grew from %d to %d", mss, got.MSS)
		}
		o.MSS = got.MSS
		if got != o {
			t.Errorf("offered %+v, got %+v", o, got)
		}
		if isnGood(&keys, &flow, isn, cookie^1) || isnGood(&keys, &flow, isn, cookie^(1<<21)) {
			t.Error("a cookie with a wrong bit is accepted")
		}
	})
}

func BenchmarkCookie(b *testing.B) {
	keys := NewSecret().Keys(noon)
	o := Options{MSS: 1460, Scale: 7, SACK: true, Timestamps: true}
	for name, f := range map[string]*packet.Flow{"ipv4": &flow4, "ipv6": &flow6} {
		b.Run("make/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				keys.Cookie(f, uint32(i), &o)
			}
		})
		b.Run("check/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				keys.Check(f, uint32(i), uint32(i))
			}
		})
	}
}
