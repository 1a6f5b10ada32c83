package dataplane

import (
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
)

// Our choices for UDP notices. A real server on the same network answers an
// echo within a millisecond; a lost notice is repeated five times over six
// seconds. fnatrs and ip_vs_ca forget a UDP mapping after 180 s, so a live flow
// renews it at half that.
const (
	noticeFirstRetry = 200        // ms; doubles with each retry
	noticeRetries    = 5          // resends before giving up until the renewal
	noticeRenewal    = 90 * 1_000 // ms
)

// sendNotice tells the real server of connection c who its client is, and sets
// the alarm for the case that no answer comes.
func (w *Worker) sendNotice(s *conntrack.Shard, c *conntrack.Conn) (sent bool) {
	svc := w.view.targets[c.Binding()].Service
	b := w.conns.Binding(c.Binding())
	lip := w.conns.Local(c.Local)
	n := packet.Notice{
		Local:  packet.Endpoint{Addr: lip.Addr, Port: c.LocalPort},
		Real:   b.Real,
		Client: packet.Endpoint{Addr: c.Client, Port: c.ClientPort},
		Proto:  b.Proto,
		Length: svc.NoticeLength,
	}
	s.SetAlarm(c, w.now+noticeFirstRetry<<c.NoticeTries())
	hop, why := w.toReal(c)
	if why != packet.Kept {
		return false
	}
	o, ok := w.originate(hop)
	if ok {
		o.send(packet.BuildNotice(o.buf, o.start, &n))
	}
	return ok
}

// noticeDue handles the alarm of a UDP connection: an unanswered notice is
// repeated with back-off, an answered or abandoned one renewed in time.
func (w *Worker) noticeDue(s *conntrack.Shard, c *conntrack.Conn) {
	switch {
	case c.Flags&noticeAcked != 0 || c.NoticeTries() > noticeRetries:
		c.Flags &^= noticeAcked
		c.SetNoticeTries(0)
		w.resendNotice(s, c)
	case c.NoticeTries() == noticeRetries:
		w.ledger.row(c.Binding()).NoticeGivenUp++
		c.SetNoticeTries(noticeRetries + 1)
		s.SetAlarm(c, w.now+noticeRenewal)
	default:
		c.SetNoticeTries(c.NoticeTries() + 1)
		w.resendNotice(s, c)
	}
}

func (w *Worker) resendNotice(s *conntrack.Shard, c *conntrack.Conn) {
	if w.sendNotice(s, c) {
		w.ledger.row(c.Binding()).NoticeResent++
	}
}

// notice handles the echo reply by which a real server acknowledges a notice.
func (w *Worker) notice(p *packet.Packet) packet.Reason {
	flow, ok := p.NoticeReply()
	if !ok {
		return packet.BadICMP
	}
	k := w.conns.OutboundKey(&flow)
	s := w.conns.Lock(k)
	defer s.Unlock()
	c := s.Find(k, &flow)
	if c == nil || flow.Proto != packet.ProtoUDP {
		return packet.NoConn
	}
	if c.Flags&noticeAcked == 0 {
		c.Flags |= noticeAcked
		c.SetNoticeTries(0)
		s.SetAlarm(c, w.now+noticeRenewal)
		w.ledger.row(c.Binding()).NoticeAcked++
	}
	return packet.NoticeReply
}
