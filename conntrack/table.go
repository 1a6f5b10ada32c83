// Package conntrack is the connection table: it finds the connection of a packet
// from either direction, gives new connections a local address and port, and
// lets go of what has timed out. It is not told why: which real server to choose
// is lb's to say, what to write into a packet is dataplane's.
//
// The table is cut into shards. A shard is a whole connection table, with its
// own lock, connections, index, timers and its share of every local address's
// ports: those that are its number modulo the number of shards. An inbound
// flow's hash says which shard it belongs to, and its connection then gets a
// local port of that shard, so that the port alone leads the answer back there.
//
// Times are milliseconds of the table's own clock, which the caller reads once a
// batch. They wrap around after 49 days; timeouts must be shorter than 24.
package conntrack

import (
	"crypto/rand"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/siphash"
)

// A Config says how large a table is. The size is fixed for the table's life.
type Config struct {
	// MaxConnections is the bound on connections and templates together.
	MaxConnections int
	// Shards is a power of two up to 4096; 0 is 64. Many more than workers, so
	// that two seldom want the same.
	Shards int
	// HashKey is the secret of the index; zero means a random one.
	HashKey siphash.Key
}

const (
	defaultShards = 64
	maxShards     = 4096    // leaves 16 ports of each local address to a shard
	maxCapacity   = 1 << 30 // connections; slots and list positions have 32 bits
)

// A Table is a connection table. Its methods may be called from any goroutine;
// a Shard and the Conns in it belong to whoever holds the shard's lock.
type Table struct {
	header    *header
	key       siphash.Key
	shardMask uint32
	lines     shardLines
	shards    []Shard
	bindings  []bindingEntry  // by BindingID
	locals    []localEntry    // by LocalID
	oldest    []atomic.Uint32 // by shard: the age of its oldest half-open connection
	registry  registry
	adopting  adopting
	max       int64

	_    [cacheLine]byte
	used atomic.Int64 // reservations, whether or not a connection fills them yet
	_    [cacheLine]byte
}

// New returns an empty table in mem, which is zeroed, aligned to a cache line and as
// large as Measure(c).Memory() says. The memory stays the caller's, and must stay
// mapped while the table is used.
func New(c Config, mem []byte) (*Table, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return newTable(c.withDefaults(), mem), nil
}

// newTable returns the table in mem without what it may hold already.
func newTable(c Config, mem []byte) *Table {
	t := &Table{
		key:       c.HashKey,
		shardMask: uint32(c.Shards - 1),
		shards:    make([]Shard, c.Shards),
		oldest:    make([]atomic.Uint32, c.Shards),
		registry:  newRegistry(),
		max:       int64(c.MaxConnections),
	}
	var headers []header
	var marks []mark
	headers, mem = carve[header](mem, 1)
	t.header = &headers[0]
	isNew := t.header.magic != magic
	if isNew {
		t.header.set(c)
		t.setClock(0)
	}
	marks, mem = carve[mark](mem, c.Shards)
	t.bindings, mem = carve[bindingEntry](mem, maxBindings)
	t.locals, mem = carve[localEntry](mem, maxLocals)
	l := layoutOf(c)
	t.lines = linesOf(&l, mem, c.Shards)
	for i := range t.shards {
		s := &t.shards[i]
		s.mark = &marks[i]
		if isNew {
			s.setFresh(0)
		}
		s.t, s.number, s.bits = t, uint32(i), uint8(bits.TrailingZeros(uint(c.Shards)))
		s.turn.n = s.number * turnLength // else all shards' first connections would share one local address
		s.bindings, s.locals = t.bindings, t.locals
		s.index, mem = carve[bucket](mem, l.buckets)
		s.conns, mem = carve[Conn](mem, l.capacity)
		s.nodes, mem = carve[node](mem, l.nodes)
		s.refs, s.ports = make([]uint32, 1), make([]*portSet, 1)
		if isNew {
			s.resetHeads()
		}
	}
	return t
}

func (c Config) validate() error {
	if c.MaxConnections < 1 || c.MaxConnections > maxCapacity {
		return fmt.Errorf("max_connections %d: want 1 to %d", c.MaxConnections, maxCapacity)
	}
	if s := c.Shards; s < 0 || s > maxShards || s&(s-1) != 0 {
		return fmt.Errorf("connection table: %d shards: want a power of two up to %d", s, maxShards)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Shards == 0 {
		c.Shards = defaultShards
	}
	if c.HashKey == (siphash.Key{}) {
		var b [16]byte
		rand.Read(b[:]) // never fails: crypto/rand ends the program instead
		c.HashKey = siphash.KeyFrom(b)
	}
	return c
}
