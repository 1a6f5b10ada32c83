package main

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
)

// printHealth prints a line for each service and below it one for each of its
// real servers, with checks also one for each of those.
func printHealth(w *bufio.Writer, services []ctl.ServiceHealth, checks bool, now time.Time) {
	name := minName
	for _, s := range services {
		name = max(name, len(s.Virtual.String()))
		for _, r := range s.Servers {
			name = max(name, len(r.Real.String()))
		}
	}
	fmt.Fprintf(w, "Prot %-*s Quorum    Service\n", name, "Virtual")
	fmt.Fprintf(w, "  -> %-*s State     For          Why\n", name, "Real")
	for _, s := range services {
		fmt.Fprintf(w, "%-4s %-*s %-9s %s%s\n", strings.ToUpper(s.Protocol), name, s.Virtual, quorum(&s), s.Name, sorry(&s))
		for _, r := range s.Servers {
			line := fmt.Sprintf("  -> %-*s %-9s %-12s %s", name, r.Real, r.State, since(r.Since, now), why(&r))
			fmt.Fprintln(w, strings.TrimRight(line, " "))
			for _, c := range r.Checks {
				if checks {
					fmt.Fprintf(w, "       %s\n", describeCheck(&c))
				}
				if checks && c.BFD != nil {
					fmt.Fprintf(w, "         %s\n", describeSession(c.BFD))
				}
			}
		}
	}
}

// quorum tells what of the weight that must be up is.
func quorum(s *ctl.ServiceHealth) string {
	text := fmt.Sprintf("%d/%d", s.Weight, s.Quorum)
	if s.Hysteresis > 0 {
		text += fmt.Sprintf("±%d", s.Hysteresis)
	}
	return text
}

func sorry(s *ctl.ServiceHealth) string {
	switch {
	case s.HasQuorum:
		return ""
	case s.Sorry.IsValid():
		return fmt.Sprintf(": quorum lost, %s stands in", s.Sorry)
	}
	return ": quorum lost"
}

// since tells for how long something has been so.
func since(at, now time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return uptime(now.Sub(at).Seconds())
}

// why tells what there is to say of a server.
func why(r *ctl.ServerHealth) string {
	text := r.Reason
	if r.HeldSeconds > 0 {
		text += fmt.Sprintf(", not up before %s more of passing", time.Duration(r.HeldSeconds*float64(time.Second)).Round(time.Second))
	}
	return text
}

// describeSession tells how a BFD session is.
func describeSession(b *ctl.BFD) string {
	text := fmt.Sprintf("session %08x with %s is %s, went down %d times, last diagnostic: %s", b.Discriminator, b.Neighbor, b.State, b.Downs, b.Diagnostic)
	if b.RemoteDiscriminator == 0 {
		return text + "; the neighbor is not heard"
	}
	return text + fmt.Sprintf("; the neighbor's %08x is %s, diagnostic: %s; sent each %s, lost after %s",
		b.RemoteDiscriminator, b.RemoteState, b.RemoteDiagnostic, inFull(b.IntervalSeconds), inFull(b.DetectionSeconds))
}

func inFull(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond)
}

func describeCheck(c *ctl.CheckHealth) string {
	state := "passing"
	if !c.Passing {
		state = "failing"
	}
	text := fmt.Sprintf("%s: %s, %d passed, %d failed", c.Name, state, c.Passed, c.Failed)
	if c.Streak > 0 {
		text += fmt.Sprintf(", %d against it in a row", c.Streak)
	}
	switch took := inFull(c.TookSeconds); {
	case c.BFD != nil && c.Error == "": // a session is not asked
		return text
	case c.BFD != nil:
		return text + "; " + c.Error
	case c.At.IsZero():
		return text + ", not asked yet"
	case c.Error != "":
		return text + fmt.Sprintf("; last, after %s: %s", took, c.Error)
	default:
		return text + fmt.Sprintf("; last took %s", took)
	}
}
