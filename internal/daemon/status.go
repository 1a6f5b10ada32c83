package daemon

import (
	"os"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/ctl"
)

// Status implements ctl.Backend.
func (d *Daemon) Status() ctl.Status {
	now := time.Now()
	s := ctl.Status{
		Version:       d.opts.Version,
		PID:           os.Getpid(),
		Started:       d.started,
		UptimeSeconds: now.Sub(d.started).Seconds(),
		State: ctl.State{
			Path:       d.state.Path(),
			Bytes:      uint64(d.state.Size()),
			Began:      d.notes.Began,
			AgeSeconds: now.Sub(d.notes.Began).Seconds(),
			Adoptions:  d.notes.Adopted,
		},
		Start: d.legacy.answer(),
	}
	d.mu.Lock()
	version, by := d.state.Signature()
	s.State.Version, s.State.WrittenBy, s.State.Written = version, by.Build, by.At
	s.Notes = ctl.Notes{Written: d.notesTaken, Error: d.notesFailed.complaint}
	d.mu.Unlock()
	if !s.Notes.Written.IsZero() {
		s.Notes.AgeSeconds = now.Sub(s.Notes.Written).Seconds()
	}
	d.fleet.mu.RLock()
	s.Workers = len(d.fleet.queues)
	d.fleet.mu.RUnlock()
	return s
}

// answer describes what became of the state that was found.
func (l *legacy) answer() ctl.Start {
	s := ctl.Start{Refused: l.refused, Lost: l.losses()}
	if l.found != nil {
		s.Adopted, s.Kept, s.Undone, s.DamagedEntries = true, l.kept(), l.found.Undone, l.found.Entries
		s.TookSeconds = l.took.Seconds()
	}
	return s
}

// kept returns how many connections this fnatd goes on with.
func (l *legacy) kept() int { return l.found.Kept - l.left - l.gone }

// losses returns for each reason how many connections were not kept.
func (l *legacy) losses() (all []ctl.Loss) {
	var dropped [conntrack.NumFaults]int
	if l.found != nil {
		dropped = l.found.Dropped
	}
	for why := conntrack.Sound + 1; why < conntrack.NumFaults; why++ {
		all = append(all, ctl.NewLoss(why.String(), dropped[why]))
	}
	return append(all, ctl.NewLoss(ctl.NoRoom, l.left), ctl.NewLoss(ctl.NotConfigured, l.gone))
}
