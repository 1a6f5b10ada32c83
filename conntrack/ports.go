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

// fewWords is how many words of bits a portSet has in itself. Our choice: as many as it
// takes with the usual 64 shards.
const fewWords = 1 << 16 / defaultShards / 64

// A portSet is what one shard has of one local address's ports. Port p is
// number p>>bits in the shard p mod the number of shards. A port may serve any
// number of real servers at once, each by one connection. There are fewer real
// servers than a uint16 counts, as each has a BindingID.
//
// It can be rebuilt from the connections, so it lives on the Go heap. A connection's
// begin and end touch three cache lines of it, of which two are always the same; where
// ports serve several, one more.
type portSet struct {
	few [fewWords]uint64 // used, if that is no longer

	lo, hi  int      // the numbers in the address's range are lo ≤ i < hi
	free    int      // ports in range that nobody uses
	used    []uint64 // bits of ports with a connection, in range or not
	inUse   int32    // how many these are
	conns   int32    // connections
	anyFull bool     // see full

	// Where to look next, by class: behind the port that it took last. Each class
	// has its own, since toward one real server it wants other ports than the
	// rest, and what one passes over is to keep its place in another's order.
	cursor [cursors]int32

	more      []uint16 // connections by port, in range or not, beyond its first
	conflicts uint64   // ports tried, but in use toward that real server

	// The real servers toward which each port is in use, so that no search can
	// find one, while no port is idle.
	full [fullMemos]uint64
}

// newPortSet returns the ports of one shard, none of them in range.
func newPortSet(ports int) *portSet {
	p := &portSet{more: make([]uint16, ports)}
	if words := (ports + 63) / 64; words <= fewWords {
		p.used = p.few[:words]
	} else {
		p.used = make([]uint64, words)
	}
	return p
}

// setRange sets which ports may be taken: lo ≤ i < hi. Those in use stay so.
func (p *portSet) setRange(lo, hi int) {
	p.lo, p.hi, p.free = lo, hi, 0
	for class := range p.cursor {
		p.cursor[class] = int32(lo)
	}
	for w := range p.used {
		p.free += bits.OnesCount64(p.idle(w))
	}
	p.forgetFull()
}

// idle returns the bits of those ports of a word that are in range and not in use.
func (p *portSet) idle(w int) uint64 {
	idle := ^p.used[w]
	if from := p.lo - 64*w; from > 0 {
		idle &= ^uint64(0) << from
	}
	if to := p.hi - 64*w; to < 64 {
		idle &= 1<<max(to, 0) - 1
	}
	return idle
}

// nextIdle returns the first idle port from port i on, and round; there must be
// one. From a cursor on it is the one that has been idle longest or nearly so: a
// real server may still hold an old connection of a port just freed in TIME_WAIT.
func (p *portSet) nextIdle(i int) int {
	w, from := i/64, ^uint64(0)<<(i%64)
	if w == len(p.used) {
		w, from = 0, ^uint64(0)
	}
	word := p.idle(w) & from
	for word == 0 {
		if w++; w == len(p.used) {
			w = 0
		}
		word = p.idle(w)
	}
	return w*64 + bits.TrailingZeros64(word)
}

// take counts one more connection on port i, chosen for an Aim of a class.
func (p *portSet) take(i, class int) {
	p.keep(i)
	p.cursor[class] = int32(i + 1)
}

// keep counts one more connection on port i, which was chosen before.
func (p *portSet) keep(i int) {
	p.conns++
	word, bit := &p.used[i/64], uint64(1)<<(i%64)
	if *word&bit != 0 {
		p.more[i]++
		return
	}
	*word |= bit
	p.inUse++
	if p.lo <= i && i < p.hi {
		p.free--
	}
}

// isShared reports whether port i has more than one connection.
func (p *portSet) isShared(i int) bool { return p.conns > p.inUse && p.more[i] > 0 }

// release undoes take, for a connection with a real server.
func (p *portSet) release(i int, real uint64) {
	shared := p.isShared(i)
	p.conns--
	if shared {
		p.more[i]--
		p.forget(real)
		return
	}
	p.used[i/64] &^= 1 << (i % 64)
	p.inUse--
	if p.lo <= i && i < p.hi {
		p.free++
	}
	// Whoever takes the idle port next leaves it usable toward all others.
	if p.anyFull {
		p.forgetFull()
	}
}

// foresee begins to load what take and release use of p, foreseePort then what they use of
// port i. That p is not nil it asks itself: else the compiler does, by loading from it.
func (p *portSet) foresee(lines *prefetch.Lines) {
	if p != nil {
		prefetch.Add(lines, &p.lo)
	}
}

func (p *portSet) foreseePort(lines *prefetch.Lines, i int) { prefetch.Add(lines, &p.used[i/64]) }

// expect begins to load what choosing a port for an Aim of a class takes, and expectPort then
// the bits that it looks at first. For nil see foresee.
func (p *portSet) expect(class int) {
	if p != nil {
		prefetch.Line(&p.lo)
		prefetch.Line(&p.cursor[class%cursors])
	}
}

func (p *portSet) expectPort(class int) {
	if w := int(p.cursor[class]) / 64; w < len(p.used) {
		prefetch.Line(&p.used[w])
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
