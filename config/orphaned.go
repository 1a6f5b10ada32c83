package config

import "time"

// An Orphaned says what the XDP program does with balanced packets after fnatd has
// died and before the next one serves.
type Orphaned string

// What may become of them.
const (
	OrphanedDrop Orphaned = "drop" // however long it takes
	OrphanedPass Orphaned = "pass" // after some time they are left to the kernel
)

// defaultOrphanedAfter is well over what a restart by systemd takes, and under the
// minute or two for which clients usually try to connect.
const defaultOrphanedAfter = 30 * time.Second

// Bounds. A second is several signs of life, of which one may be late.
const minOrphanedAfter, maxOrphanedAfter = time.Second, 24 * time.Hour

func (d *Dataplane) readOrphaned(t *table) {
	oneOf(t, "orphaned", &d.Orphaned, OrphanedDrop, OrphanedPass)
	t.span("orphaned_after", &d.OrphanedAfter, minOrphanedAfter, maxOrphanedAfter, false)
}

// PassAfter returns for how long after the last sign of life balanced packets are
// dropped before they are left to the kernel; 0 is for ever.
func (d *Dataplane) PassAfter() time.Duration {
	if d.Orphaned == OrphanedPass {
		return d.OrphanedAfter
	}
	return 0
}
