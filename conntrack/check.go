package conntrack

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"github.com/fnatd/fnatd/internal/packet"
)

// Check goes over the whole table and returns what contradicts itself: the first
// fault of each shard. It locks one shard at a time, for as long as that takes:
// some 200 ns a connection.
func (t *Table) Check() error {
	var faults []error
	live := int64(0)
	t.eachShard(func(s *Shard) {
		live += int64(s.live)
		if err := s.check(); err != nil {
			faults = append(faults, fmt.Errorf("shard %d: %w", s.number, err))
		}
	})
	if used := t.used.Load(); used > t.max {
		faults = append(faults, fmt.Errorf("%d places reserved of %d", used, t.max))
	} else if used < live {
		faults = append(faults, fmt.Errorf("%d connections in %d reserved places", live, used))
	}
	return errors.Join(faults...)
}

func (s *Shard) check() error {
	for _, part := range []func() error{
		s.checkSlots, s.checkIndex, s.checkWheel, s.checkHalfOpen, s.checkPorts, s.checkKnown,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// checkSlots compares the counts with the connections, and the free list with
// the places that have none.
func (s *Shard) checkSlots() error {
	var live, templates int
	refs := make([]uint32, len(s.refs))
	for i := range s.conns[:s.fresh] {
		c := &s.conns[i]
		if c.State == None {
			continue
		}
		live++
		if c.State == Template {
			templates++
		}
		if int(c.Binding()) >= len(refs) || c.Binding() == 0 {
			return fmt.Errorf("slot %d: no binding %d", i, c.Binding())
		}
		refs[c.Binding()]++
	}
	if live != s.live || templates != s.templates {
		return fmt.Errorf("%d connections, %d of them templates, but counted %d and %d",
			live, templates, s.live, s.templates)
	}
	for id, n := range refs {
		if n != s.refs[id] {
			return fmt.Errorf("binding %d: %d connections, but counted %d", id, n, s.refs[id])
		}
	}
	unused := int(s.fresh) - live
	for at := s.free; at != 0; at = s.nodes[wheelNode(at-1)].next {
		if unused--; unused < 0 || at > s.fresh || s.conns[at-1].State != None {
			return fmt.Errorf("free list: slot %d is not free", at-1)
		}
	}
	if unused != 0 {
		return fmt.Errorf("free list: %d slots are missing", unused)
	}
	return nil
}

// flowOf returns c's flow of kind d, and its key.
func (s *Shard) flowOf(c *Conn, d kind) (packet.Flow, Key) {
	switch {
	case d == outbound:
		f := s.t.OutboundFlow(c)
		return f, s.t.OutboundKey(&f)
	case d == inbound:
		f := s.t.InboundFlow(c)
		return f, s.t.InboundKey(&f)
	}
	b := &s.bindings[c.Binding()]
	f := packet.Flow{Src: c.Client, Dst: b.Virtual.Addr, DstPort: b.Virtual.Port, Proto: b.Proto}
	return f, s.t.TemplateKey(b.Proto, c.Client, b.Virtual)
}

// kindsOf returns the kinds of flows that the index leads to c by.
func kindsOf(c *Conn) []kind {
	if c.State == Template {
		return []kind{template}
	}
	return []kind{inbound, outbound}
}

// checkIndex looks every connection up by every flow, and sees that the index
// holds nothing else and counts right what lies outside its home.
func (s *Shard) checkIndex() error {
	passed, entries := make([]uint64, len(s.index)), 0
	for i := range s.conns[:s.fresh] {
		c := &s.conns[i]
		if c.State == None {
			continue
		}
		for _, d := range kindsOf(c) {
			f, k := s.flowOf(c, d)
			if k.shard != s.number {
				return fmt.Errorf("slot %d: flow %v is of shard %d", i, f, k.shard)
			}
			// Were there two of the same flow, Find would find one of them twice.
			if got := s.find(k, &f); got != c {
				return fmt.Errorf("slot %d: index does not lead there from %v", i, f)
			}
			entries++
			for b := s.index.home(k.hash); ; b = s.index.next(b) {
				if _, ok := s.index[b].find(k.hash, uint32(i)); ok {
					break
				}
				passed[b]++
			}
		}
	}
	for b := range s.index {
		l := &s.index[b]
		if l.passed() != passed[b] {
			return fmt.Errorf("bucket %d: passed by %d entries, but counted %d", b, passed[b], l.passed())
		}
		empty := l.match(0)
		entries -= bucketEntries - bits.OnesCount64(uint64(empty))
		for ; empty != 0; empty &= empty - 1 {
			if place := empty.first(); l.slot(place) != 0 {
				return fmt.Errorf("bucket %d: place %d is empty, but has a slot", b, place)
			}
		}
	}
	if entries != 0 {
		return fmt.Errorf("index: %d entries that lead to no connection", -entries)
	}
	return nil
}

// checkKnown compares the counts of flows with the connections.
func (s *Shard) checkKnown() error {
	want := make([]int, len(s.known.counts))
	for i := range s.conns[:s.fresh] {
		if c := &s.conns[i]; c.State != None && c.State != Template && s.counts(c.Binding()) {
			want[s.inboundHash(c)>>s.known.shift]++
		}
	}
	for place, n := range s.known.counts {
		if int(n) != want[place] && n != stuck {
			return fmt.Errorf("place %d: %d connections have flows there, but counted %d", place, want[place], n)
		}
	}
	for i, n := range s.known.lines {
		line := s.known.counts[i*KnownLine : min((i+1)*KnownLine, len(s.known.counts))]
		if zeroes := bytes.Count(line, []byte{0}); int(n) != len(line)-zeroes {
			return fmt.Errorf("line %d: %d of %d places are 0, but counted %d that are not", i, zeroes, len(line), n)
		}
	}
	return nil
}
