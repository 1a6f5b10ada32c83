package conntrack

import (
	"math/bits"

	"github.com/fnatd/fnatd/internal/prefetch"
)

// fullMemos is how many real servers at once a portSet can remember it is full
// toward. Our choice: two servers that share a memo cost time, not ports.
const fullMemos = 64

// cursors is how many classes of Aims have turns of their own at the ports. Our
// choice: workers that share one disturb each other's order, nothing else.
const cursors = 16

// A portSet is what one shard has of one local address's ports. Port p is
// number p>>bits in the shard p mod the number of shards. A port may serve any
// number of real servers at once, each by one connection. There are fewer real
// servers than a uint16 counts, as each has a BindingID.
//
// It can be rebuilt from the connections, so it lives on the Go heap.
type portSet struct {
	lo, hi int      // the numbers in the address's range are lo ≤ i < hi
	free   int      // ports in range that nobody uses
	idle   []uint64 // their bits
	uses   []uint16 // connections by port, in range or not

	inUse   int  // ports with uses
	conns   int  // the sum of uses
	anyFull bool // see full

	// Where to look next, by class: behind the port that it took last. Each class
	// has its own, since toward one real server it wants other ports than the
	// rest, and what one passes over is to keep its place in another's order.
	cursor [cursors]int32

	conflicts uint64 // ports tried, but in use toward that real server

	// The real servers toward which each port is in use, so that no search can
	// find one, while no port is idle.
	full [fullMemos]uint64
}

// newPortSet returns the ports of one shard, none of them in range.
func newPortSet(ports int) *portSet {
	return &portSet{idle: make([]uint64, (ports+63)/64), uses: make([]uint16, ports)}
}

// setRange sets which ports may be taken: lo ≤ i < hi. Those in use stay so.
func (p *portSet) setRange(lo, hi int) {
	p.lo, p.hi, p.free = lo, hi, 0
	for class := range p.cursor {
		p.cursor[class] = int32(lo)
	}
	clear(p.idle)
	for i := lo; i < hi; {
		switch {
		case p.conns == 0 && i%64 == 0 && hi-i >= 64:
			p.idle[i/64] = ^uint64(0)
			p.free += 64
			i += 64
			continue
		case p.uses[i] == 0:
			p.setIdle(i)
		}
		i++
	}
	p.forgetFull()
}

func (p *portSet) setIdle(i int) {
	p.idle[i/64] |= 1 << (i % 64)
	p.free++
}

// nextIdle returns the first idle port from port i on, and round; there must be
// one. From a cursor on it is the one that has been idle longest or nearly so: a
// real server may still hold an old connection of a port just freed in TIME_WAIT.
func (p *portSet) nextIdle(i int) int {
	w := i / 64 % len(p.idle)
	word := p.idle[w] & (^uint64(0) << (i % 64))
	for word == 0 {
		w = (w + 1) % len(p.idle)
		word = p.idle[w]
	}
	return w*64 + bits.TrailingZeros64(word)
}

// take counts one more connection on port i, chosen for an Aim of a class.
func (p *portSet) take(i, class int) {
	if p.uses[i] == 0 {
		p.idle[i/64] &^= 1 << (i % 64)
		p.free--
		p.inUse++
	}
	p.uses[i]++
	p.conns++
	p.cursor[class] = int32(i + 1)
}

// keep counts one more connection on port i, which was chosen before.
func (p *portSet) keep(i int) {
	if p.uses[i] == 0 {
		if p.lo <= i && i < p.hi {
			p.idle[i/64] &^= 1 << (i % 64)
			p.free--
		}
		p.inUse++
	}
	p.uses[i]++
	p.conns++
}

// foresee begins to load what take and release use of p, foreseePort then what they use of
// port i.
func (p *portSet) foresee(lines *prefetch.Lines) {
	prefetch.Add(lines, &p.lo)
	prefetch.Add(lines, &p.conns)
}

func (p *portSet) foreseePort(lines *prefetch.Lines, i int) {
	prefetch.Add(lines, &p.idle[i/64])
	prefetch.Add(lines, &p.uses[i])
}

// release undoes take, for a connection with a real server.
func (p *portSet) release(i int, real uint64) {
	p.uses[i]--
	p.conns--
	if p.uses[i] > 0 {
		p.forget(real)
		return
	}
	p.inUse--
	if p.lo <= i && i < p.hi {
		p.setIdle(i)
	}
	// Whoever takes the idle port next leaves it usable toward all others.
	if p.anyFull {
		p.forgetFull()
	}
}

// isFull reports whether every port is known to be in use toward real.
func (p *portSet) isFull(real uint64) bool { return p.full[real%fullMemos] == real }

// setFull notes that every port is in use toward real.
func (p *portSet) setFull(real uint64) {
	p.full[real%fullMemos] = real
	p.anyFull = true
}

// forget takes back setFull for one real server.
func (p *portSet) forget(real uint64) {
	if p.isFull(real) {
		p.full[real%fullMemos] = 0
	}
}

// forgetFull takes back every setFull.
func (p *portSet) forgetFull() {
	clear(p.full[:])
	p.anyFull = false
}

// port and portIndex translate between a port and its number in a portSet.
func (s *Shard) port(i int) uint16         { return uint16(i<<s.bits) | uint16(s.number) }
func (s *Shard) portIndex(port uint16) int { return int(port >> s.bits) }
