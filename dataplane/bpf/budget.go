package bpf

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
)

// Where the fields of struct budget stand in it.
const (
	budgetIn   = 0
	budgetDone = 4
)

// A SYNBudget is the other half of what bounds the SYNs of guarded services that wait
// in one socket's ring: the program counts those that it redirects, and drops more
// while too many of them are not yet done with. So nothing else is ever lost, or
// late, behind SYNs. It belongs to the worker that serves the socket.
//
// A frame that was redirected may yet be lost on the way, when the ring is full
// or the kernel has no frame to put it in. It is known to be gone when the ring is
// empty, or when so much has been received as the ring holds.
type SYNBudget struct {
	memory *ebpf.Memory
	at     int64  // of this budget in memory
	ring   int    // descriptors that the ring holds
	done   uint32 // as the program sees it
	seen   uint32 // the program's count when Received returned last
	mark   uint32 // ... at the last mark
	left   int    // descriptors until all that mark counts are gone
	word   [4]byte
}

// SYNBudget returns the budget of the socket on an interface's queue, whose receive
// ring holds so many descriptors.
func (p *Program) SYNBudget(ifindex, queue, ring int) (*SYNBudget, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	place, err := p.placeLocked(ifindex, queue)
	if err != nil {
		return nil, err
	}
	memory, err := p.objs.Budgets.Memory()
	if err != nil {
		return nil, fmt.Errorf("xdp program: budgets: %w", err)
	}
	b := &SYNBudget{memory: memory, at: int64(place) * int64(p.objs.Budgets.ValueSize()), ring: ring, left: ring}
	b.done, b.seen = b.load(budgetDone), b.load(budgetIn)
	b.mark = b.seen
	return b, nil
}

// Received tells that the socket gave out n descriptors at once, syns of which were
// SYNs to guarded services. Call it after each receive, also an empty one.
func (b *SYNBudget) Received(n, syns int) {
	done := b.done + uint32(syns)
	if b.left -= n; b.left <= 0 {
		if int32(b.mark-done) > 0 {
			done = b.mark
		}
		b.mark, b.left = b.load(budgetIn), b.ring
	}
	if n == 0 {
		// What was counted before the receive is gone. What came since then, and what
		// the kernel has counted but not yet shown, may make done overtake the count.
		done = b.seen
	}
	b.seen = b.load(budgetIn)
	if done != b.done {
		b.done = done
		b.store(budgetDone, done)
	}
}

// load and store copy a whole aligned word, which Memory does by one instruction.
// No order among them, nor towards the ring, is relied on.

func (b *SYNBudget) load(field int64) uint32 {
	if _, err := b.memory.ReadAt(b.word[:], b.at+field); err != nil {
		return b.seen // the program is closed
	}
	return binary.NativeEndian.Uint32(b.word[:])
}

func (b *SYNBudget) store(field int64, word uint32) {
	binary.NativeEndian.PutUint32(b.word[:], word)
	_, _ = b.memory.WriteAt(b.word[:], b.at+field) // fails only when the program is closed
}
