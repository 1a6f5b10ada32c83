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
	if s.counts(b) {
		prefetch.Line(s.place(k.hash))
	}
	claim := s.claimOne(b, locals, aim)
	if !claim.held() {
		return nil, packet.NoLocalPort
	}
	prefetch.Line(&s.index[s.index.home(claim.hash)]) // alone, it would be waited for
	return s.insert(k, f, b, &claim, now), packet.Kept
}

// InsertClaimed is Insert for a connection that Claim has found its local address and
// port. If it returns nil, the claim is still the caller's.
func (s *Shard) InsertClaimed(k Key, f *packet.Flow, b BindingID, c *Claim, now uint32) *Conn {
	if s.full() {
		return nil
	}
	// Of a port that serves several real servers the index alone knows which, and it does
	// not know of claims.
	if c.ports.isShared(s.portIndex(c.port)) {
		if out := s.claimed(b, c); s.find(Key{c.hash, s.number, outbound}, &out) != nil {
			return nil
		}
	}
	return s.insert(k, f, b, c, now)
}

// InsertNew is InsertClaimed where there is no connection of f yet.
func (s *Shard) InsertNew(k Key, f *packet.Flow, b BindingID, c *Claim, now uint32) *Conn {
	if s.find(k, f) != nil {
		return nil
	}
	return s.InsertClaimed(k, f, b, c, now)
}

// insert adds the connection of inbound flow f with the local address and port of a claim.
func (s *Shard) insert(k Key, f *packet.Flow, b BindingID, claim *Claim, now uint32) *Conn {
	if s.counts(b) {
		s.raise(k.hash)
	}
	state := SynReceived
	if f.Proto == packet.ProtoUDP {
		state = UDPOneWay
	}
	c, slot := s.add(b)
	c.Client, c.ClientPort = f.Src, f.SrcPort
	c.Local, c.LocalPort = claim.local, claim.port
	c.Deadline = now + initialTimeout
	s.index.insert(k.hash, slot)
	s.enterHalfOpen(c, now)
	s.seat(slot, now+firstLook*tick)
	s.index.insert(claim.hash, slot)
	c.State = state // last, as it is what makes a slot a connection
	s.foresee()
	return c
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

// disclaim gives up the port of the connection in a slot, and takes its outbound
// flow, of that hash, out of the index.
func (s *Shard) disclaim(c *Conn, slot uint32, hash uint64) {
	s.index.remove(hash, slot)
	s.ports[c.Local].release(s.portIndex(c.LocalPort), s.bindings[c.Binding()].real)
}

// Rebind gives c, which has not heard from its real server yet, another real server
// of the same service, and with it a local address and port as Insert does. If the
// reason is not Kept, c is as before. It may be called from Expire.
func (s *Shard) Rebind(c *Conn, b BindingID, locals []LocalID, aim *Aim) packet.Reason {
	claim := s.claimOne(b, locals, aim)
	if !claim.held() {
		return packet.NoLocalPort
	}
	slot := s.slot(c)
	s.disclaim(c, slot, s.hashes(c).out)
	s.moved(c, c.Binding(), b)
	s.refs[c.Binding()]--
	c.LocalPort, c.Local = claim.port, claim.local
	atomic.StoreUint32(&c.bound, uint32(b)|latchBit)
	s.refs[b]++
	s.index.insert(claim.hash, slot)
	return packet.Kept
}

// add takes a free place, which is zero, for a connection of b, and holds it there.
func (s *Shard) add(b BindingID) (*Conn, uint32) {
	slot := s.takeSlot()
	s.nodes.reset(wheelNode(slot))
	s.nodes.reset(halfNode(slot))
	s.letGo()
	s.held = &s.conns[slot]
	s.refs[b]++
	atomic.StoreUint32(&s.held.bound, uint32(b)|latchBit)
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
	c, slot := s.add(b)
	c.Client, c.Deadline = client, now+timeout
	s.index.insert(k.hash, slot)
	s.schedule(slot)
	s.templates++
	c.State = Template
	return c, packet.Kept
}
