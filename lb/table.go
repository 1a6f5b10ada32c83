// Package lb turns a configuration into what the packet path asks: which service
// an address belongs to, which real server takes a new connection, which local
// addresses it may use. It holds no connection and sees no packet. A Table is
// immutable; a reload compiles a new one.
package lb

import (
	"encoding/binary"
	"math/bits"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/sched"
)

// A Table is a whole configuration as the packet path sees it. It is immutable
// but for the loads and cursors behind its servers and schedulers, which it
// shares with the tables before and after it. The zero Table has no service.
type Table struct {
	Services []*Service // in the order of the configuration; Service.Index is the index
	Pools    []*Pool

	index index

	// retired holds the loads of servers that are configured no longer but may
	// still have connections, so that a server that comes back finds its count.
	retired map[binding]*sched.Load
}

// A binding identifies a real server as one service uses it.
type binding struct {
	proto         uint8
	virtual, real packet.Endpoint
}

// Service returns the service at virtual, or nil.
func (t *Table) Service(proto uint8, virtual packet.Endpoint) *Service {
	if len(t.index) == 0 {
		return nil
	}
	for at := hash(proto, &virtual); ; at++ {
		s := t.index[at&uint64(len(t.index)-1)]
		if s == nil || s.Virtual == virtual && s.Proto == proto {
			return s
		}
	}
}

// An index finds services by open addressing with linear probing. Its length is
// a power of two and at least twice the number of services, so a probe ends. The
// hash needs no secret: only the operator chooses what is in the index.
type index []*Service

func newIndex(services []*Service) index {
	if len(services) == 0 {
		return nil
	}
	x := make(index, 1<<bits.Len(uint(2*len(services)-1)))
	for _, s := range services {
		at := hash(s.Proto, &s.Virtual)
		for x[at&uint64(len(x)-1)] != nil {
			at++
		}
		x[at&uint64(len(x)-1)] = s
	}
	return x
}

func hash(proto uint8, e *packet.Endpoint) uint64 {
	hi, lo := binary.BigEndian.Uint64(e.Addr[:8]), binary.BigEndian.Uint64(e.Addr[8:])
	const odd = 0x9e3779b97f4a7c15
	h := (hi*odd ^ lo) * odd
	h = (h ^ h>>32 ^ uint64(e.Port)<<8 ^ uint64(proto)) * odd
	return h >> 32
}

// A Pool is a named set of LIPs.
type Pool struct {
	Name             string
	Interface        string
	Addrs            []packet.Addr
	PortMin, PortMax uint16 // inclusive
}
