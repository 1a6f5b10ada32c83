package dataplane

import (
	"encoding/binary"

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
}

type addrSlot struct {
	addr packet.Addr
	role role
}

func newAddrSet(vips, lips []packet.Addr) addrSet {
	size := 8
	for size < 4*(len(vips)+len(lips)) {
		size *= 2
	}
	set := addrSet{make([]addrSlot, size)}
	for _, a := range vips {
		set.put(a, virtual)
	}
	for _, a := range lips {
		set.put(a, local)
	}
	return set
}

func (s *addrSet) put(a packet.Addr, r role) {
	for i := s.home(&a); ; i++ {
		slot := &s.slots[i&uint64(len(s.slots)-1)]
		if slot.role == foreign || slot.addr == a {
			*slot = addrSlot{a, r}
			return
		}
	}
}

// role returns what a is.
func (s *addrSet) role(a *packet.Addr) role {
	for i := s.home(a); ; i++ {
		slot := &s.slots[i&uint64(len(s.slots)-1)]
		if slot.role == foreign || slot.addr == *a {
			return slot.role
		}
	}
}

// home returns the slot at which to begin. Addresses of one network differ in
// their last byte, so that has to be the lowest of the number: a product's high
// bits depend on all the bits below.
func (s *addrSet) home(a *packet.Addr) uint64 {
	const golden = 0x9e3779b97f4a7c15
	h := (binary.BigEndian.Uint64(a[:8]) ^ binary.BigEndian.Uint64(a[8:])) * golden
	return h >> 32
}
