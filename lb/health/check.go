package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"time"
)

// hastenedPerInterval is how often a check may be asked in one interval when
// signs keep coming that its server is down. Our choice.
const hastenedPerInterval = 4

// A check is a Check at work. The Monitor's lock guards it.
type check struct {
	Check
	server *server
	ctx    context.Context // ends with the check
	cancel context.CancelFunc

	passing  bool
	fresh    bool // has no result yet
	streak   int
	result   Result
	begun    time.Time // when the check under way, or the last one, began
	attempt  int       // of the check under way
	busy     bool      // an attempt is under way, or is about to be repeated
	timer    *time.Timer
	schedule uint64 // counts what the timer was set to, to know a stale one
	last     CheckStatus
}

// newCheck returns a check of s that has not been asked yet.
func newCheck(s *server, spec Check) *check {
	c := &check{Check: spec, server: s, fresh: true}
	c.ctx, c.cancel = context.WithCancel(s.monitor().ctx)
	return c
}

// start sets the first attempt's time.
func (c *check) start() { c.in(upTo(c.Warmup)) }

// adopt takes over what was, the check that stood in c's place before a reload,
// was found out. If nothing has changed in it, c is asked when that would have been.
func (c *check) adopt(was *check) {
	c.passing, c.fresh, c.result, c.last = was.passing, was.fresh, was.result, was.last
	if !reflect.DeepEqual(c.Check, was.Check) {
		c.start()
		return
	}
	c.streak, c.begun = was.streak, was.begun
	if c.begun.IsZero() {
		c.start()
		return
	}
	c.in(time.Until(c.begun.Add(c.Interval)))
}

// stop ends c for good.
func (c *check) stop() {
	c.cancel()
	c.schedule++
	if c.timer != nil {
		c.timer.Stop()
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
	if !c.busy {
		c.in(time.Until(c.begun.Add(c.Interval / hastenedPerInterval)))
	}
}

// run makes one attempt. It is called by the timer.
func (c *check) run(due uint64) {
	m := c.server.monitor()
	m.mu.Lock()
	if due != c.schedule || c.ctx.Err() != nil {
		m.mu.Unlock()
		return
	}
	began := time.Now()
	if !c.busy {
		c.busy, c.begun, c.attempt = true, began, 0
	}
	to := c.endpoint()
	m.mu.Unlock()

	result, err := c.ask(to)
	ended := time.Now()

	m.mu.Lock()
	defer m.mu.Unlock()
	if c.ctx.Err() != nil {
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

// ask makes an attempt and ends it in time. A probe that breaks is a probe that
// failed: a server's strange answer must not end fnatd.
func (c *check) ask(to Endpoint) (r Result, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check itself broke, a bug of fnatd's: %v", p)
		}
	}()
	if r, err = c.Probe.Probe(ctx, to); err != nil && ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("no full answer within %v", c.Timeout)
	}
	return r, err
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
	s.Name, s.Passing, s.Streak = c.Probe.String(), c.passing, c.streak
	return s
}

// endpoint returns where the check goes.
func (c *check) endpoint() Endpoint {
	real := c.server.spec.Real.Netip()
	addr, port := c.Via.Addr, c.Via.Port
	if !addr.IsValid() {
		addr = real.Addr()
	}
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
