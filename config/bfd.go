package config

import (
	"net/netip"
	"time"
)

// BFD is what a check of type bfd says of its BFD session (RFC 5880). Checks
// of one neighbor from one source share it.
type BFD struct {
	MinTx      time.Duration // between packets that fnatd would like to send
	MinRx      time.Duration // between packets that it takes
	IdleTx     time.Duration // in place of MinTx while the session is not up
	Multiplier int           // packets that may be missed until an end is lost
	Passive    bool          // send nothing until the neighbor has sent something
	Multihop   bool          // port 4784 instead of 3784
	TTL        int           // that both ends send with
	MaxHops    int           // by which less may be left of it on arrival
}

// Defaults of a session: keepalived's, and for one over several hops any number.
const (
	bfdInterval   = 10 * time.Millisecond
	bfdIdle       = time.Second
	bfdMultiplier = 5
	bfdTTL        = 255 // RFC 5881, section 5
	anyHops       = 255
)

// Our choices. More than a thousand times a second no timer of fnatd's fires well; who
// wants to hear of a server less than once in some minutes wants no BFD.
const (
	minBFDInterval = time.Millisecond
	maxBFDInterval = 10 * time.Minute
)

// slowestIdle is how often a session that is not up may be spoken of (RFC 5880, section
// 6.8.3).
const slowestIdle = time.Second

// comeUp is how many slow intervals a session is given to come up. Three make the
// handshake if nothing is lost.
const comeUp = 5

func (c *Check) readBFD(t *table) {
	s := &c.BFD
	*s = BFD{MinTx: bfdInterval, MinRx: bfdInterval, IdleTx: bfdIdle, Multiplier: bfdMultiplier, TTL: bfdTTL}
	t.span("min_tx", &s.MinTx, minBFDInterval, maxBFDInterval, false)
	t.span("min_rx", &s.MinRx, minBFDInterval, maxBFDInterval, false)
	t.span("idle_tx", &s.IdleTx, slowestIdle, maxBFDInterval, false)
	integer(t, "multiplier", &s.Multiplier, 1, 255)
	t.boolean("passive", &s.Passive)
	if t.boolean("multihop", &s.Multihop); s.Multihop {
		s.MaxHops = anyHops
	}
	integer(t, "ttl", &s.TTL, 1, 255)
	integer(t, "max_hops", &s.MaxHops, 0, anyHops)

	c.Interval, c.Timeout, c.Rise, c.Fall = 2*time.Second, comeUp*s.IdleTx, 1, 1
	t.duration("interval", &c.Interval, minInterval, false)
	t.duration("timeout", &c.Timeout, minTimeout, false)
	integer(t, "rise", &c.Rise, 1, 1000)
	t.boolean("alpha", &c.Alpha)
	for _, key := range words("fall retry retry_delay warmup jitter") {
		if _, given := t.value(key); given {
			t.fail(key, "a session that goes down takes the server down at once, and nothing is asked again and again (remove it; min_rx and multiplier say how soon that is)")
		}
	}
}

// sessions checks that all who share a session mean the same by it, and that what is
// sent to it reaches the host. Each check is told once, not for every server.
type sessions struct {
	*validator
	vips map[netip.Addr]*Service
	lips map[netip.Addr]local
	met  map[bfdPair][]metSession
}

// A bfdPair is what sessions have in common that the neighbor cannot tell apart but by
// our address.
type bfdPair struct {
	neighbor netip.Addr
	multihop bool
}

type metSession struct {
	source netip.Addr
	check  *Check
}

func (v *sessions) service(s *Service) {
	for i := range s.Servers {
		r := &s.Servers[i]
		for j := range r.Checks {
			if c := &r.Checks[j]; c.Type == CheckBFD {
				v.source(s, c)
				v.share(s, r, c)
			}
		}
	}
}

// source checks that packets come from an address that is the kernel's.
func (v *sessions) source(s *Service, c *Check) {
	const remedy = "fnatd's and not the host's (want an address of the host's own, or none: the kernel then chooses)"
	if of, isVIP := v.vips[c.Source]; isVIP {
		v.fail(&c.Where, s.label+"health: ", "source", c.Source.String(), "the virtual address of %s, %s", of.describe(), remedy)
		c.spoil("source")
	} else if first, isLIP := v.lips[c.Source]; isLIP {
		v.fail(&c.Where, s.label+"health: ", "source", c.Source.String(), "in local_pool %q in line %d, %s", first.pool.Name, first.line, remedy)
		c.spoil("source")
	}
}

// share compares the session of a check with those that others have with the neighbor.
func (v *sessions) share(s *Service, r *RealServer, c *Check) {
	neighbor := c.Address
	if !neighbor.IsValid() {
		neighbor = r.Address.Addr()
	}
	if !neighbor.IsValid() || c.bad["source"] {
		return
	}
	pair := bfdPair{neighbor, c.BFD.Multihop}
	for _, m := range v.met[pair] {
		switch {
		case m.source == c.Source:
			v.same(s, neighbor, c, m.check)
			return
		case !m.source.IsValid() || !c.Source.IsValid():
			v.fail(&c.Where, s.label+"health: ", "source", sourceOf(c), "the check in line %d has a session with %s from %s, and the neighbor may not be able to tell the two apart (give both a source, or none)", m.check.Line, neighbor, sourceOf(m.check))
			c.spoil("source")
			return
		}
	}
	v.met[pair] = append(v.met[pair], metSession{c.Source, c})
}

func sourceOf(c *Check) string {
	if c.Source.IsValid() {
		return c.Source.String()
	}
	return "any address"
}

// same checks that two checks say the same of the session that they share.
func (v *sessions) same(s *Service, neighbor netip.Addr, c, first *Check) {
	a, b := &c.BFD, &first.BFD
	for _, k := range []struct {
		key      string
		our, its any
	}{
		{"min_tx", a.MinTx, b.MinTx}, {"min_rx", a.MinRx, b.MinRx}, {"idle_tx", a.IdleTx, b.IdleTx}, {"multiplier", a.Multiplier, b.Multiplier},
		{"passive", a.Passive, b.Passive}, {"ttl", a.TTL, b.TTL}, {"max_hops", a.MaxHops, b.MaxHops},
	} {
		if k.our != k.its {
			value := k.our
			if d, ok := value.(time.Duration); ok {
				value = d.String()
			}
			v.fail(&c.Where, s.label+"health: ", k.key, value, "the session with %s has %v for the check in line %d, and there is one for both (want the same in both)", neighbor, k.its, first.Line)
			c.spoil(k.key)
		}
	}
}
