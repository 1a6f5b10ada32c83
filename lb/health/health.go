// Package health checks real servers and says which of them may be used, and
// whether enough of a service's are left. It reports transitions and changes
// nothing itself: who asked for them acts on them. It knows neither the table of
// services nor the packet path.
//
// A check is one question to one server, asked again and again. Each waits for
// its time in a timer and has a goroutine only while it is being asked, so
// thousands of them cost no thread.
package health

import (
	"context"
	"net/netip"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb/health/bfd"
)

// An ID is what makes a service the same over reloads.
type ID struct {
	Proto   uint8
	Virtual packet.Endpoint
}

// A Service is what is to be known of a service.
type Service struct {
	ID
	Name       string // for messages
	Quorum     int    // sum of the weights of the servers in use that must be left
	Hysteresis int    // by which the sum must be above to regain it, or below to lose it
	Damping    time.Duration
	Servers    []Server
}

// sameAs reports whether s and o are the same, with the very same servers.
func (s *Service) sameAs(o *Service) bool {
	return s.ID == o.ID && s.Name == o.Name && s.Quorum == o.Quorum && s.Hysteresis == o.Hysteresis && s.Damping == o.Damping &&
		len(s.Servers) == len(o.Servers) && (len(s.Servers) == 0 || &s.Servers[0] == &o.Servers[0])
}

// A Server is one real server of a service.
type Server struct {
	Real   packet.Endpoint
	Weight int // of the configuration
	Checks []Check
}

// A Check is one question to a server, and when to ask it. A server is up while
// it passes all of its checks; one without checks always is.
type Check struct {
	Key   string // says everything about it: checks with the same Key are the same
	Probe Probe  // nil: it is told by BFD
	BFD   *BFD   // if there is no Probe
	Via   Via
	Timing
}

// Timing says when a check is asked, and what its answers count.
type Timing struct {
	Interval   time.Duration // from the beginning of one to that of the next
	Timeout    time.Duration // of an attempt
	Retry      int           // attempts more when one fails
	RetryDelay time.Duration // before each of those
	Warmup     time.Duration // the first begins at random within it
	Jitter     time.Duration // each begins at random later by up to so much
	Rise       int           // passed in a row that bring the server up
	Fall       int           // failed in a row that take it down
	Alpha      bool          // the server is down until it has passed for the first time
}

// A Probe is one attempt at a check: nil means that the server answered as it
// should, an error says what was wrong, in the words of an operator. Probe ends
// when ctx does, or soon after. Probes are compared by reflect.DeepEqual, to find
// out whether a reload has changed them.
type Probe interface {
	Probe(ctx context.Context, to Endpoint) (Result, error)
	// String names the kind of check and what it asks for: `http /healthz`.
	String() string
}

// A Result is what a passed check says besides.
type Result struct {
	Weighted bool // Weight takes the place of the configured one
	Relative bool // or is added to it
	Weight   int
}

// Via says where a check goes, as far as that is not to the server itself.
type Via struct {
	Addr      netip.Addr // invalid: the server's
	Port      uint16     // 0: the server's
	Source    netip.Addr // invalid: fnatd's choice
	SrcPort   uint16     // 0: any
	Interface string     // "": by the routes
	Mark      uint32     // of the packets; 0: none
}

// A Status is what is known of a server.
type Status struct {
	Real     packet.Endpoint
	Up       bool
	Weight   int       // in force while it is up
	Weighted bool      // Weight is a check's, not the configured one
	Since    time.Time // when it came up or went down
	Reason   string    // why it is down; "" if it is up
	Held     time.Time // until then it stays down though it may pass, as it flaps; zero: it does not
	Flaps    int       // times it went down soon after it had come up
	Checks   []CheckStatus
}

// A CheckStatus is what is known of a check.
type CheckStatus struct {
	Name    string
	Passing bool
	Streak  int           // results in a row that speak against Passing
	At      time.Time     // when the last attempt ended; zero: there was none
	Took    time.Duration // by the last attempt
	Error   string        // of the last attempt; "": it passed
	Passed  uint64        // checks, since the beginning
	Failed  uint64
	BFD     *bfd.Status // of the session; nil: it has none
}

// A ServiceStatus is what is known of a service.
type ServiceStatus struct {
	ID
	Quorum  bool // enough of it is up
	Weight  int  // sum of the weights of the servers that are up
	Servers []Status
}

// A Change is one transition: of a server, or if Real is zero of a service's
// quorum.
type Change struct {
	Service  ID
	Name     string // of the service
	Real     packet.Endpoint
	Up       bool
	Turned   bool   // Up has changed; else only the weight has
	Weight   int    // of a server, in force while it is up
	Weighted bool   // which a check has given it
	Reason   string // why it went down
}
