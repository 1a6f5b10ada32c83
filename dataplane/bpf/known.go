package bpf

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/siphash"
)

// A FlowHash is how the connection table finds the place of a client's flow among its
// counts: by the keyed hash of conntrack.Table.InboundKey. The lowest bits of it are the
// number of a shard, whose places are next to each other; the highest are the place.
type FlowHash struct {
	Key    siphash.Key
	Shards int // a power of two
}

// flowCounts are the memory in which somebody counts flows.
type flowCounts struct {
	bpf    *ebpf.Map // nil: nobody does
	memory []byte    // counts, and behind them those of lines
}

// CountFlows returns zeroed memory for so many counts, a power of two and at least 64
// for each shard, of the flows of connections that there are, and for how many of each 64
// are not 0. Where Guard.Known says
// that those of a service are counted, the program drops its segments of flows whose
// count is 0, unless they bring a good cookie. The memory is the program's, and good
// until Close.
func (p *Program) CountFlows(h FlowHash, places int) (counts, lines []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows.bpf != nil {
		return nil, nil, errors.New("xdp program: flows are counted already")
	}
	f, err := newFlowCounts(places)
	if err != nil {
		return nil, nil, fmt.Errorf("xdp program: %d counts of flows: %w", places, err)
	}
	next := p.secrets
	next.Flows.K0, next.Flows.K1 = h.Key.K0, h.Key.K1
	next.Places, next.Shards = uint32(bits.Len(uint(places-1))), uint32(bits.Len(uint(h.Shards-1)))
	if err := errors.Join(p.setSecretsLocked(next), p.objs.Known.Put(uint32(0), f.bpf)); err != nil {
		return nil, nil, errors.Join(err, f.close())
	}
	p.flows = f
	return f.memory[:places], f.memory[places:], nil
}

func newFlowCounts(places int) (f flowCounts, err error) {
	spec, err := loadXdp()
	if err != nil {
		return f, err
	}
	inner := spec.Maps[xdpMapKnown].InnerMap
	size := places + places/int(inner.ValueSize)
	inner.MaxEntries = (uint32(size) + inner.ValueSize - 1) / inner.ValueSize
	if f.bpf, err = ebpf.NewMap(inner); err != nil {
		return f, err
	}
	f.memory, err = unix.Mmap(f.bpf.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return flowCounts{}, errors.Join(err, f.bpf.Close())
	}
	return f, nil
}

func (f *flowCounts) close() error {
	if f.bpf == nil {
		return nil
	}
	return errors.Join(unix.Munmap(f.memory), f.bpf.Close())
}

// TrustCounts says whether the counts are right. They are not when another process may
// go on with the connections: all segments go to user space then.
func (p *Program) TrustCounts(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows.bpf == nil {
		return nil
	}
	var err error
	if on {
		err = p.objs.Known.Put(uint32(0), p.flows.bpf)
	} else {
		err = distrust(p.objs.Known)
	}
	if err != nil {
		return fmt.Errorf("xdp program: trust in its counts of flows: %w", err)
	}
	return nil
}

// distrust empties the map that leads to the counts. When it returns no packet is judged
// by them any more.
func distrust(known *ebpf.Map) error {
	return ignore(known.Delete(uint32(0)), ebpf.ErrKeyNotExist)
}
