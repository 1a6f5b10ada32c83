package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// The way of a packet. Batches are small enough for the first pass's cache
// lines to be there still when the second needs them.
//
//	pass 1   readSimple4, readSimple6 nearly all packets: tell client from real server
//	         glance     a plain packet of another kind
//	         classify   any other: parse, tell client from real server, hash
//	         conntrack's Hash, for eight: hash the plain ones, ask for their buckets
//	pass 2   conntrack's See: where is which connection?
//	         prepare, of SYNs: choose server, address and port, ask for their bucket
//	pass 3   carry, while conntrack's Load asks for the connections of the next eight
//	           carryShort  a plain packet of a connection that is there: see plain.go
//	           carryJoined one of a connection that began with a cookie: see joined.go
//	           shortSYN    a SYN for which prepare has found all: see handshake.go
//	           process     any other
//	             inbound  a SYN to a guarded service: answer by a cookie
//	               find the connection, or
//	               admit  service → (cookie) → real server → place in the table → local port
//	               forward track, rewrite towards the real server
//	             outbound find the connection, track, rewrite towards the client
//	             fragment follow the first fragment of the datagram
//	             icmp     an error about a packet of ours, or a notice's acknowledgement
//	pass 4   transmit   one send and one kick per interface, for up to four batches
//
// The functions below stand in this order; how a connection is made is in admit.go.

// A job is one frame on its way through a batch. What the short way needs stands
// first, in as few cache lines as it takes.
type job struct {
	plain packet.Plain // if short
	addr  uint64       // of its frame in the UMEM
	port  int          // interface it came in by; after process, the one it leaves by
	role  role         // of its destination address
	short bool         // may go the short way; then nothing of what follows is filled yet
	why   packet.Reason
	key   conntrack.Key // of its flow
	// What prepare has found for the connection that a SYN opens. Key and flow are filled
	// then; the rest of p is not, until shortSYN has refused.
	server  *lb.Server // or nil
	opening uint8      // number among openings.claims
	tail    []xsk.Desc // the frames that follow, of a packet longer than one
	mtu     int        // of the interface it leaves by
	p       packet.Packet
	way     way // of a first fragment: where the others are to follow it
}

// glance classifies a frame of so many bytes at j.addr that may go the short way, but
// for its key, and reports whether it is such. It is the i-th packet of the batch.
func (w *Worker) glance(j *job, i int, size uint32) bool {
	p, frame := &j.plain, (*[packet.TaggedRoom]byte)(w.umem.From(j.addr, packet.TaggedRoom))
	if !p.Read((*[packet.PlainRoom]byte)(frame[:]), int(size)) && !p.ReadTagged(frame, int(size)) {
		return false
	}
	if !p.Simple() && p.Opens() {
		if w.view.guarded {
			return false
		}
		w.opening = true
	}
	if p.Is6() {
		if j.role = w.view.addrs.role(p.Dst6()); j.role != foreign {
			w.lookups.SetPlain6(i, p, j.role == local)
		}
		return j.role != foreign
	}
	j.role = w.view.addrs.role4(p.Dst4())
	w.lookups.SetPlain(i, p, j.role == local)
	return j.role != foreign
}

// classify does everything about a frame that needs no connection, for the long way.
// The frame is the first size bytes at j.addr; rest more are in j.tail.
func (w *Worker) classify(j *job, size, rest int) {
	off := w.umem.Offset(j.addr)
	p := &j.p
	j.key, j.server = conntrack.Key{}, nil
	if j.why = p.ParseHead(w.umem.Chunk(j.addr), off, off+size, rest); j.why != packet.Kept && j.why != packet.Fragment {
		return
	}
	if w.fullSums[j.port] {
		p.RecomputeChecksums(w.tail(j)...)
	}
	j.role = w.view.addrs.role(&p.Flow.Dst)
	switch {
	case isICMP(p):
	case j.role == foreign:
		j.why = packet.NotOurs
	case j.role == virtual && w.view.guarded && opens(p):
		// a SYN is answered without looking for a connection
	default:
		j.key = w.conns.FlowKey(&p.Flow, j.role == local)
	}
}

