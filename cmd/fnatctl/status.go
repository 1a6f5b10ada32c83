package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/ctl"
)

func (p *program) status() *cobra.Command {
	return p.ask("status", "Show how fnatd runs, and what it has kept of the one before it", ctl.Get(ctl.PathStatus),
		func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
			status, err := c.Status(ctx)
			if err == nil {
				printStatus(w, &status)
			}
			return err
		})
}

func printStatus(w *bufio.Writer, s *ctl.Status) {
	fmt.Fprintf(w, "fnatd %s, pid %d, up %s, %s serving\n", s.Version, s.PID, uptime(s.UptimeSeconds), counted(s.Workers, "worker"))
	where := s.State.Path
	if where == "" {
		where = "memory only, it ends with this process"
	}
	fmt.Fprintf(w, "state    %s, %s, %s old, adopted %s\n",
		where, memory(s.State.Bytes), uptime(s.State.AgeSeconds), counted(s.State.Adoptions, "time"))
	if s.State.Version > 0 { // else it is an older fnatd, which does not tell
		fmt.Fprintf(w, "         %s\n", describeLayout(&s.State))
	}
	fmt.Fprintf(w, "notes    %s\n", describeNotes(&s.Notes))
	fmt.Fprintf(w, "start    %s\n", describeStart(&s.Start))
	if s.Start.DamagedEntries > 0 {
		fmt.Fprintf(w, "         damaged in the registry of servers and local addresses: %d\n", s.Start.DamagedEntries)
	}
	printLosses(w, &s.Start)
}

// describeLayout tells which fnatd can go on with a state: none before the one that wrote it.
func describeLayout(s *ctl.State) string {
	if s.WrittenBy == "" {
		return fmt.Sprintf("of version %d", s.Version)
	}
	return fmt.Sprintf("of version %d, written by fnatd %s at %s", s.Version, s.WrittenBy, s.Written.UTC().Format(time.DateTime+" MST"))
}

// describeNotes tells how old what would be remembered is.
func describeNotes(n *ctl.Notes) string {
	age := seconds(math.Round(10*n.AgeSeconds) / 10)
	switch {
	case n.Written.IsZero() && n.Error == "":
		return "not written yet"
	case n.Written.IsZero():
		return "never written: " + n.Error
	case n.Error != "":
		return fmt.Sprintf("last written %s ago, and not since: %s", age, n.Error)
	}
	return fmt.Sprintf("of health, drains and counters, written %s ago", age)
}

// describeStart tells what became of the state that this fnatd found.
func describeStart(s *ctl.Start) string {
	switch {
	case s.Refused != "":
		return "table began empty, the state found was refused: " + s.Refused
	case !s.Adopted:
		return "table began empty, no state was found"
	}
	took := time.Duration(s.TookSeconds * float64(time.Second)).Round(100 * time.Microsecond)
	text := fmt.Sprintf("adopted in %s: %s kept, %d lost", took, counted(s.Kept, "connection"), s.LostSum())
	if s.Undone > 0 {
		text += fmt.Sprintf(", %s under way taken back", counted(s.Undone, "change"))
	}
	return text
}

// printLosses tells why connections were not kept.
func printLosses(w *bufio.Writer, s *ctl.Start) {
	if s.LostSum() == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable(w, ">Lost", "Reason", "Meaning")
	for _, l := range s.Lost {
		if l.Count > 0 {
			t.row(strconv.Itoa(l.Count), l.Reason, l.Meaning)
		}
	}
	t.flush()
}

// counted returns n of something that forms its plural by an s.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}
