package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// The way of a packet. Batches are small enough for the first pass's cache
// lines to be there still when the second needs them.
//
//	pass 1   classify   parse, tell client from real server, hash, prefetch
//	pass 2   process
//	           inbound  find the connection, or
//	             admit  service → real server → place in the table → local port
//	             forward track, rewrite towards the real server
//	           outbound find the connection, track, rewrite towards the client
//	           notice   a real server acknowledged a UDP notice
//	pass 3   transmit   one send and one kick per interface
//
// The functions below stand in this order.

// A job is one frame on its way through a batch.
type job struct {
	p    packet.Packet
	addr uint64 // of the frame in the UMEM
	port int    // interface it came in by; after process, the one it leaves by
	role role   // of its destination address
	key  conntrack.Key
	why  packet.Reason
}

// classify does everything about a frame that needs no connection, and asks for
// the cache line that finding one will need.
func (w *Worker) classify(j *job, buf []byte, start, end int) {
	p := &j.p
	if j.why = p.Parse(buf, start, end); j.why != packet.Kept {
		return
	}
	j.role = w.view.addrs.role(&p.Flow.Dst)
	switch {
	case p.Flow.Proto == packet.ProtoICMP:
		return
	case j.role == virtual:
		j.key = w.conns.InboundKey(&p.Flow)
	case j.role == local:
		j.key = w.conns.OutboundKey(&p.Flow)
	default:
		j.why = packet.NotOurs
		return
	}
	w.conns.Prefetch(j.key)
}

// process takes one classified frame to its verdict: rewritten and ready to
// leave by j.port, or a Reason.
func (w *Worker) process(j *job) packet.Reason {
	p := &j.p
	switch {
	case j.why != packet.Kept:
		return j.why
	case p.Flow.Proto == packet.ProtoICMP:
		return w.notice(p)
	case p.Flow.Proto == packet.ProtoTCP && !plausible(p.Flags):
		return packet.BadFlags
	case p.TTL() <= 1:
		return packet.TTLExceeded
	case j.role == virtual:
		return w.inbound(j)
	default:
		return w.outbound(j)
	}
}

// plausible reports whether a sender that follows RFC 9293 could have set
// these flags: at least one of SYN, RST and ACK, and SYN alone among SYN, RST
// and FIN.
func plausible(f packet.TCPFlags) bool {
	switch f & (packet.SYN | packet.RST | packet.FIN) {
	case packet.SYN, packet.RST:
		return true
	case 0, packet.FIN:
		return f.Has(packet.ACK)
	default:
		return false
	}
}

// inbound handles a packet from a client to a VIP.
func (w *Worker) inbound(j *job) packet.Reason {
	s := w.conns.Lock(j.key)
	c := s.Find(j.key, &j.p.Flow)
	if c == nil {
		s.Unlock()
		return w.admit(j)
	}
	why := w.forward(s, c, j)
	s.Unlock()
	return why
}

// admit finds a packet without connection a service and a real server, and
// makes the connection.
func (w *Worker) admit(j *job) packet.Reason {
	p := &j.p
	if p.Flow.Proto == packet.ProtoTCP && p.Flags&(packet.SYN|packet.ACK|packet.RST|packet.FIN) != packet.SYN {
		return packet.NoConn
	}
	svc := w.view.service(p.Flow.Proto, p.Flow.Destination())
	if svc == nil {
		return packet.NoService
	}
	server := w.pick(svc, p.Flow.Source())
	if server == nil {
		return packet.NoServer
	}
	if !w.reserve() {
		return packet.TableFull
	}
	aim := w.aim(p.Flow.Proto, server.Real)

	s := w.conns.Lock(j.key)
	defer s.Unlock()
	if c := s.Find(j.key, &p.Flow); c != nil { // another worker was quicker
		w.conns.Release()
		return w.forward(s, c, j)
	}
	c, why := s.Insert(j.key, &p.Flow, svc.bindings[server.Index], svc.locals, aim, w.now)
	if why != packet.Kept {
		w.conns.Release()
		return why
	}
	server.Load.Opened()
	w.ledger.row(c.Binding).Connections++
	w.firstHops(c, j)
	if svc.ClientAddress == lb.ICMPEcho && w.sendNotice(s, c) {
		w.ledger.row(c.Binding).NoticeSent++
	}
	return w.forward(s, c, j)
}

// reserve takes one of max_connections, at the cost of the oldest half-open
// connection if there is none left.
func (w *Worker) reserve() bool {
	old, evicted, ok := w.conns.Reserve()
	if evicted {
		w.counts.Events[ConnEvicted]++
		w.ended(&old.Conn)
	}
	return ok
}

// forward tracks an inbound packet of connection c and rewrites it towards the
// real server. The caller holds c's shard.
func (w *Worker) forward(s *conntrack.Shard, c *conntrack.Conn, j *job) packet.Reason {
	p := &j.p
	t := w.view.targets[c.Binding]
	w.followClient(c, j)
	hop, why := w.toReal(c)
	if why != packet.Kept {
		return why
	}
	if p.IPLen() > hop.MTU {
		return packet.TooBig
	}
	w.count(c.Binding, p, inboundPacket)
	if p.Flow.Proto == packet.ProtoTCP {
		w.trackInbound(s, c, t, p)
		w.tellReal(c, t, p, hop.MTU)
	} else {
		s.Touch(c, t.Service.timeouts[c.State], w.now)
	}
	w.visit(c)

	b := w.conns.Binding(c.Binding)
	lip := w.conns.Local(c.Local)
	p.Translate(packet.Endpoint{Addr: lip.Addr, Port: c.LocalPort}, b.Real)
	return w.leave(j, hop)
}

// outbound handles a packet from a real server to a LIP.
func (w *Worker) outbound(j *job) packet.Reason {
	p := &j.p
	s := w.conns.Lock(j.key)
	defer s.Unlock()
	c := s.Find(j.key, &p.Flow)
	if c == nil {
		return packet.NoConn
	}
	t := w.view.targets[c.Binding]
	hop, why := w.toClient(c)
	if why != packet.Kept {
		return why
	}
	if p.IPLen() > hop.MTU {
		return packet.TooBig
	}
	w.count(c.Binding, p, outboundPacket)
	w.greet(c)
	if p.Flow.Proto == packet.ProtoTCP {
		w.trackOutbound(s, c, t, p)
	} else {
		w.setState(s, c, t, conntrack.UDP)
	}

	b := w.conns.Binding(c.Binding)
	p.Translate(b.Virtual, packet.Endpoint{Addr: c.Client, Port: c.ClientPort})
	return w.leave(j, hop)
}

// leave puts the last touch on a rewritten packet and hands it to the interface
// of its next hop.
func (w *Worker) leave(j *job, hop *route.Hop) packet.Reason {
	j.p.DecrementTTL()
	j.p.SetMACs(hop.Dst, hop.Src)
	j.port = hop.Port
	return packet.Kept
}

type direction bool

const (
	inboundPacket  direction = false
	outboundPacket direction = true
)

// count enters a forwarded packet in the batch's ledger.
func (w *Worker) count(b conntrack.BindingID, p *packet.Packet, d direction) {
	row := w.ledger.row(b)
	if d == inboundPacket {
		row.InPackets++
		row.InBytes += uint64(p.IPLen())
		return
	}
	row.OutPackets++
	row.OutBytes += uint64(p.IPLen())
}