// lengthen prepares a packet that was to go the short way for the long one.
func (w *Worker) lengthen(j *job, key conntrack.Key) {
	j.short, j.port, j.why, j.key, j.server, j.tail = false, w.from, packet.Kept, key, nil, nil
	j.plain.Packet(&j.p, w.umem.Chunk(j.addr), w.umem.Offset(j.addr))
}

// process takes one classified frame to its verdict: rewritten and ready to
// leave by j.port, or a Reason.
func (w *Worker) process(j *job) packet.Reason {
	p := &j.p
	switch {
	case j.why == packet.Fragment:
		return w.fragment(j)
	case j.why != packet.Kept:
		return j.why
	case isICMP(p):
		return w.icmp(j)
	case p.TTL() <= 1:
		return w.ttlExceeded(j)
	default:
		return w.connected(j)
	}
}

// connected handles what has ports: a whole packet, or the first fragment of one.
func (w *Worker) connected(j *job) packet.Reason {
	p := &j.p
	switch {
	case p.Flow.Proto == packet.ProtoTCP && !plausible(p.Flags):
		return packet.BadFlags
	case j.role == virtual:
		return w.inbound(j)
	default:
		return w.outbound(j)
	}
}

func isICMP(p *packet.Packet) bool {
	return p.Flow.Proto == packet.ProtoICMP || p.Flow.Proto == packet.ProtoICMPv6
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
	if w.view.guarded && opens(&j.p) {
		if svc := w.view.service(packet.ProtoTCP, j.p.Flow.Destination()); svc != nil && svc.Guard.On() {
			return w.answer(j, svc)
		}
		j.key = w.conns.InboundKey(&j.p.Flow) // which classify has left out
	}
	if j.server != nil {
		return w.admit(j)
	}
	s := w.conns.Lock(j.key)
	c := s.Find(j.key, &j.p.Flow)
	if c != nil && w.returns(c, &j.p) {
		w.tally.of(w.view.targets[c.Binding()].Service)[GuardReplaced]++
		w.abandon(s, c)
		c = nil
	}
	if c == nil {
		s.Unlock()
		return w.admit(j)
	}
	defer s.Unlock()
	return w.fromClient(s, c, j)
}

// admit finds a packet without connection a service and a real server, and
// makes the connection.
func (w *Worker) admit(j *job) packet.Reason {
	p := &j.p
	if p.Flow.Proto == packet.ProtoTCP && !opens(p) {
		return w.prove(j)
	}
	svc := w.serviceOf(j)
	if svc == nil {
		return packet.NoService
	}
	s, c, made, why := w.place(j, svc)
	if why != packet.Kept {
		return why
	}
	defer s.Unlock()
	if made {
		w.announce(s, c, svc)
	}
	return w.fromClient(s, c, j)
}

// serviceOf returns the service that a packet is for, or nil.
func (w *Worker) serviceOf(j *job) *Service {
	if j.server != nil {
		return w.view.Services[j.server.Service.Index]
	}
	return w.view.service(j.p.Flow.Proto, j.p.Flow.Destination())
}

// announce tells whoever has to know of a new connection that a packet of its client's
// has begun.
func (w *Worker) announce(s *conntrack.Shard, c *conntrack.Conn, svc *Service) {
	switch {
	case svc.Guard != nil:
		w.tally.of(svc)[GuardOpened]++
	case svc.ClientAddress == lb.ICMPEcho && w.sendNotice(s, c):
		w.ledger.row(c.Binding()).NoticeSent++
	}
}

// fromClient handles a client's packet of connection c. The caller holds c's shard.
func (w *Worker) fromClient(s *conntrack.Shard, c *conntrack.Conn, j *job) packet.Reason {
	switch {
	case c.Flags&spliced == 0:
	case connecting(c):
		return w.early(s, c, j)
	case c.Flags&refused != 0 && !opens(&j.p):
		return packet.Refused
	}
	return w.forward(s, c, j)
}

