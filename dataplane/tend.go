package dataplane

import (
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/synproxy"
)

// learn notes what the real server of c offers in its SYN-ACK, so that SYN-ACKs with
// cookies can say the same. told is what its client was told, if that was by a cookie:
// an option that is missing then, though it was asked for, is one that it never has.
func (w *Worker) learn(t *Target, c *conntrack.Conn, real *packet.SYNOptions, window uint16, told *synproxy.Offer) {
	complete := real.Scale != packet.NoScale && real.SACK && real.Timestamps
	asked := told != nil && told.Scale != synproxy.NoScale && told.SACK && told.Timestamps
	if real.MSS == 0 || !complete && !asked {
		return
	}
	taken := t.Service.optionLen(&c.Client) + max(gap(w.conns.Binding(c.Binding()).Real.Addr.Is4(), c.Client), 0)
	offer := synproxy.Offer{
		MSS: packet.LoweredMSS(real.MSS, uint16(taken)), Window: window,
		Scale: real.Scale, SACK: real.SACK, Timestamps: real.Timestamps,
	}
	if word := offer.Pack(); t.Meter.seen.Load() != word {
		t.Meter.seen.Store(word)
	}
}

// offer returns what SYN-ACKs with cookies are to say for s: what all of its real
// servers can keep of what they have been seen to offer, or what is configured if none
// has been seen.
func (v *View) offer(s *Service) synproxy.Offer {
	var least synproxy.Offer
	seen := false
	for _, b := range s.bindings {
		word := v.targets[b].Meter.seen.Load()
		if word == 0 {
			continue
		}
		one := synproxy.UnpackOffer(word)
		if !seen {
			least, seen = one, true
		} else {
			least = least.Least(&one)
		}
	}
	if !seen {
		least = s.configured()
	}
	least.Timestamps = least.Timestamps && !s.StripTimestamps
	return least
}

// configured returns the offer of s until its real servers have been heard. What its
// client-address option takes of a segment is taken off the MSS.
func (s *Service) configured() synproxy.Offer {
	y := &s.SYNProxy
	return synproxy.Offer{
		MSS: packet.LoweredMSS(y.MSS, uint16(s.optionLen(&s.Virtual.Addr))), Window: y.Window,
		Scale: y.Scale, SACK: y.SACK, Timestamps: y.Timestamps,
	}
}

// Our choices for the adaptive mode.
const (
	paceTime = time.Second // over which handshakes are counted
	calmTime = 10          // of these below the lower limit, before it switches off
)

// A pace says how many handshakes of a service are begun and not finished.
type pace struct {
	at          time.Time
	begun, done uint64
	calm        int // times in a row below the lower limit
}

// A Switch is the adaptive mode of a service going on or off.
type Switch struct {
	Service    *Service
	On         bool
	Unfinished int // handshakes, in the last second
}

// Tend keeps SYNPROXY up to date: the keys of its cookies, what they offer, whether
// services in adaptive mode want them. answered tells how many SYNs of a service were
// answered elsewhere, in the XDP program. It is to be called several times a second, by
// one goroutine, and returns what was switched.
func (e *Engine) Tend(now time.Time, answered func(*Service) uint64) (switched []Switch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.view.Load()
	e.renewCookies(v, now)
	for _, s := range v.Services {
		if s.Guard == nil {
			continue
		}
		if s.SYNProxy.Mode == lb.Adaptive {
			if unfinished, changed := s.adapt(now, answered); changed {
				switched = append(switched, Switch{s, s.Guard.On(), unfinished})
			}
		}
		s.Guard.settle(now)
	}
	return switched
}

// renewCookies puts the keys of the moment in force. When an epoch begins, what it
// offers is settled first.
func (e *Engine) renewCookies(v *View, now time.Time) {
	keys, was := e.cfg.CookieSecret.Keys(now), e.cookies.Load()
	if keys == *was {
		return
	}
	if keys.Current != was.Current {
		for _, s := range v.Services {
			if s.Guard != nil {
				offer := v.offer(s)
				s.Guard.offers[keys.Current].Store(offer.Pack())
			}
		}
	}
	e.cookies.Store(&keys)
}

// CookieKeys returns the keys in force.
func (e *Engine) CookieKeys() synproxy.Keys { return *e.cookies.Load() }

// adapt counts the handshakes of the last second, and switches.
func (s *Service) adapt(now time.Time, answered func(*Service) uint64) (unfinished int, changed bool) {
	g, p := s.Guard, &s.Guard.pace
	if now.Sub(p.at) < paceTime {
		return 0, false
	}
	c := g.Counts()
	begun, done := c[GuardOpened]+c[GuardCookie]+answered(s), c[GuardEstablished]+c[GuardGood]
	first := p.at.IsZero()
	unfinished = int(int64(begun-p.begun) - int64(done-p.done))
	if elapsed := now.Sub(p.at); !first && elapsed > paceTime {
		unfinished = int(float64(unfinished) * float64(paceTime) / float64(elapsed))
	}
	p.at, p.begun, p.done = now, begun, done
	if first {
		return 0, false
	}
	if unfinished >= s.SYNProxy.Off {
		p.calm = 0
	} else {
		p.calm++
	}
	switch {
	case !g.On() && unfinished >= s.SYNProxy.On:
		g.on.Store(true)
		p.calm = 0
		return unfinished, true
	case g.On() && p.calm >= calmTime:
		g.on.Store(false)
		return unfinished, true
	}
	return unfinished, false
}

// obey puts a mode that is not adaptive in force; what adaptive has found lasts.
func (g *Guard) obey(m lb.Mode) {
	if m == lb.Adaptive && g.mode == lb.Adaptive {
		return
	}
	g.mode = m
	g.pace = pace{}
	g.on.Store(m == lb.On)
}

// settle decides whether cookies are accepted: while they are sent, and as long as the
// last ones are good.
func (g *Guard) settle(now time.Time) {
	if g.On() {
		g.lastOn = now
	}
	g.accepts.Store(!g.lastOn.IsZero() && now.Sub(g.lastOn) <= synproxy.Lifetime)
}

// Know has the connections of services that may answer by cookies counted, in counts, by
// the hash of their clients' flows, and in lines; see conntrack.Table.Know. It is called
// once, and both stay the caller's, to be there as long as workers run.
func (e *Engine) Know(counts, lines []uint8) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known.counts, e.known.lines = counts, lines
	e.count(e.view.Load())
}

// Knows reports whether all connections of s, which is in force, are counted.
func (e *Engine) Knows(s *Service) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known.counts != nil && s.Guarded()
}

// count has the connections of v's services counted, also those of real servers that
// have left. What was counted once is so for good: whoever goes by the counts may not
// have been told yet that a service has left.
func (e *Engine) count(v *View) {
	if e.known.counts == nil {
		return
	}
	var set conntrack.BindingSet
	for id, t := range v.targets {
		if t == nil {
			continue
		}
		if s := v.service(t.Service.Proto, t.Service.Virtual); s != nil && s.Guarded() {
			set.Add(conntrack.BindingID(id))
		}
	}
	e.cfg.Conns.Know(e.known.counts, e.known.lines, &set)
}
