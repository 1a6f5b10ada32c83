package conntrack

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/siphash"
)

// What a table keeps in its memory is laid out so that another process can go on with
// it, whenever and however this one ends: see Adopt. In front is the header, then the
// registry, the shards' marks, and shard by shard index, connections and lists.

// version is that of the layout. Who changes what any byte means raises it.
const version = 1

// magic begins a table's memory: "fnatconn".
const magic = 0x6e6e6f6374616e66

// A header says what the memory holds. All but clock is written once.
type header struct {
	magic    uint64
	version  uint32
	shards   uint32
	capacity uint64 // max_connections
	key      siphash.Key
	sum      uint64        // of all the above
	clock    atomic.Uint64 // when the table's timers were last looked at, and above that its complement
	_        [8]byte
}

// A mark is what a shard notes of what it is in the middle of.
type mark struct {
	rebuilding atomic.Uint32 // 1 while Adopt makes the index anew
	changing   atomic.Uint32 // slot+1 of the connection whose change is under way, see Begin
	_          [56]byte
	before     Conn // what that one was
}

func (h *header) set(c Config) {
	h.magic, h.version, h.shards, h.capacity, h.key = magic, version, uint32(c.Shards), uint64(c.MaxConnections), c.HashKey
	h.sum = h.checksum()
}

func (h *header) checksum() uint64 {
	return h.key.Sum5(h.magic, uint64(h.version)<<32|uint64(h.shards), h.capacity, h.key.K0, h.key.K1)
}

// read returns the Config of the table that h heads, in so many bytes of memory.
func (h *header) read(size int) (Config, error) {
	switch {
	case h.magic != magic:
		return Config{}, errors.New("there is no connection table in it")
	case h.version != version:
		return Config{}, fmt.Errorf("connection table of version %d, this fnatd knows %d", h.version, version)
	case h.sum != h.checksum():
		return Config{}, errors.New("connection table: the header is damaged")
	case h.clock.Load() != clockWord(uint32(h.clock.Load())):
		return Config{}, errors.New("connection table: its clock is damaged")
	}
	c := Config{MaxConnections: int(h.capacity), Shards: int(h.shards), HashKey: h.key}
	if err := c.validate(); err != nil {
		return Config{}, err
	}
	if want := Measure(c).Memory(); size < want {
		return Config{}, fmt.Errorf("connection table: %d bytes of %d are there", size, want)
	}
	return c, nil
}

func clockWord(now uint32) uint64 { return uint64(^now)<<32 | uint64(now) }

func (t *Table) setClock(now uint32) { t.header.clock.Store(clockWord(now)) }

// Clock returns the table's time when its timers were last looked at.
func (t *Table) Clock() uint32 { return uint32(t.header.clock.Load()) }

// Begin announces that c will be changed in several steps. If the process ends before
// Commit, c will be what it is now: or, if it was just made, it will not have been.
func (s *Shard) Begin(c *Conn, made bool) {
	if s.mark.before = (Conn{}); !made {
		s.mark.before = *c
	}
	s.mark.changing.Store(s.slot(c) + 1)
}

// Commit ends what Begin began.
func (s *Shard) Commit() { s.mark.changing.Store(0) }
