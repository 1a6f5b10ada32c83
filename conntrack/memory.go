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

// Version is that of the layout. Who changes what any byte means raises it.
const Version = 1

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
	clock    atomic.Uint64 // when the table's timers were last looked at, see paired
	_        [8]byte
}

// A mark is what a shard notes of what it is in the middle of.
type mark struct {
	rebuilding atomic.Uint32 // 1 while Adopt makes the index anew
	changing   atomic.Uint32 // slot+1 of the connection whose change is under way, see Begin
	fresh      atomic.Uint64 // slots from here on were never used, see paired
	_          [48]byte
	before     Conn // what that one was
}

func (h *header) set(c Config) {
	h.magic, h.version, h.shards, h.capacity, h.key = magic, Version, uint32(c.Shards), uint64(c.MaxConnections), c.HashKey
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
	case h.version != Version:
		return Config{}, fmt.Errorf("connection table of version %d, this fnatd knows %d", h.version, Version)
	case h.sum != h.checksum():
		return Config{}, errors.New("connection table: the header is damaged")
	case h.clock.Load() != paired(uint32(h.clock.Load())):
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

// paired returns n below its complement: a word that is not damaged, or all of it.
func paired(n uint32) uint64 { return uint64(^n)<<32 | uint64(n) }

func (t *Table) setClock(now uint32) { t.header.clock.Store(paired(now)) }

// setFresh notes how many slots were ever used.
func (s *Shard) setFresh(n uint32) {
	s.fresh = n
	s.mark.fresh.Store(paired(n))
}

// everUsed returns the slots that can hold a connection: all if the mark does not tell.
func (s *Shard) everUsed() []Conn {
	word := s.mark.fresh.Load()
	if n := uint32(word); word == paired(n) && int(n) <= len(s.conns) {
		return s.conns[:n]
	}
	return s.conns
}

// Clock returns the table's time when its timers were last looked at.
func (t *Table) Clock() uint32 { return uint32(t.header.clock.Load()) }

// Begin announces that c will be changed in several steps. If the process ends before
// Commit, c will be what it is now: or, if it was just made, it will not have been.
func (s *Shard) Begin(c *Conn, made bool) {
	if s.mark.before = (Conn{}); !made {
		s.mark.before = c.Copy()
	}
	s.mark.changing.Store(s.slot(c) + 1)
}

// Commit ends what Begin began.
func (s *Shard) Commit() { s.mark.changing.Store(0) }
