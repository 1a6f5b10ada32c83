package health

import (
	"errors"
	"fmt"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// BFD is the check that a BFD session with a server's host is up. It asks nothing: the
// session finds out by itself, and tells. A server is down in the moment in which its
// session is, whatever Fall is; it is up when Rise looks in a row, one Interval apart,
// have found the session up. Timeout is what a session that has not been up yet is given
// to come up, before it counts as down.
//
// Of Key only Multihop is set: the addresses are those of Via and the server.
type BFD bfd.Config

func (*BFD) String() string { return "bfd" }

// session returns the session by which the check is told about a server.
func (c *Check) session(real packet.Endpoint) bfd.Config {
	s := bfd.Config(*c.BFD)
	s.Neighbor, s.Source = c.address(real), c.Via.Source
	return s
}

func (c *check) openSession() {
	c.opened = time.Now()
	s := c.Check.session(c.server.spec.Real)
	c.session = c.m.speaker.Open(s, c.server.recalled(s.Key), c.told)
	c.downs = c.session.Status().Downs
}

// told is called when the session has come up or gone down.
func (c *check) told() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if !c.stopped {
		c.look(time.Now())
	}
}

// look takes the state of the session for a result.
func (c *check) look(now time.Time) {
	st := c.session.Status()
	if patience := c.opened.Add(c.Timeout).Sub(now); st.Ups == 0 && patience > 0 {
		c.in(patience) // it may come up yet: that it has not says nothing
		return
	}
	c.begun, c.last.At = now, now
	if st.Downs != c.downs && st.State == bfd.Up {
		c.find("the session was down for a moment")
	}
	c.downs = st.Downs
	if st.State == bfd.Up {
		c.find("")
	} else {
		c.find(c.whyNot(&st))
	}
	c.in(c.Interval)
}

// find counts a result; wrong says what is, if anything.
func (c *check) find(wrong string) {
	var err error
	if c.last.Error = wrong; wrong != "" {
		err = errors.New(wrong)
	}
	c.conclude(Result{}, err)
}

// whyNot says why the session is not up. It may be fnatd's own doing.
func (c *check) whyNot(st *bfd.Status) string {
	to := c.Check.session(c.server.spec.Real)
	if choose := c.m.source; st.Remote == 0 && choose != nil && !to.Source.IsValid() {
		if src, taken := choose(to.Neighbor); src.IsValid() && taken.has(to.Port()) {
			return fmt.Sprintf("would be spoken from %v, a local address of fnatd's whose port %d is not the kernel's: give another address of the host as source, or take the port out of the pool's", src, to.Port())
		}
	}
	return st.Why
}

func (r PortRange) has(port uint16) bool { return r.Min <= port && port <= r.Max }
