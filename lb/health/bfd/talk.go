package bfd

import (
	"fmt"
	"time"
)

// receive takes a datagram that has come by a link.
func (sp *Speaker) receive(k Kind, d Datagram) {
	p, err := Parse(d.Payload)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	now := time.Now()
	s := sp.addressee(k, &p, &d, err == nil)
	if s == nil {
		return
	}
	least := int(s.TTL) - int(s.MaxHops)
	switch {
	case err != nil:
		s.drop(err.Error(), now)
		return
	case p.Auth: // RFC 5880, section 6.8.6: no authentication is in use
		s.drop("it is authenticated, which fnatd is not able to check", now)
		return
	case int(d.TTL) < least: // RFC 5881, section 5: who is further away cannot send a TTL of 255
		s.drop(fmt.Sprintf("it has come with a TTL of %d, want at least %d", d.TTL, least), now)
		return
	}
	s.session.receive(&p, now)
	if p.Poll && s.state != AdminDown {
		sp.send(s, true)
	}
	sp.settle(s, now)
}

// addressee returns the session that a datagram is of: by our discriminator if it has
// one, else by addresses (RFC 5880, section 6.3), which is also how one that is not
// valid finds whoever is to be told of it.
func (sp *Speaker) addressee(k Kind, p *Packet, d *Datagram, valid bool) *spoken {
	if valid && p.Your != 0 {
		if s := sp.byID[p.Your]; s != nil && s.kind() == k {
			return s
		}
		return nil
	}
	if s := sp.byKey[Key{d.From, d.To, k.Multihop}]; s != nil {
		return s
	}
	return sp.byKey[Key{Neighbor: d.From, Multihop: k.Multihop}]
}

func (s *spoken) drop(why string, now time.Time) { s.dropped, s.droppedAt = why, now }

// settle does what is to be done after something has changed.
func (sp *Speaker) settle(s *spoken, now time.Time) {
	if up := s.state == Up && s.ups > 0; up != s.toldUp {
		s.toldUp = up
		if s.state != AdminDown { // which is our own doing, and nobody's concern any more
			sp.report(s)
		}
	}
	sp.watch(s, now)
	interval := s.interval()
	switch {
	case interval == 0:
		s.next = time.Time{}
		s.transmit.Stop()
	case s.news():
		sp.send(s, false)
		sp.due(s, now.Add(s.jittered(interval)))
	case s.next.IsZero() || s.next.Sub(now) > interval: // the neighbor can take more than until now (section 6.8.3)
		sp.due(s, s.sentAt.Add(s.jittered(interval)))
	}
}

func (sp *Speaker) report(s *spoken) {
	sp.events = append(sp.events, event{s, s.Neighbor, s.state, s.cause})
	select {
	case sp.news <- struct{}{}:
	default: // the last news are not told yet, these go with them
	}
}

// watch has missed called when the neighbor is lost. Each packet moves that moment, but
// the timer only if it is too late.
func (sp *Speaker) watch(s *spoken, now time.Time) {
	switch {
	case s.deadline.IsZero():
		s.lostAt = time.Time{}
		s.lost.Stop()
	case s.lostAt.IsZero() || s.lostAt.After(s.deadline):
		s.lostAt = s.deadline
		s.lost.Reset(max(0, s.deadline.Sub(now)))
	}
}

// missed is called when a neighbor may be lost. What has come in time and was not read
// yet counts, or a host that is busy would lose all of its neighbors.
func (sp *Speaker) missed(s *spoken) {
	sp.mu.Lock()
	l := sp.links[s.kind()]
	sp.mu.Unlock()
	if l != nil {
		l.Drain()
	}
	sp.mu.Lock()
	idle := sp.judge(s, time.Now())
	sp.mu.Unlock()
	closeAll(idle)
}

// judge takes s for lost if it is, and returns the sockets that nobody needs then.
func (sp *Speaker) judge(s *spoken, now time.Time) (idle []Link) {
	if s.lostAt = (time.Time{}); s.gone || s.deadline.IsZero() {
		return nil
	}
	if now.Before(s.deadline) {
		sp.watch(s, now)
		return nil
	}
	if s.expire(now); s.state == AdminDown {
		sp.forget(s)
		return sp.idle()
	}
	sp.settle(s, now)
	return nil
}

// due has the next periodic packet sent at a time.
func (sp *Speaker) due(s *spoken, at time.Time) {
	s.next = at
	s.transmit.Reset(max(0, time.Until(at)))
}

// periodic sends a periodic packet, when it is due.
func (sp *Speaker) periodic(s *spoken) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	now := time.Now()
	if s.gone || s.next.IsZero() || now.Before(s.next) {
		return
	}
	sp.send(s, false)
	sp.due(s, now.Add(s.jittered(s.interval())))
}

func (sp *Speaker) send(s *spoken, final bool) {
	p := s.packet(final)
	if !final {
		s.sent, s.sentAt = p, time.Now()
	}
	if l := sp.links[s.kind()]; l != nil {
		s.notSent = l.Send(p.Append(nil), s.Neighbor, s.Source, s.TTL)
	}
}
