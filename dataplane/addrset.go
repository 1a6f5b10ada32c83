package dataplane

import (
	"encoding/binary"
	"math/bits"

	"github.com/fnatd/fnatd/internal/packet"
)

// A role says what an address is to the balancer.
type role uint8

const (
	foreign role = iota // neither VIP nor LIP
	virtual             // a VIP: what is sent there comes from a client
	local               // a LIP: what is sent there comes from a real server
)

// An addrSet tells VIPs and LIPs from each other and from everything else. It
// is an open-addressed table that is at most a quarter full, so that the first slot
// read nearly always decides. The keys are the operator's, not a stranger's, so
// a plain multiplicative hash serves.
type addrSet struct {
	slots []addrSlot // len is a power of two
	ipv4  []uint64   // as many, of IPv4 addresses alone: the address above its role, in an eighth of a cache line
}

type addrSlot struct {
	high, low uint64 // of the address
	role      role
}

func newAddrSet(vips, lips []packet.Addr) addrSet {
	size := 8
	for size < 4*(len(vips)+len(lips)) {
		size *= 2
	}
	set := addrSet{make([]addrSlot, size), make([]uint64, size)}
	for _, a := range vips {
		set.put(a, virtual)
	}
	for _, a := range lips {
		set.put(a, local)
	}
	return set
}

func (s *addrSet) put(a packet.Addr, r role) {
	high, low := halves(&a)
	*s.slot(high, low) = addrSlot{high, low, r}
	if n, ok := a.Number4(); ok {
		n = bits.ReverseBytes32(n)
		*s.slot4(n) = uint64(n)<<8 | uint64(r)
	}
}

// role returns what a is.
func (s *addrSet) role(a *packet.Addr) role { return s.slot(halves(a)).role }

// role4 returns what an IPv4 address is, as packet.Ends have it.
func (s *addrSet) role4(a uint32) role { return role(*s.slot4(a)) }

// slot4 is slot for an IPv4 address.
func (s *addrSet) slot4(a uint32) *uint64 {
	for i := homeSlot(0, uint64(a)); ; i++ {
		slot := &s.ipv4[i&uint64(len(s.ipv4)-1)]
		if *slot>>8 == uint64(a) || *slot == 0 {
			return slot
		}
	}
}

// slot returns the slot of an address, or the empty one in which it would be.
func (s *addrSet) slot(high, low uint64) *addrSlot {
	for i := homeSlot(high, low); ; i++ {
		slot := &s.slots[i&uint64(len(s.slots)-1)]
		if slot.low == low && slot.high == high || slot.role == foreign {
			return slot
		}
	}
}

func halves(a *packet.Addr) (high, low uint64) {
	return binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
}

// homeSlot returns the slot at which to begin. A product's high bits depend on all the bits
// below, so the byte in which addresses of one network differ may be anywhere there.
func homeSlot(high, low uint64) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return (high ^ low) * golden >> 32
}
