package load

import (
	"slices"
	"time"
)

// Samples are measured times.
type Samples []time.Duration

// Quantile returns the time that a share q of the samples does not exceed, or
// zero if there are none. It sorts them.
func (s Samples) Quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	slices.Sort(s)
	return s[min(int(q*float64(len(s))), len(s)-1)]
}
