package conntrack

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A table that is adopted is read shard by shard, and each shard by whoever needs it
// first, with its lock: a packet waits for one shard, not for all of them. Until then
// its memory is as it was left, so the process may end meanwhile as at any other time.

// adopting is what a table that another process has left needs until all of it is read.
type adopting struct {
	now      uint32  // the table's time when it was opened
	bindings int     // IDs from here on are new: nothing that was left has them
	locals   []Local // by LocalID, as they were then; further IDs are new, too

	next   atomic.Int32 // the shard that Finish reads next
	unread atomic.Int32 // shards

	mu       sync.Mutex // guards what follows; taken with a shard's lock held
	found    Adoption
	scratch  [][][2]uint64 // for hashes, one for whoever reads a shard
	whenRead func(*Shard)
}

// Open is Adopt that reads the header and the registry only. Whoever uses the table
// before Finish has returned waits for the shard that it needs.
func Open(mem []byte) (*Table, error) {
	h, err := headerOf(mem)
	if err != nil {
		return nil, err
	}
	c, err := h.read(len(mem))
	if err != nil {
		return nil, err
	}
	t := newTable(c, mem)
	a := &t.adopting
	warm(t.bindings)
	a.found.Entries = t.adoptRegistry()
	a.now = t.Clock()
	a.unread.Store(int32(len(t.shards)))
	for i := range t.shards {
		s := &t.shards[i]
		s.unread.Store(true)
		t.used.Add(int64(len(s.everUsed()))) // no fewer than there can be
	}
	return t, nil
}

// Finish reads what is not read yet, on so many processors, and returns what was found
// in the whole table.
func (t *Table) Finish(processors int) *Adoption {
	a := &t.adopting
	var all sync.WaitGroup
	for range min(processors, len(t.shards)) {
		all.Go(func() {
			for i := int(a.next.Add(1)) - 1; i < len(t.shards); i = int(a.next.Add(1)) - 1 {
				t.shards[i].lock()
				t.shards[i].Unlock()
				runtime.Gosched() // whoever has waited for it goes on here, and not when another thread finds a core
			}
		})
	}
	all.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scratch = nil
	found := a.found
	return &found
}

// isRead reports whether all is read: to look whether an ID is in use would have it read.
func (a *adopting) isRead() bool { return a.unread.Load() == 0 }

// finish reads what is not read yet, and reports whether there was any.
func (t *Table) finish() bool {
	if t.adopting.isRead() {
		return false
	}
	t.eachShard(func(*Shard) {})
	return true
}

// WhenRead calls f with each shard, locked: those that are read already at once, the
// others as soon as they are, before anybody else sees them. It is called once, before
// other goroutines use the table. f must not wait for anybody.
func (t *Table) WhenRead(f func(*Shard)) {
	t.adopting.whenRead = f
	t.eachUnread(func(s *Shard) {
		if !s.unread.Load() {
			f(s)
		}
	})
}

// lock locks the shard, and sees that it is read.
func (s *Shard) lock() {
	s.mu.Lock()
	if s.unread.Load() {
		s.read()
	}
}

// read makes the shard out of what another process has left in it. The caller holds the
// lock.
func (s *Shard) read() {
	a := &s.t.adopting
	s.warm()
	s.makeRoom()
	counted := len(s.everUsed())
	hashes := a.takeScratch(len(s.conns))
	found := s.adopt(a.now, hashes)
	s.raiseAll(s.known.of)
	s.unread.Store(false)
	s.t.used.Add(int64(found.Kept - counted))
	if a.whenRead != nil {
		a.whenRead(s)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found.add(&found)
	a.scratch = append(a.scratch, hashes)
	a.unread.Add(-1)
}

// warm has the shard's memory at hand.
func (s *Shard) warm() {
	n := len(s.everUsed())
	warm(s.conns[:n])
	warm(s.nodes[:2*n])
	warm(s.nodes[2*len(s.conns):])
	warm(s.index)
}

func (a *adopting) takeScratch(n int) [][2]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last := len(a.scratch) - 1; last >= 0 {
		hashes := a.scratch[last]
		a.scratch = a.scratch[:last]
		return hashes
	}
	return make([][2]uint64, n)
}
