package sched

import (
	"math"
	"slices"
)

// mhSlots is the size of mh's table: a prime number, as in Maglev, and large
// enough for 100 servers to have 655 slots each.
const mhSlots = 65537

// nobody owns a slot that is not claimed yet.
const nobody = math.MaxUint16

// newMaglev makes mh. It serves the purpose of Google's Maglev hashing (Eisenbud
// et al., NSDI 2016), a table that is balanced and that hardly changes when a
// server comes or goes, but not by Maglev's way of filling it. There each server
// takes its next free slot in turn, so that one server less changes whose turn
// it is ever after and moves several percent of the other servers' slots. Here
// the table is made in two steps, both from the set of servers alone, without
// regard to their order or to the table before, so that a restart and another
// balancer come to the same one:
//
//  1. claim: each server claims slots at random times, and a slot goes to the
//     first claim. This is rendezvous hashing: without a server, its slots go to
//     the next claims and no other slot moves. But shares are only as even as
//     chance makes them, for 100 servers about 4 % off.
//  2. settle: each server keeps what is within its exact quota and gives up the
//     rest, which the servers below their quota share by mutual preference.
//     Without one server the quotas and surpluses of the others shift by a few
//     slots each, and so do few of the slots given up.
//
// Shares end within one slot of the ideal. Removing one of N servers of equal
// weight moves at most 0.46 % of the others' slots: the worst of every server of
// every N from 2 to 100. Weights that differ make little difference unless the
// one that leaves had nearly all of it (of 1000, 1, 1, 1, 1, 1 the first: 3.7 %
// of the few slots that the others had). A table takes some 4 ms to make for up
// to 100 servers, and is kept over a reload that changes no address and no
// weight.
func newMaglev(s *Spec, prev algorithm) algorithm {
	h := &hashed{servers: s.Servers, port: s.Port, fallback: s.Fallback}
	if old, ok := prev.(*hashed); ok && len(old.slots) == mhSlots && sameShares(old.servers, s.Servers) {
		h.slots = old.slots
		return h
	}
	h.slots = maglev(s.Servers)
	return h
}

// sameShares reports whether tables of a and b are the same.
func sameShares(a, b []Server) bool {
	return slices.EqualFunc(a, b, func(a, b Server) bool {
		return a.Addr == b.Addr && a.Port == b.Port && a.Weight == b.Weight
	})
}

// maglev returns mh's table, which is empty if all weights are 0.
func maglev(servers []Server) []uint16 {
	quota := quotas(servers, mhSlots)
	owner := claim(servers)
	settle(owner, servers, cut(owner, quota), quota)
	return owner
}

// A claimant is a server in step 1. Its claims come at even intervals of time,
// from a start at random, on slots at random.
type claimant struct {
	server uint16
	random uint64  // state of a SplitMix64 generator
	period float64 // time between two claims, 1/weight
	next   float64 // time of the next claim
}

func newClaimants(servers []Server) (claimants []claimant, weight float64) {
	for i := range servers {
		if servers[i].Weight == 0 {
			continue
		}
		hash, period := servers[i].hash(), 1/float64(servers[i].Weight)
		start := period * float64(mix(hash)>>11) / (1 << 53)
		claimants = append(claimants, claimant{uint16(i), hash, period, start})
		weight += float64(servers[i].Weight)
	}
	return claimants, weight
}

// claim gives each slot to the server that claims it first. It takes the claims
// in windows of time, a server at a time: within a window an earlier claim may
// still replace a later one, but after a window in which the last slot was
// claimed none can. By then there were about mhSlots × ln mhSlots claims.
func claim(servers []Server) []uint16 {
	claimants, weight := newClaimants(servers)
	if len(claimants) == 0 {
		return nil
	}
	owner, when := make([]uint16, mhSlots), make([]float64, mhSlots)
	for at := range owner {
		owner[at], when[at] = nobody, math.Inf(1)
	}
	const claims = 4096 // in a window; any number gives the same table
	window := claims / weight
	for end, free := window, mhSlots; free > 0; end += window {
		for i := range claimants {
			c := &claimants[i]
			for ; c.next < end; c.next += c.period {
				c.random += golden
				at := mix(c.random) >> 32 * mhSlots >> 32
				if c.next >= when[at] {
					continue
				}
				if owner[at] == nobody {
					free--
				}
				owner[at], when[at] = c.server, c.next
			}
		}
	}
	return owner
}

// cut lets each server keep as many of its slots as its quota allows, subtracts
// them from the quota and returns the slots that are left over. Which ones a
// server keeps must not depend on anything that another server's leaving
// changes: it is a fixed order of the slots, in strides that cover them all.
func cut(owner []uint16, quota []int) (over []int) {
	const stride = 40503 // about mhSlots divided by the golden ratio
	at := 0
	for range owner {
		if left := &quota[owner[at]]; *left > 0 {
			*left--
		} else {
			over = append(over, at)
		}
		at = (at + stride) % mhSlots
	}
	return over
}

// settle gives the slots in over to the servers with quota left. The slots and
// the servers prefer each other by one hash of the pair: each slot goes to the
// server it prefers most among those that do not prefer others (a stable
// matching by deferred acceptance; Gale and Shapley, 1962). There is exactly
// one such matching, and a small change of quotas changes little of it.
func settle(owner []uint16, servers []Server, over, quota []int) {
	var short []taker
	for i, room := range quota {
		if room > 0 {
			short = append(short, taker{server: uint16(i), seed: mix(servers[i].hash() + 1), room: room})
		}
	}
	for len(over) > 0 {
		at := over[len(over)-1]
		over = over[:len(over)-1]
		var best *taker
		var bond uint64
		for i := range short {
			t := &short[i]
			if b := t.bond(at); (best == nil || b > bond) && t.wants(b) {
				best, bond = t, b
			}
		}
		if refused, full := best.take(at, bond); full {
			over = append(over, refused)
		}
	}
	for _, t := range short {
		for _, o := range t.taken {
			owner[o.at] = t.server
		}
	}
}

// A taker is a server below its quota in step 2.
type taker struct {
	server uint16
	seed   uint64
	room   int
	taken  []offer // most preferred first, at most room
}

// An offer is a slot that a taker holds, and how much the two prefer each other.
type offer struct {
	at   int
	bond uint64
}

func (t *taker) bond(at int) uint64 { return mix(t.seed ^ uint64(at)*golden) }

// wants reports whether t has room or something that it likes less.
func (t *taker) wants(bond uint64) bool {
	return len(t.taken) < t.room || bond > t.taken[t.room-1].bond
}

// take adds a slot. If t was full it returns the slot that has to leave for it.
func (t *taker) take(at int, bond uint64) (refused int, full bool) {
	if full = len(t.taken) == t.room; full {
		refused = t.taken[t.room-1].at
		t.taken = t.taken[:t.room-1]
	}
	i, _ := slices.BinarySearchFunc(t.taken, bond, func(o offer, bond uint64) int {
		return compareDown(o.bond, bond)
	})
	t.taken = slices.Insert(t.taken, i, offer{at, bond})
	return refused, full
}
