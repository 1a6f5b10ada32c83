package unit

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// watchdogPID is the environment variable that says which process is watched.
const watchdogPID = "WATCHDOG_PID"

// WatchdogPeriod returns how often to call Notify("WATCHDOG=1") so that the service
// manager does not take the program for dead, or 0 if it does not watch it
// (sd_watchdog_enabled(3)). It is a quarter of the time that the manager waits: one
// call may be late, and another left out, before that is over.
func WatchdogPeriod() time.Duration {
	if pid := os.Getenv(watchdogPID); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // a parent is meant, whose environment this is
	}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 63)
	if err != nil {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 4
}

// FeedWatchdog tells the service manager every period that the program is well, as
// long as well says so, until ctx ends. With a period of 0 it returns at once.
func FeedWatchdog(ctx context.Context, period time.Duration, well func() bool) {
	if period <= 0 {
		return
	}
	ticks := time.NewTicker(period)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			if well() {
				Notify("WATCHDOG=1")
			}
		}
	}
}

// Successor returns an environment for a process that is to take this one's place
// under the service manager, to be named to it by MAINPID=: without the name of this
// process, so that it feeds the watchdog itself.
func Successor(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, watchdogPID+"=") })
}
