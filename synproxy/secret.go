package synproxy

import (
	"crypto/rand"
	"time"

	"github.com/fnatd/fnatd/internal/siphash"
)

// Our choices for the life of a key. A cookie is good for between period-lead and
// 2*period-lead: from one minute to two. A client whose SYN-ACK was lost sends its
// SYN again and gets another cookie, so it needs to be good only for a round trip.
const (
	period = 64 // s: an epoch

	// lead is how long before an epoch begins its cookies are good: balancers that
	// share a secret may differ by so much in what time it is.
	lead = 4 // s
)

// Lifetime is the longest time that a cookie is good.
const Lifetime = (2*period - lead) * time.Second

// A Secret is what the keys of all epochs are derived from. Balancers with the same
// secret accept each other's cookies.
type Secret siphash.Key

// NewSecret returns a random Secret.
func NewSecret() Secret {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return SecretFrom(b)
}

// SecretFrom returns the Secret that b is.
func SecretFrom(b [16]byte) Secret { return Secret(siphash.KeyFrom(b)) }

// Uses of a Secret, so that what it gives for one says nothing about another.
const (
	keyLow = iota
	keyHigh
	clockOffset
)

// Keys returns the keys in use at a moment.
func (s Secret) Keys(at time.Time) Keys {
	now := at.Unix()
	epoch := now / period
	other := epoch - 1
	if now%period >= period-lead {
		other = epoch + 1
	}
	k := Keys{Current: uint32(epoch & 1)}
	k.ByParity[epoch&1] = s.key(epoch)
	k.ByParity[other&1] = s.key(other)
	return k
}

func (s Secret) key(epoch int64) Key {
	k := siphash.Key(s)
	return Key{K0: k.Sum2(uint64(epoch), keyLow), K1: k.Sum2(uint64(epoch), keyHigh)}
}

// ClockShift divides nanoseconds to give the clock of the timestamps in SYN-ACKs:
// it ticks every 1.05 ms (RFC 7323, section 5.4, has 1 ms to 1 s), and dividing by
// a power of two is cheap in XDP.
const ClockShift = 20

// ClockOffset returns what is added to that clock, so that it does not tell how long
// the host has been up.
func (s Secret) ClockOffset() uint32 { k := siphash.Key(s); return uint32(k.Sum2(0, clockOffset)) }
