package bpf

import "fmt"

// A Counter says why the program gave a packet its verdict. Its String is the
// label in metrics.
type Counter uint8

// Counters, in the order of enum counter in counters.h.
const (
	Passed    = Counter(xdpCounterCOUNTER_PASSED)     // left to the kernel
	Service   = Counter(xdpCounterCOUNTER_SERVICE)    // redirected: to a service
	Local     = Counter(xdpCounterCOUNTER_LOCAL)      // redirected: to a local address
	Fragment  = Counter(xdpCounterCOUNTER_FRAGMENT)   // redirected: fragment to either
	Notice    = Counter(xdpCounterCOUNTER_NOTICE)     // redirected: reply to a UDP notice
	ICMPError = Counter(xdpCounterCOUNTER_ICMP_ERROR) // redirected: ICMP error about what came from either
	Unserved  = Counter(xdpCounterCOUNTER_UNSERVED)   // dropped: no socket on its queue
	Answered  = Counter(xdpCounterCOUNTER_ANSWERED)   // SYN to a guarded service: answered on the spot
	Limited   = Counter(xdpCounterCOUNTER_LIMITED)    // dropped: such a SYN, whose source sends too many
	Shed      = Counter(xdpCounterCOUNTER_SHED)       // dropped: such a SYN, while too many wait in the ring
	Orphaned  = Counter(xdpCounterCOUNTER_ORPHANED)   // left to the kernel: no socket on its queue, and no fnatd for long
	BadCookie = Counter(xdpCounterCOUNTER_BAD_COOKIE) // dropped: segment to a guarded service, of no connection and without a good cookie

	NumCounters = int(xdpCounterNUM_COUNTERS)
)

var counterNames = [NumCounters]string{
	Passed: "passed", Service: "service", Local: "local",
	Fragment: "fragment", Notice: "notice", ICMPError: "icmp_error", Unserved: "unserved",
	Answered: "answered", Limited: "limited", Shed: "shed", Orphaned: "orphaned", BadCookie: "bad_cookie",
}

func (c Counter) String() string {
	if int(c) < NumCounters {
		return counterNames[c]
	}
	return "unknown"
}

// Counters returns how many packets met each fate since Load, on all CPUs.
func (p *Program) Counters() (sums [NumCounters]uint64, err error) {
	var perCPU []uint64
	for c := range sums {
		if err := p.objs.Counters.Lookup(uint32(c), &perCPU); err != nil {
			return sums, fmt.Errorf("xdp program: counter %s: %w", Counter(c), err)
		}
		for _, n := range perCPU {
			sums[c] += n
		}
	}
	return sums, nil
}
