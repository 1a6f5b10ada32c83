package dataplane

import (
	"encoding/binary"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// Steering makes a connection's two directions meet the same worker, and so the
// same core's cache. Which queue an answer of the real server comes to is decided
// by its NIC, from addresses and ports; the local port is ours to choose. So of
// the free ports one is preferred whose answers come to a queue of the worker
// that makes the connection. Any other port is as right, only slower.

// Bytes of the hash's input: addresses, then ports, in network order.
const (
	hashedInput = 16 + 16 + 2 + 2
	hashKeySize = hashedInput + 4 // the hash's 32 bits slide over the key
)

// A toeplitz is the Toeplitz hash of one key. The hash is linear: each bit of the
// input that is set adds, by exclusive or, the 32 bits of the key that begin at
// its position. Here is, for each byte of the input, what each value of it adds.
type toeplitz [hashedInput][256]uint32

// newToeplitz prepares a key of at least hashKeySize bytes.
func newToeplitz(key []byte) *toeplitz {
	h := &toeplitz{}
	for at := range h {
		window := uint64(binary.BigEndian.Uint32(key[at:]))<<8 | uint64(key[at+4])
		for bit := range 8 { // the byte's lowest bit is the last to slide over
			h[at][1<<bit] = uint32(window >> (bit + 1))
		}
		for value := range h[at] {
			rest := value & (value - 1)
			h[at][value] = h[at][rest] ^ h[at][value^rest]
		}
	}
	return h
}

// flow returns the hash of a packet with the given source and addresses. Its
// destination port is still to be added.
func (h *toeplitz) flow(src packet.Endpoint, dst packet.Addr) uint32 {
	from, to := src.Addr[:], dst[:]
	if src.Addr.Is4() {
		from, to = from[12:], to[12:]
	}
	n := len(from)
	var sum uint32
	for i := range from {
		sum ^= h[i][from[i]] ^ h[n+i][to[i]]
	}
	return sum ^ h[2*n][src.Port>>8] ^ h[2*n+1][src.Port&0xff]
}

// port returns what a destination port adds to the hash of a flow.
func (h *toeplitz) port(is4 bool, port uint16) uint32 {
	at := hashedInput - 2
	if is4 {
		at = 4 + 4 + 2
	}
	return h[at][port>>8] ^ h[at+1][port&0xff]
}

// A spread is how one interface spreads packets over workers.
type spread struct {
	hash    *toeplitz
	workers []uint16 // by hash, modulo the length
	ports   [xsk.NumFlowTypes]bool
}

// newSpread returns how a NIC spreads packets over so many workers, each of which
// serves every so-many-th queue. It is nil where that is not known, or does not
// matter.
func newSpread(r *xsk.RSS, workers int) *spread {
	if r == nil || workers < 2 || len(r.Key) < hashKeySize || len(r.Queues) == 0 {
		return nil
	}
	s := &spread{hash: newToeplitz(r.Key), ports: r.Ports}
	for _, queue := range r.Queues {
		s.workers = append(s.workers, uint16(int(queue)%workers))
	}
	return s
}

// worker returns which worker gets a packet with this hash.
func (s *spread) worker(hash uint32) int { return int(s.workers[hash%uint32(len(s.workers))]) }

// A sight is what a worker aims by while it makes one connection.
type sight struct {
	at     *spread // of the interface towards the real server
	worker int
	real   packet.Endpoint
	lip    packet.Addr // that sum is of
	sum    uint32      // of answers from real to lip, but for the local port
}

// hits reports whether answers from the real server to this port come to the
// worker.
func (s *sight) hits(lip packet.Addr, lport uint16) bool {
	if lip != s.lip {
		s.lip, s.sum = lip, s.at.hash.flow(s.real, lip)
	}
	return s.at.worker(s.sum^s.at.hash.port(lip.Is4(), lport)) == s.worker
}

// aim returns how to choose the local port of a connection to a real server, or
// nil if one is as good as another.
func (w *Worker) aim(proto uint8, real *packet.Endpoint) *conntrack.Aim {
	spreads := *w.shared.spreads.Load()
	if len(spreads) == 0 {
		return nil
	}
	id := w.hops.Lookup(real.Addr)
	if id == 0 {
		return nil
	}
	at := spreads[w.hops.Hop(id).Port]
	if at == nil || !at.ports[flowType(proto, real.Addr)] {
		return nil
	}
	w.sight = sight{at: at, worker: w.index, real: *real}
	return &w.aiming
}

func flowType(proto uint8, a packet.Addr) xsk.FlowType {
	switch is4, tcp := a.Is4(), proto == packet.ProtoTCP; {
	case is4 && tcp:
		return xsk.TCP4
	case is4:
		return xsk.UDP4
	case tcp:
		return xsk.TCP6
	default:
		return xsk.UDP6
	}
}

// Which worker a connection's client comes by is kept in these bits of its Flags,
// modulo 8: so with more workers than that, one stray answer in eight is not seen.
const (
	homes     = 8
	homeShift = 5
	homeMask  = (homes - 1) << homeShift
)

func home(worker int) uint8 { return uint8(worker<<homeShift) & homeMask }

// visit notes that c's client comes by this worker.
func (w *Worker) visit(c *conntrack.Conn) { c.Flags = w.visited(c) }

// visited returns c's Flags as visit makes them.
func (w *Worker) visited(c *conntrack.Conn) uint8 { return c.Flags&^homeMask | w.home }

// greet counts an answer for c that came by another worker than its client does.
func (w *Worker) greet(c *conntrack.Conn) {
	if c.Flags&homeMask != w.home {
		w.counts.Events[ReplyElsewhere]++
	}
}
