package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/internal/ctl"
)

// adopter is the status of a fnatd that went on with a state.
func adopter() ctl.Status {
	return ctl.Status{
		Version: "v1.2.3", PID: 4711, UptimeSeconds: 3*86400 + 4*3600 + 5*60 + 6.7, Workers: 4,
		State: ctl.State{Path: "/run/fnatd/state", Bytes: 110 << 20, AgeSeconds: 12 * 86400, Adoptions: 3,
			Version: 2, WrittenBy: "v1.1.0", Written: time.Unix(1_700_000_000, 0)},
		Start: ctl.Start{Adopted: true, Kept: 12345, Undone: 2, TookSeconds: 0.07512, Lost: []ctl.Loss{
			ctl.NewLoss("damaged", 0), ctl.NewLoss(ctl.NoRoom, 0),
		}},
		Notes: ctl.Notes{Written: time.Unix(1, 0), AgeSeconds: 0.4321},
	}
}

func (f *fakeBackend) Status() ctl.Status {
	if f.status != nil {
		return *f.status
	}
	return adopter()
}

func (f *fakeBackend) Stop(_ context.Context, o ctl.StopOrder) ctl.Stopping {
	s := ctl.Stopping{PID: 4711, Connections: 12345, State: "/run/fnatd/state"}
	if o.Forget {
		s.State = ""
	}
	return s
}

func (f *fakeBackend) Upgrade(_ context.Context, binary string) (ctl.Upgrade, error) {
	if binary == "/bin/false" {
		return ctl.Upgrade{}, errors.New("/bin/false: the new fnatd: it ended before it said \"hello\"")
	}
	return ctl.Upgrade{PID: 4712, Version: "v1.3.0", Before: "v1.2.3", GapSeconds: 0.00421}, nil
}

// TestStatus has what goes wrong at a start told.
func TestStatus(t *testing.T) {
	for name, change := range map[string]func(*ctl.Status){
		"status_with_losses": func(s *ctl.Status) {
			s.Start.DamagedEntries = 1
			s.Start.Lost = []ctl.Loss{ctl.NewLoss("damaged", 3), ctl.NewLoss("repeated", 0), ctl.NewLoss(ctl.NoRoom, 1400)}
			s.Notes.Error = "notes are longer than 4192232 bytes"
		},
		"status_of_a_refused_state": func(s *ctl.Status) {
			s.State.Adoptions, s.Start = 0, ctl.Start{Refused: "it is of version 3, written by fnatd v1.5.0 at 2026-11-30 21:55:04 UTC; this fnatd knows 1 to 2: for its connections `mv /run/fnatd/state.v3 /run/fnatd/state` and start that fnatd or a later one, or remove it"}
			s.Notes = ctl.Notes{Error: "notes are longer than 4192232 bytes"}
		},
		"status_in_memory_only": func(s *ctl.Status) {
			s.Workers, s.State = 1, ctl.State{Bytes: 110 << 20, AgeSeconds: s.UptimeSeconds}
			s.Start, s.Notes = ctl.Start{}, ctl.Notes{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			status := adopter()
			change(&status)
			code, stdout, stderr := fnatctl("--socket", serve(t, &fakeBackend{status: &status}), "status")
			if code != cli.OK {
				t.Errorf("got exit code %d (%s), want 0", code, stderr)
			}
			golden(t, stdout)
		})
	}
}
