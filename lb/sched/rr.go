package sched

import (
	"math/bits"
	"sort"
	"sync/atomic"
)

// roundRobin is rr and wrr. A cycle has as many turns as the (reduced) weights
// add up to, and in every cycle each server gets exactly its weight of them.
//
// A pick takes the next ticket off one atomic counter and computes from it alone
// whose turn that is, so that counts stay exact with any number of workers and
// without a lock. For wrr the turns of a cycle are visited in steps of about the
// golden ratio, which spreads a server's turns evenly: weights 5, 1, 1 never
// mean five connections in a row to the first, as they do in ipvs.
type roundRobin struct {
	servers []Server
	ends    []uint64 // ends[i] is the first turn after server i's
	total   uint64   // turns in a cycle
	step    uint64   // coprime to total
	even    bool     // each server has one turn
	cursors *cursors // shared with the schedulers before and after this one
}

// cursors count tickets: next those of ordinary picks, spill those of picks
// whose server was overloaded.
type cursors struct {
	next, spill atomic.Uint64
}

func newRoundRobin(s *Spec, prev algorithm) algorithm {
	r := &roundRobin{servers: s.Servers, ends: make([]uint64, len(s.Servers)), step: 1, cursors: new(cursors)}
	if old, ok := prev.(*roundRobin); ok {
		r.cursors = old.cursors
	}
	weight := func(i int) uint64 { return uint64(s.Servers[i].Weight) }
	if s.Name == "rr" {
		weight = func(i int) uint64 { return min(uint64(s.Servers[i].Weight), 1) }
	}
	var divisor uint64
	for i := range s.Servers {
		divisor = gcd(divisor, weight(i))
	}
	for i := range s.Servers {
		if divisor > 0 {
			r.total += weight(i) / divisor
		}
		r.ends[i] = r.total
	}
	r.even = r.total > 0
	for i := range r.ends {
		r.even = r.even && r.ends[i] == uint64(i+1)
	}
	if s.Name == "wrr" && !r.even {
		r.step = goldenStep(r.total)
	}
	return r
}

func (r *roundRobin) pick(Client) int {
	if r.total == 0 {
		return -1
	}
	i := r.holder(r.cursors.next.Add(1) - 1)
	if r.servers[i].Available() {
		return i
	}
	return r.pickSpill()
}

// holder returns whose turn a ticket is. There must be turns.
func (r *roundRobin) holder(ticket uint64) int {
	turn := ticket % r.total
	if r.even {
		return int(turn)
	}
	if r.step > 1 { // divisions are what takes time here
		hi, lo := bits.Mul64(turn, r.step)
		turn = bits.Rem64(hi, lo, r.total)
	}
	return sort.Search(len(r.ends), func(i int) bool { return r.ends[i] > turn })
}

// pickSpill gives a turn whose server is overloaded to another, again by weight:
// handing it to the neighbour would double the neighbour's share.
func (r *roundRobin) pickSpill() int {
	var total uint64
	for i := range r.servers {
		if r.servers[i].Available() {
			total += r.weight(i)
		}
	}
	if total == 0 {
		return -1
	}
	turn := (r.cursors.spill.Add(1) - 1) % total
	last := -1
	for i := range r.servers {
		if !r.servers[i].Available() {
			continue
		}
		if last = i; turn < r.weight(i) {
			break
		}
		turn -= r.weight(i)
	}
	return last // of those seen, should the available ones have changed meanwhile
}

// weight returns server i's turns in a cycle.
func (r *roundRobin) weight(i int) uint64 {
	if i == 0 {
		return r.ends[0]
	}
	return r.ends[i] - r.ends[i-1]
}

// goldenStep returns the number coprime to total that is next to total divided
// by the golden ratio: multiples of it modulo total cover a cycle most evenly.
func goldenStep(total uint64) uint64 {
	const ratio = 0.6180339887498949
	step := max(uint64(float64(total)*ratio), 1)
	for gcd(step, total) > 1 {
		step++
	}
	return step
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
