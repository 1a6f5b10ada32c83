package conntrack

import (
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/prefetch"
)

// initialTimeout, in ms, holds until the caller's SetState, which follows at
// once. It equals the timeouts of both states that connections begin in, as a
// later SetState to an earlier deadline has to move the timer.
const initialTimeout = 30_000

// Insert adds the connection of inbound flow f, which k is the key of and which
// the shard must not have yet, and finds it a local address of locals and a
// port. The caller holds the lock and a reservation; if the reason is not Kept,
// nothing was inserted and the reservation is still the caller's.
//
// The local addresses take turns, of several connections each, and one without a
// port gives way to the next. Those not of the real server's family are passed
// over. Of the ports it is one that aim hits, if that is soon found; aim may be
// nil. The connection begins as SynReceived or UDPOneWay.
func (s *Shard) Insert(k Key, f *packet.Flow, b BindingID, locals []LocalID, aim *Aim, now uint32) (*Conn, packet.Reason) {
	if s.full() {
		return nil, packet.TableFull
	}
	counted := s.counts(b)
	if counted {
		prefetch.Line(s.place(k.hash))
	}
	out, local, ok := s.claim(b, locals, aim)
	if !ok {
		return nil, packet.NoLocalPort
	}
	if counted {
		s.raise(k.hash)
	}
	hash := s.t.hash(&out, outbound)
	prefetch.Line(&s.index[s.index.home(hash)]) // alone, it would be waited for
	state := SynReceived
	if out.Proto == packet.ProtoUDP {
		state = UDPOneWay
	}
	c, slot := s.add(Conn{
		Client:     f.Src,
		ClientPort: f.SrcPort,
		LocalPort:  out.DstPort,
		bound:      uint32(b),
		Local:      local,
		Deadline:   now + initialTimeout,
	})
	s.index.insert(k.hash, slot)
	s.enterHalfOpen(c, now)
	s.schedule(slot)
	s.index.insert(hash, slot)
	c.State = state // last, as it is what makes a slot a connection
	s.foresee()
	return c, packet.Kept
}

// foresee begins to load what the next insertion will use.
func (s *Shard) foresee() {
	slot := s.fresh
	if s.free != 0 {
		slot = s.free - 1
	}
	if int(slot) < len(s.conns) {
		prefetch.Line(&s.conns[slot])
		prefetch.Line(&s.nodes[wheelNode(slot)])
	}
}

// claim chooses a local address and port toward the real server of b, and takes
// the port. It returns the outbound flow that these make.
func (s *Shard) claim(b BindingID, locals []LocalID, aim *Aim) (out packet.Flow, local LocalID, ok bool) {
	real := &s.bindings[b]
	out = packet.Flow{Src: real.Real.Addr, SrcPort: real.Real.Port, Proto: real.Proto}
	if aim == nil {
		aim = &aimless
	}
	if local, ok = s.choose(&out, real.real, locals, aim); ok {
		s.ports[local].take(s.portIndex(out.DstPort), aim.cursor())
	}
	return out, local, ok
}

// disclaim gives up the port of the connection in a slot, and takes its outbound
// flow out of the index.
func (s *Shard) disclaim(c *Conn, slot uint32) {
	out := s.t.OutboundFlow(c)
	s.index.remove(s.t.hash(&out, outbound), slot)
	s.ports[c.Local].release(s.portIndex(c.LocalPort), s.bindings[c.Binding()].real)
}

// Rebind gives c, which has not heard from its real server yet, another real server
// of the same service, and with it a local address and port as Insert does. If the
// reason is not Kept, c is as before. It may be called from Expire.
func (s *Shard) Rebind(c *Conn, b BindingID, locals []LocalID, aim *Aim) packet.Reason {
	out, local, ok := s.claim(b, locals, aim)
	if !ok {
		return packet.NoLocalPort
	}
	slot := s.slot(c)
	s.disclaim(c, slot)
	s.moved(c, c.Binding(), b)
	s.refs[c.Binding()]--
	c.LocalPort, c.Local = out.DstPort, local
	atomic.StoreUint32(&c.bound, uint32(b)|latchBit)
	s.refs[b]++
	s.index.insert(s.t.hash(&out, outbound), slot)
	return packet.Kept
}

// add puts c into a free place, and holds it there.
func (s *Shard) add(c Conn) (*Conn, uint32) {
	slot := s.takeSlot()
	s.nodes.reset(wheelNode(slot))
	s.nodes.reset(halfNode(slot))
	s.letGo()
	s.held = &s.conns[slot]
	s.refs[c.Binding()]++
	c.bound |= latchBit
	s.held.become(&c)
	return s.held, slot
}

// FindTemplate returns the template for a client's masked address and a virtual
// endpoint, or nil. k is their TemplateKey.
func (s *Shard) FindTemplate(k Key, proto uint8, client packet.Addr, virtual packet.Endpoint) *Conn {
	return s.Find(k, &packet.Flow{Src: client, Dst: virtual.Addr, DstPort: virtual.Port, Proto: proto})
}

// InsertTemplate adds a template that ties a client's masked address to binding
// b; k is the TemplateKey of them and of b's virtual endpoint, and the shard has
// none yet. It takes a reservation like a connection, but no port.
func (s *Shard) InsertTemplate(k Key, client packet.Addr, b BindingID, timeout, now uint32) (*Conn, packet.Reason) {
	if s.full() {
		return nil, packet.TableFull
	}
	c, slot := s.add(Conn{Client: client, bound: uint32(b), Deadline: now + timeout})
	s.index.insert(k.hash, slot)
	s.schedule(slot)
	s.templates++
	c.State = Template
	return c, packet.Kept
}
