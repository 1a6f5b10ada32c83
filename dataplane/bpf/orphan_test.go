package bpf

import (
	"testing"
	"time"
)

// What nobody serves is dropped, or from some time after the last sign of life on
// left to the kernel; what somebody serves never is.
func TestOrphaned(t *testing.T) {
	privateNetns(t)
	p := loadWithTables(t)
	lo := loopback(t)
	// each runs every packet that is ours; what is not passes in any case.
	each := func(t *testing.T, verdict uint32, want func(served Counter) Counter) {
		t.Helper()
		for _, tt := range packets {
			if tt.want == Passed {
				p.run(t, tt.frame, xdpPass, Passed)
			} else {
				p.run(t, tt.frame, verdict, want(tt.want))
			}
		}
	}
	always := func(c Counter) func(Counter) Counter { return func(Counter) Counter { return c } }

	t.Run("dropped_without_a_sign_of_life", func(t *testing.T) { each(t, xdpDrop, always(Unserved)) })
	t.Run("dropped_before_the_time", func(t *testing.T) {
		must(t, p.PassAfter(time.Hour))
		each(t, xdpDrop, always(Unserved))
	})
	t.Run("passed_after_the_time", func(t *testing.T) {
		must(t, p.PassAfter(time.Nanosecond))
		each(t, xdpPass, always(Orphaned))
	})
	t.Run("passed_by_another_instance", func(t *testing.T) {
		must(t, p.Renew()) // with the same maps
		each(t, xdpPass, always(Orphaned))
	})
	t.Run("served_after_the_time", func(t *testing.T) {
		sock := openSocket(t, p, lo)
		each(t, xdpRedirect, func(served Counter) Counter { return served })
		must(t, sock.Close())
		each(t, xdpPass, always(Orphaned))
	})
	t.Run("dropped_after_a_new_sign", func(t *testing.T) {
		must(t, p.PassAfter(time.Hour))
		each(t, xdpDrop, always(Unserved))
	})
	t.Run("dropped_when_that_is_the_policy_again", func(t *testing.T) {
		must(t, p.PassAfter(time.Nanosecond))
		must(t, p.PassAfter(0))
		each(t, xdpDrop, always(Unserved))
	})
}
