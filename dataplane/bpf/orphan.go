package bpf

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// PassAfter is a sign of life: what nobody serves is dropped for so long from now,
// and then left to the kernel unless there was another sign. With 0 it is dropped
// without end, as it is by a program that was never given one.
func (p *Program) PassAfter(wait time.Duration) error {
	from := uint64(0)
	if wait > 0 {
		from = uint64(Monotonic() + wait)
	}
	if err := p.objs.Orphans.Put(uint32(0), from); err != nil {
		return fmt.Errorf("xdp program: sign of life: %w", err)
	}
	return nil
}

// Monotonic returns the time by the clock that the program reads.
func Monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // which Linux always has
	return time.Duration(t.Nano())
}
