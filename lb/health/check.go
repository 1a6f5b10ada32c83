package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// hastenedPerInterval is how often a check may be asked in one interval when
// signs keep coming that its server is down. Our choice.
const hastenedPerInterval = 4

// A check is a Check at work. The Monitor's lock guards it.
type check struct {
	Check
	m      *Monitor
	server *server

	passing  bool
	fresh    bool // has no result yet
	streak   int
	result   Result
	begun    time.Time // when the check under way, or the last one, began
	attempt  int       // of the check under way
	busy     bool      // an attempt is under way, or is about to be repeated
	stopped  bool
	cancel   context.CancelFunc // of the attempt under way, or nil
	timer    *time.Timer
	schedule uint64 // counts what the timer was set to, to know a stale one
	last     CheckStatus
	session  *bfd.Session // that it is told by; nil: it asks
	opened   time.Time    // when session was
	downs    uint64       // of session, that have been counted
}

// newCheck puts spec to work. Until there is a result, it counts as passing or not.
func newCheck(s *server, spec Check, passing bool) *check {
	c := &check{Check: spec, m: s.service.m, server: s, passing: passing, fresh: true}
	if c.BFD != nil {
		c.openSession()
	}
	c.in(upTo(c.Warmup))
	return c
}

// adopt takes over what was found out by the check that stood in c's place before
// a reload changed it.
func (c *check) adopt(was *check) {
	c.passing, c.fresh, c.result, c.last = was.passing, was.fresh, was.result, was.last
}

// stop ends c for good.
func (c *check) stop() {
	c.stopped = true
	if c.cancel != nil {
		c.cancel()
	}
	c.timer.Stop()
	if c.session != nil {
		c.session.Close()
	}
}

// in has the next attempt made after d.
func (c *check) in(d time.Duration) {
	c.schedule++
	due := c.schedule
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(max(d, 0), func() { c.run(due) })
}

// hasten has a check that waits for its time asked now, or as soon as it may be.
func (c *check) hasten() {
	if !c.busy && c.session == nil {
		c.in(time.Until(c.begun.Add(c.Interval / hastenedPerInterval)))
	}
}

// run makes one attempt. It is called by the timer.
func (c *check) run(due uint64) {
	m := c.m
	m.mu.Lock()
	if due != c.schedule || c.stopped {
		m.mu.Unlock()
		return
	}
	began := time.Now()
	if c.session != nil {
		c.look(began)
		m.mu.Unlock()
		return
	}
	if !c.busy {
		c.busy, c.begun, c.attempt = true, began, 0
	}
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	c.cancel = cancel
	to := c.endpoint()
	m.mu.Unlock()

	result, err := c.ask(ctx, to)
	ended := time.Now()

	m.mu.Lock()
	defer m.mu.Unlock()
	if c.cancel = nil; c.stopped {
		return
	}
	c.last.At, c.last.Took, c.last.Error = ended, ended.Sub(began), ""
	if err != nil {
		c.last.Error = err.Error()
		if c.attempt++; c.attempt <= c.Retry {
			c.in(c.RetryDelay)
			return
		}
	}
	c.busy = false
	c.conclude(result, err)
	c.in(time.Until(c.begun.Add(c.Interval)) + upTo(c.Jitter))
}

// ask makes an attempt, and ends it in time. A probe that breaks is a probe that
// failed: a server's strange answer must not end fnatd.
func (c *check) ask(ctx context.Context, to Endpoint) (r Result, err error) {
	if q, ok := c.Probe.(queued); ok {
		if !q.begin(ctx) {
			return Result{}, ctx.Err()
		}
		defer q.end()
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check itself broke, a bug of fnatd's: %v", p)
		}
	}()
	r, err = c.Probe.Probe(ctx, to)
	if err != nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		err = fmt.Errorf("no full answer within %v", c.Timeout)
	}
	return r, err
}

// A queued probe may have to wait for its turn before its time begins: that
// others take long is nothing against the server.
type queued interface {
	begin(ctx context.Context) bool // false: ctx has ended
	end()
}

// conclude counts what a check has come to.
func (c *check) conclude(r Result, err error) {
	passed := err == nil
	if passed {
		c.last.Passed++
		c.result = r
	} else {
		c.last.Failed++
	}
	if passed == c.passing {
		c.streak = 0
	} else if c.streak++; c.streak >= c.needed(passed) {
		c.passing, c.streak = passed, 0
	}
	c.fresh = false
	c.server.update()
}

// needed returns how many results in a row turn the check.
func (c *check) needed(passed bool) int {
	switch {
	case !passed:
		return c.Fall
	case c.fresh && c.Alpha: // the first word on a server that nothing was known of
		return 1
	}
	return c.Rise
}

func (c *check) status() CheckStatus {
	s := c.last
	s.Name, s.Passing, s.Streak = c.name(), c.passing, c.streak
	if c.session != nil {
		st := c.session.Status()
		s.BFD = &st
	}
	return s
}

// name names the kind of check and what it asks for.
func (c *Check) name() string {
	if c.BFD != nil {
		return c.BFD.String()
	}
	return c.Probe.String()
}

// address returns the host that is asked about a server.
func (c *Check) address(real packet.Endpoint) netip.Addr {
	if c.Via.Addr.IsValid() {
		return c.Via.Addr
	}
	return real.Netip().Addr()
}

// endpoint returns where the check goes.
func (c *check) endpoint() Endpoint {
	real := c.server.spec.Real.Netip()
	addr, port := c.address(c.server.spec.Real), c.Via.Port
	if port == 0 {
		port = real.Port()
	}
	service := c.server.service
	return Endpoint{
		AddrPort: netip.AddrPortFrom(addr, port), Via: c.Via, choose: service.m.source,
		Service: service.spec.Name, ID: service.spec.ID, Real: c.server.spec.Real,
	}
}

// upTo returns a random time of less than d.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