// forward tracks an inbound packet of connection c and rewrites it towards the
// real server. The caller holds c's shard.
func (w *Worker) forward(s *conntrack.Shard, c *conntrack.Conn, j *job) packet.Reason {
	p := &j.p
	t := w.view.targets[c.Binding()]
	w.followClient(c, j)
	hop, why := w.toReal(c)
	if why != packet.Kept {
		return why
	}
	b := w.conns.Binding(c.Binding())
	mtu := hop.MTU - growth(p, b.Real.Addr)
	if p.IPLen() > mtu && !p.MayFragment() {
		return w.tooBig(j, mtu)
	}
	w.count(j, c.Binding(), inboundPacket)
	if p.Flow.Proto == packet.ProtoTCP {
		w.trackInbound(s, c, t, p)
		if j.why != packet.Fragment { // an option would shift what follows the first fragment
			w.tellReal(c, t, p, mtu)
		}
	} else {
		s.Touch(c, t.Service.timeouts[c.State], w.now)
	}
	w.visit(c)

	lip := w.conns.Local(c.Local)
	return w.leave(j, hop, packet.Endpoint{Addr: lip.Addr, Port: c.LocalPort}, b.Real)
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
	t := w.view.targets[c.Binding()]
	switch {
	case c.Flags&spliced == 0:
	case connecting(c):
		return w.opened(s, c, t, j)
	case c.Flags&refused != 0:
		return packet.Refused
	case w.storm(s, c, t, p):
		return packet.ACKStorm
	}
	hop, why := w.toClient(c)
	if why != packet.Kept {
		return why
	}
	if mtu := hop.MTU - growth(p, c.Client); p.IPLen() > mtu && !p.MayFragment() {
		return w.tooBig(j, mtu)
	}
	w.count(j, c.Binding(), outboundPacket)
	w.greet(c)
	if p.Flow.Proto == packet.ProtoTCP {
		w.trackOutbound(s, c, t, p)
	} else {
		w.setState(s, c, t, conntrack.UDP)
	}

	b := w.conns.Binding(c.Binding())
	return w.leave(j, hop, b.Virtual, packet.Endpoint{Addr: c.Client, Port: c.ClientPort})
}

// familyGap is by how much an IPv6 header is longer than an IPv4 header without
// options.
const familyGap = 20

// growth returns by how many bytes p grows when it is sent to an address that
// may be of the other family.
func growth(p *packet.Packet, to packet.Addr) int { return gap(p.Version == 4, to) }

// gap is growth for a packet of IPv4 or IPv6.
func gap(was4 bool, to packet.Addr) int {
	switch is4 := to.Is4(); {
	case was4 && !is4:
		return familyGap
	case !was4 && is4:
		return -familyGap
	}
	return 0
}

// leave gives a packet its new ends, of whichever family, and hands it to the
// interface of its next hop, in the VLANs where that is.
func (w *Worker) leave(j *job, hop *route.Hop, src, dst packet.Endpoint) packet.Reason {
	if j.why == packet.Fragment {
		j.way.src, j.way.dst, j.way.hop = src, dst, *hop
	}
	j.p.DecrementTTL()
	if growth(&j.p, dst.Addr) == 0 {
		j.p.Translate(src, dst)
	} else if why := j.p.Convert(src, dst); why != packet.Kept {
		return why
	}
	return j.address(hop)
}

// address makes a finished packet a frame for its next hop.
func (j *job) address(hop *route.Hop) packet.Reason {
	if !j.p.SetLink(hop.Dst, hop.Src, &hop.VLANs) {
		return packet.TooBig // never by the kernel, which leaves 256 bytes of headroom
	}
	j.port, j.mtu = hop.Port, hop.MTU
	return packet.Kept
}

type direction bool

const (
	inboundPacket  direction = false
	outboundPacket direction = true
)

// count enters a packet that is forwarded in the batch's ledger.
func (w *Worker) count(j *job, b conntrack.BindingID, d direction) {
	j.way.binding, j.way.direction = b, d
	row := w.ledger.row(b)
	if d == inboundPacket {
		row.InPackets++
		row.InBytes += uint64(j.p.IPLen())
		return
	}
	row.OutPackets++
	row.OutBytes += uint64(j.p.IPLen())
}
