package sched

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// shSlots is the size of sh's and dh's table. ipvs has 256 slots and gives each
// server a run as long as its weight, so that weights that add up to more leave
// some servers out; 4096 slots shared out in proportion keep every weight's
// share within a few percent for as many servers as a service reasonably has.
const shSlots = 4096

// A hashed scheduler looks its server up in a table of slots, at a hash of the
// client: sh and mh. The same client finds the same server as long as the table
// stays, also after a restart and on another balancer with the same servers,
// because the hash has no secret.
type hashed struct {
	servers  []Server
	slots    []uint16 // index into servers; empty when all weights are 0
	port     bool     // hash the client's port too
	fallback bool     // probe further slots when the server is unavailable
}

// newSourceHash makes sh. Unlike ipvs it gives a server of weight 0 no slot, so
// that draining one turns no client away.
func newSourceHash(s *Spec, _ algorithm) algorithm {
	return &hashed{s.Servers, runs(s.Servers, shSlots), s.Port, s.Fallback}
}

func (h *hashed) pick(c Client) int {
	if len(h.slots) == 0 {
		return -1
	}
	hash := h.hash(c)
	i := h.slot(hash)
	if h.servers[i].Available() {
		return i
	}
	if !h.fallback {
		return -1
	}
	return h.pickFallback(hash)
}

func (h *hashed) hash(c Client) uint64 {
	hash := hashHalves(c.High, c.Low)
	if h.port {
		hash = mix(hash ^ uint64(c.Port))
	}
	return hash
}

// pickFallback rehashes, which spreads the clients of an unavailable server over
// the others by their weights, and after some misses takes the next available
// one in the list.
func (h *hashed) pickFallback(hash uint64) int {
	const tries = 16 // with one server of two unavailable, one client in 65,536 misses all
	for range tries {
		hash = mix(hash + golden)
		if i := h.slot(hash); h.servers[i].Available() {
			return i
		}
	}
	start := h.slot(hash)
	for n := range h.servers {
		if i := (start + n) % len(h.servers); h.servers[i].Available() {
			return i
		}
	}
	return -1
}

func (h *hashed) slot(hash uint64) int {
	at, _ := bits.Mul64(hash, uint64(len(h.slots))) // hash / 2^64 of the way
	return int(h.slots[at])
}

// fixed is dh, which hashes the destination. That is the service's own address,
// so it means one server for the whole service; services with different
// addresses and the same servers are spread over them, by weight.
type fixed struct {
	servers []Server
	at      int
}

func newDestinationHash(s *Spec, _ algorithm) algorithm {
	f := &fixed{s.Servers, -1}
	slots := runs(s.Servers, shSlots)
	if len(slots) > 0 {
		f.at = (&hashed{slots: slots}).slot(hashAddr(s.Virtual))
	}
	return f
}

func (f *fixed) pick(Client) int {
	if f.at < 0 || !f.servers[f.at].Available() {
		return -1
	}
	return f.at
}

// runs returns a table of size slots in which each server has one run, as long
// as its weight's share.
func runs(servers []Server, size int) []uint16 {
	slots := make([]uint16, 0, size)
	for i, n := range quotas(servers, size) {
		slots = append(slots, slices.Repeat([]uint16{uint16(i)}, n)...)
	}
	return slots
}

// quotas splits size among the servers in proportion to their weights, each
// within one of its exact share. Which servers get one more is decided by the
// size of what rounding would take away and, among equals, by the hash of the
// address, not by the order in the configuration. It returns zeros if all
// weights are zero.
func quotas(servers []Server, size int) []int {
	quota := make([]int, len(servers))
	var total uint64
	for i := range servers {
		total += uint64(servers[i].Weight)
	}
	if total == 0 {
		return quota
	}
	type remainder struct {
		rest, hash uint64
		server     int
	}
	rests := make([]remainder, 0, len(servers))
	left := size
	for i := range servers {
		share := uint64(size) * uint64(servers[i].Weight)
		quota[i] = int(share / total)
		left -= quota[i]
		rests = append(rests, remainder{share % total, servers[i].hash(), i})
	}
	slices.SortFunc(rests, func(a, b remainder) int {
		if a.rest != b.rest {
			return compareDown(a.rest, b.rest)
		}
		return compareDown(a.hash, b.hash)
	})
	for _, r := range rests[:left] {
		quota[r.server]++
	}
	return quota
}

func compareDown(a, b uint64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

// golden is 2^64 divided by the golden ratio, the increment of SplitMix64.
const golden = 0x9e3779b97f4a7c15

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood, 2014): every bit of x
// changes about half of the result's.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func hashAddr(a [16]byte) uint64 {
	return hashHalves(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]))
}

func hashHalves(high, low uint64) uint64 { return mix(mix(high+golden) ^ low) }

// hash identifies the server by its address and port alone: its place in the
// list and its weight may change without moving its slots.
func (s *Server) hash() uint64 { return mix(hashAddr(s.Addr) + uint64(s.Port)*golden) }
