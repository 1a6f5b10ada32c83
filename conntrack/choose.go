package conntrack

import "github.com/fnatd/fnatd/internal/packet"

// aimTries is how many ports are looked at for one that an Aim hits. Our choice:
// one port in n hits where n workers aim, so that up to 16 of them miss by chance
// once in sixty times; and it is 0.3 µs under the shard's lock at the worst.
const aimTries = 64

// turnLength is how many connections of a shard have the same local address before the
// next one's turn. Our choice: what a shard has of an address is several cache lines,
// which are at hand for all but the first of them.
const turnLength = 64

// A turn is whose it is to serve a new connection, of a pool's local addresses.
type turn struct {
	n      uint32 // connections so far
	length int    // of the pool that was asked for last
	pool   *LocalID
	local  LocalID // of that pool
	ports  *portSet
	after  *portSet // of the address that comes next, from a little before that on
}

// next gives the turn to who has it next of a pool, which is not empty. Of whom nobody has
// touched for so long everything is in memory, one line behind the other: 300 ns. So all of
// it is asked for some connections before.
func (u *turn) next(s *Shard, locals []LocalID, class int) {
	if u.n++; u.pool != &locals[0] || u.length != len(locals) {
		u.begin(s, locals)
		return
	}
	switch u.n % turnLength {
	case 0:
		u.begin(s, locals)
	case turnLength - 6:
		u.after = s.ports[locals[u.first(locals, turnLength)]]
		u.after.expect(class)
	case turnLength - 3:
		u.after.expectPort(class)
	}
}

// begin begins a turn.
func (u *turn) begin(s *Shard, locals []LocalID) {
	u.pool, u.length = &locals[0], len(locals)
	u.local = locals[u.first(locals, 0)]
	u.ports = s.ports[u.local]
	u.after = u.ports
}

// first returns the position of the address whose turn it is so many connections from now.
func (u *turn) first(locals []LocalID, ahead uint32) int {
	return int((u.n + ahead) / turnLength % uint32(len(locals)))
}

// An Aim is a wish for certain local ports, of whoever makes connections. It
// never costs a connection: where no port that it hits is soon found, another one
// will do.
type Aim struct {
	// Class keeps apart those who wish for different ports, such as workers. Each
	// has turns of its own at the ports, so that toward one real server each gets
	// the one of its ports that has been idle longest.
	Class int
	// Hits reports whether it is such a port of a local address. Nil means that
	// all are. It is called with the shard locked.
	Hits func(lip packet.Addr, lport uint16) bool
}

var aimless Aim

func (a *Aim) cursor() int { return a.Class & (cursors - 1) }

// choose finds a local address, from the one on whose turn it is, and a port for the
// outbound flow out, whose source is the real server, and sets them as its destination.
func (s *Shard) choose(out *packet.Flow, real uint64, locals []LocalID, aim *Aim) (LocalID, bool) {
	first := s.turn.first(locals, 0)
	is4 := out.Src.Is4()
	for i := range locals {
		id := locals[(first+i)%len(locals)]
		out.Dst = s.locals[id].Addr
		if out.Dst.Is4() == is4 && s.choosePort(s.ports[id], out, real, aim) {
			return id, true
		}
	}
	return 0, false
}

// choosePort finds a port of p for out and sets it: an idle one, or else, as a
// port may serve several real servers, one not in use toward this one.
func (s *Shard) choosePort(p *portSet, out *packet.Flow, real uint64, aim *Aim) bool {
	from := int(p.cursor[aim.cursor()])
	if p.free > 0 {
		s.chooseIdle(p, out, from, aim.Hits)
		return true
	}
	if p.isFull(real) {
		return false
	}
	ports := p.hi - p.lo
	if aim.Hits != nil && s.chooseShared(p, out, from, min(aimTries, ports), aim.Hits) {
		return true
	}
	if s.chooseShared(p, out, from, ports, nil) {
		return true
	}
	p.setFull(real)
	return false
}

// chooseIdle takes the first idle port that hits, or else the first one. There
// must be one.
func (s *Shard) chooseIdle(p *portSet, out *packet.Flow, from int, hits func(packet.Addr, uint16) bool) {
	first := p.nextIdle(from)
	out.DstPort = s.port(first)
	if hits == nil {
		return
	}
	i := first
	for range min(aimTries, p.free) {
		out.DstPort = s.port(i)
		if hits(out.Dst, out.DstPort) {
			return
		}
		i = p.nextIdle(i + 1)
	}
	out.DstPort = s.port(first)
}

// chooseShared looks at so many ports for one that hits, if hits is not nil, and
// is not in use toward the real server.
func (s *Shard) chooseShared(p *portSet, out *packet.Flow, from, tries int, hits func(packet.Addr, uint16) bool) bool {
	i := from
	for range tries {
		if i >= p.hi {
			i = p.lo
		}
		out.DstPort = s.port(i)
		i++
		if hits != nil && !hits(out.Dst, out.DstPort) {
			continue
		}
		if s.find(s.t.OutboundKey(out), out) == nil {
			return true
		}
		p.conflicts++
	}
	return false
}
