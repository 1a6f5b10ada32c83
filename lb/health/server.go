package health

import (
	"fmt"
	"time"
)

// Our choices for servers that flap: one that goes down again within
// flapWindow times the damping after it came up stays out for the damping; each
// further time for twice as long, up to maxHold times the damping.
const (
	flapWindow = 6
	maxHold    = 64
)

// A server is a Server at work. The Monitor's lock guards it.
type server struct {
	spec    Server
	service *service
	checks  []*check

	up       bool
	since    time.Time
	reason   string
	weight   int  // in force while it is up
	weighted bool // it is a check's, not the configured one

	flaps int
	held  time.Time // until when it stays down; zero: it is not held
	timer *time.Timer
}

func (s *server) monitor() *Monitor { return s.service.m }

// stop ends all checks of s.
func (s *server) stop() {
	for _, c := range s.checks {
		c.stop()
	}
	s.stopHold()
}

func (s *server) stopHold() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// update follows the checks: it takes s down, or brings it up unless it is held.
func (s *server) update() {
	failing := s.failing()
	weight, weighted := s.weigh()
	switch {
	case s.up && failing != nil:
		s.goDown(failing)
	case s.up:
		if s.weight != weight || s.weighted != weighted {
			s.weight, s.weighted = weight, weighted
			s.report(false)
		}
	case failing != nil:
		s.reason = failing.reason()
		s.hold() // from the last failure on
	case len(s.checks) > 0 && time.Now().Before(s.held):
		s.reason = fmt.Sprintf("passes again, but went down %d times in short order: held back", s.flaps+1)
		s.wakeAt(s.held)
	default:
		s.weight, s.weighted = weight, weighted
		s.goUp()
	}
}

// failing returns a check that s does not pass, or nil.
func (s *server) failing() *check {
	for _, c := range s.checks {
		if !c.passing {
			return c
		}
	}
	return nil
}

// reason says why a check does not pass.
func (c *check) reason() string {
	switch {
	case c.fresh:
		return c.name() + ": not passed yet"
	case c.last.Error == "":
		return c.name() + ": has not passed often enough yet"
	}
	return c.name() + ": " + c.last.Error
}

// weigh returns the weight in force: the lowest that a check gives, or else the
// configured one.
func (s *server) weigh() (weight int, weighted bool) {
	weight = s.spec.Weight
	for _, c := range s.checks {
		w := c.result.Weight
		if c.result.Relative {
			w = min(max(s.spec.Weight+w, 0), maxWeight)
		}
		if c.result.Weighted && (!weighted || w < weight) {
			weight, weighted = w, true
		}
	}
	return weight, weighted
}

func (s *server) goDown(why *check) {
	now := time.Now()
	if !s.since.IsZero() && now.Sub(s.since) < flapWindow*s.service.spec.Damping {
		s.flaps++
	} else {
		s.flaps = 0
	}
	s.up, s.since, s.reason = false, now, why.reason()
	s.hold()
	s.report(true)
}

func (s *server) goUp() {
	s.stopHold()
	s.up, s.since, s.reason, s.held = true, time.Now(), "", time.Time{}
	s.report(true)
}

// hold keeps s down for longer the more often it has flapped.
func (s *server) hold() {
	s.stopHold()
	if s.flaps > 0 {
		times := min(1<<min(s.flaps-1, 62), maxHold)
		s.held = time.Now().Add(time.Duration(times) * s.service.spec.Damping)
	}
}

// wakeAt has s looked at again when its hold is over.
func (s *server) wakeAt(at time.Time) {
	s.stopHold()
	s.timer = time.AfterFunc(time.Until(at), func() {
		m := s.monitor()
		m.mu.Lock()
		defer m.mu.Unlock()
		if !s.up && s.timer != nil {
			s.update()
		}
	})
}

// report tells of a transition, and lets the service look at its quorum.
func (s *server) report(turned bool) {
	s.monitor().report(Change{
		Service: s.service.spec.ID, Name: s.service.spec.Name, Real: s.spec.Real,
		Up: s.up, Turned: turned, Weight: s.weight, Weighted: s.weighted, Reason: s.reason,
	})
	s.service.count()
}

func (s *server) status() Status {
	st := Status{
		Real: s.spec.Real, Up: s.up, Weight: s.weight, Weighted: s.weighted, Since: s.since, Reason: s.reason, Flaps: s.flaps,
	}
	if !s.up {
		st.Held = s.held
	}
	for _, c := range s.checks {
		st.Checks = append(st.Checks, c.status())
	}
	return st
}
