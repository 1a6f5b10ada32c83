package main

import (
	"bufio"
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
)

// minName is the width of the column of addresses, as in ipvsadm.
const minName = 28

// printServices prints a line for each service and below it one for each of
// its real servers, as ipvsadm -Ln does, or with traffic ipvsadm -Ln --stats.
func printServices(w *bufio.Writer, services []ctl.Service, traffic bool) {
	name := nameWidth(services)
	if traffic {
		fmt.Fprintf(w, "Prot %-*s     Conns    InPkts   OutPkts   InBytes  OutBytes\n", name, "Virtual")
		fmt.Fprintf(w, "  -> Real\n")
	} else {
		fmt.Fprintf(w, "Prot %-*s Scheduler Service\n", name, "Virtual")
		fmt.Fprintf(w, "  -> %-*s Weight ActiveConn InActConn\n", name, "Real")
	}
	for _, s := range services {
		fmt.Fprintf(w, "%-4s %-*s", strings.ToUpper(s.Protocol), name, s.Virtual)
		if traffic {
			printTraffic(w, &s.Traffic)
		} else {
			fmt.Fprintf(w, " %-9s %s: %s\n", s.Scheduler, s.Name, describe(&s))
		}
		for _, r := range s.Servers {
			fmt.Fprintf(w, "  -> %-*s", name, r.Real)
			if traffic {
				printTraffic(w, &r.Traffic)
				continue
			}
			line := fmt.Sprintf(" %-6d %-10d %-10d %s", r.Weight, r.Active, r.Inactive, note(&r))
			fmt.Fprintln(w, strings.TrimRight(line, " "))
		}
	}
}

// nameWidth returns how wide a column with all addresses of services is.
func nameWidth(services []ctl.Service) int {
	width := minName
	for _, s := range services {
		width = max(width, len(s.Virtual.String()))
		for _, r := range s.Servers {
			width = max(width, len(r.Real.String()))
		}
	}
	return width
}

func printTraffic(w *bufio.Writer, t *ctl.Traffic) {
	for _, n := range []uint64{t.Connections, t.InPackets, t.OutPackets, t.InBytes, t.OutBytes} {
		fmt.Fprintf(w, " %9s", count(n))
	}
	fmt.Fprintln(w)
}

// describe says how a service is set up, apart from its scheduler.
func describe(s *ctl.Service) string {
	d := []string{"pool " + s.LocalPool, "client address " + s.ClientAddress}
	if s.EstablishedSeconds > 0 {
		d = append(d, "established "+seconds(s.EstablishedSeconds))
	}
	if s.PersistenceSeconds > 0 {
		d = append(d, "persistent "+seconds(s.PersistenceSeconds))
	}
	if s.QuorumLost {
		d = append(d, "quorum lost")
	}
	return strings.Join(d, ", ")
}

// note says why a real server gets no new connections.
func note(r *ctl.Server) string {
	switch {
	case r.Health == ctl.HealthDown:
		return "down: " + r.Reason
	case r.Sorry && r.Weight == 0:
		return "sorry server, stands by"
	case r.Sorry:
		return "sorry server, stands in"
	case r.Weight == 0 && r.Configured == 0:
		return "draining"
	case r.Weight == 0:
		return "no new connections"
	case r.Overloaded:
		return fmt.Sprintf("overloaded (upper %d, lower %d)", r.UpperThreshold, r.LowerThreshold)
	}
	return ""
}

// printConnections prints them as they come, also those before an error. The
// error is that of the sequence.
func printConnections(w *bufio.Writer, conns iter.Seq2[ctl.Connection, error]) error {
	t := newTable(w, "Prot", ">Expire", "State", "Client", "Virtual", "Local", "Real", "Service")
	some := false
	for c, err := range conns {
		if err != nil {
			if some {
				t.flush()
			}
			return err
		}
		some = true
		t.row(strings.ToUpper(c.Protocol), clock(c.ExpiresSeconds), c.State,
			c.Client.String(), c.Virtual.String(), c.Local.String(), c.Real.String(), c.Service)
	}
	t.flush()
	return nil
}

func printLocals(w *bufio.Writer, locals []ctl.Local) {
	t := newTable(w, "Pool", "Interface", "Address", "Ports", ">InUse", ">Free", ">Used", ">Conflicts")
	for _, l := range locals {
		t.row(l.Pool, l.Interface, l.Address.String(), fmt.Sprintf("%d-%d", l.PortMin, l.PortMax),
			strconv.Itoa(l.PortsInUse), strconv.Itoa(l.PortsFree),
			percent(float64(l.PortsInUse), float64(l.PortsInUse+l.PortsFree)), count(l.Conflicts))
	}
	t.flush()
}

// printDrops prints the most frequent reason first, and below each what to do.
func printDrops(w *bufio.Writer, drops []ctl.Drop, all bool) {
	if !all {
		drops = slices.DeleteFunc(drops, func(d ctl.Drop) bool { return d.Count == 0 })
	}
	slices.SortStableFunc(drops, func(a, b ctl.Drop) int { return cmp.Compare(b.Count, a.Count) })
	if len(drops) == 0 {
		fmt.Fprintln(w, "no drops")
		return
	}
	t := newTable(w, ">Count", "Reason", "Meaning, and what to do")
	for _, d := range drops {
		t.row(strconv.FormatUint(d.Count, 10), d.Reason, d.Meaning)
		t.row("", "", "-> "+d.Remedy)
	}
	t.flush()
}

func printReload(w *bufio.Writer, done ctl.Reload) {
	fmt.Fprintf(w, "reloaded %s\n", done.ConfigFile)
	if len(done.Changes) == 0 {
		fmt.Fprintln(w, "nothing changed")
	}
	for _, c := range done.Changes {
		fmt.Fprintln(w, c)
	}
}

// printDiff prints each change with the connections that it concerns.
func printDiff(w *bufio.Writer, d *ctl.Diff) {
	if len(d.Changes) == 0 {
		fmt.Fprintf(w, "%s would change nothing\n", d.ConfigFile)
		return
	}
	t := newTable(w, ">Connections", "Change")
	for _, c := range d.Changes {
		t.row(strconv.Itoa(c.Connections), c.What)
		if c.Effect != "" {
			t.row("", "  -> "+c.Effect)
		}
	}
	t.flush()
}

func printDrains(w *bufio.Writer, drains []ctl.Drain, none string) {
	if len(drains) == 0 {
		fmt.Fprintln(w, none)
		return
	}
	t := newTable(w, "Service", "Real", ">Connections", "Reset", "Why")
	for _, d := range drains {
		reset, why := "done", "drained by an operator"
		if d.ResetSeconds > 0 {
			reset = "in " + seconds(math.Ceil(d.ResetSeconds))
		}
		if d.Removed {
			why = "removed from the configuration"
		}
		t.row(d.Service, d.Real.String(), strconv.Itoa(d.Connections), reset, why)
	}
	t.flush()
}

// seconds formats s as a configuration file writes it: 90s, 5m0s.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// clock formats s as minutes and seconds, as ipvsadm -Lnc does.
func clock(s float64) string {
	n := int(max(s, 0))
	return fmt.Sprintf("%02d:%02d", n/60, n%60)
}

func percent(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*part/whole)
}
