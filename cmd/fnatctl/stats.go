package main

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
)

func printStats(w *bufio.Writer, s *ctl.Stats) {
	printProgram(w, s)
	printGuards(w, s.Guards)
	printInterfaces(w, s.Interfaces)
	printWorkers(w, s.Workers)
	printRings(w, s.Workers)
	printFrames(w, s.Workers)
}

func printProgram(w *bufio.Writer, s *ctl.Stats) {
	fmt.Fprintf(w, "fnatd %s, pid %d, up %s\n", s.Version, s.PID, uptime(s.UptimeSeconds))
	fmt.Fprintf(w, "config   %s, read %s\n", s.ConfigFile, s.ConfigLoaded.Format(time.DateTime))
	if s.ReloadError != "" {
		fmt.Fprintf(w, "reload   the last one was refused: %s\n", strings.ReplaceAll(s.ReloadError, "\n", "\n         "))
	}
	t := s.Table
	fmt.Fprintf(w, "table    %d of %d connections (%s), %d half-open, %d templates, %s\n",
		t.Connections, t.Capacity, percent(float64(t.Connections), float64(t.Capacity)),
		t.HalfOpen, t.Templates, memory(t.Bytes))
	c := s.ClientAddresses
	fmt.Fprintf(w, "options  %d inserted, %d without room, %d over MTU, %d forged ones stripped\n",
		c.Inserted, c.NotInserted.NoRoom, c.NotInserted.OverMTU, c.Stripped)
	n := c.Notices
	fmt.Fprintf(w, "notices  %d sent, %d acknowledged, %d resent, %d given up\n",
		n.Sent, n.Acknowledged, n.Resent, n.GivenUp)
	sep := "events   "
	for _, e := range s.Events {
		fmt.Fprintf(w, "%s%s %d", sep, e.Name, e.Count)
		sep = ", "
	}
	if len(s.Events) > 0 {
		fmt.Fprintln(w)
	}
}

// printGuards shows SYNPROXY of the services that have it, or had it.
func printGuards(w *bufio.Writer, guards []ctl.Guard) {
	t := newTable(w, "SYNProxy", "Mode", "Now", "By", ">SYNs", ">Cookies", ">Good", ">Bad", ">InXDP", ">Joined", ">Refused", ">Retried", ">Silent", ">Failed")
	some := false
	for _, g := range guards {
		if g.Mode == "off" && g.Count("syn") == 0 {
			continue
		}
		some = true
		now := "off"
		if g.On {
			now = "on"
		}
		inXDP := "off"
		if g.BadACKs == "xdp" {
			inXDP = count(g.Count("bad_ack_in_xdp"))
		}
		t.row(g.Service, g.Mode, now, g.Answer, count(g.Count("syn")), count(g.Count("cookie_sent")), count(g.Count("good_ack")),
			count(g.Count("bad_ack")), inXDP, count(g.Count("joined")), count(g.Count("refused")), count(g.Count("syn_retried")),
			count(g.Count("silent")), count(g.Count("failed")))
	}
	if some {
		fmt.Fprintln(w)
		t.flush()
	}
}

func printInterfaces(w *bufio.Writer, interfaces []ctl.Interface) {
	fmt.Fprintln(w)
	t := newTable(w, "Interface", "Mode", ">Queues", "Why not faster")
	for _, i := range interfaces {
		t.row(i.Name, i.Mode, strconv.Itoa(i.Queues), i.Reason)
	}
	t.flush()
}

func printWorkers(w *bufio.Writer, workers []ctl.Worker) {
	fmt.Fprintln(w)
	t := newTable(w, ">Worker", ">CPU", ">Idle", ">RxPkts", ">TxPkts", ">RxBytes", ">TxBytes", ">Dropped", ">Batches", ">Mean")
	for _, k := range workers {
		cpu := "any"
		if k.CPU >= 0 {
			cpu = strconv.Itoa(k.CPU)
		}
		t.row(strconv.Itoa(k.ID), cpu, percent(k.IdleShare, 1), count(k.RxPackets), count(k.TxPackets),
			count(k.RxBytes), count(k.TxBytes), count(k.Dropped), count(k.Batches), fmt.Sprintf("%.1f", k.MeanBatch))
	}
	t.flush()
}

func printRings(w *bufio.Writer, workers []ctl.Worker) {
	fmt.Fprintln(w)
	t := newTable(w, ">Worker", "Ring", "Mode", ">RxDropped", ">RxFull", ">FillEmpty", ">RxInvalid", ">TxInvalid", ">TxEmpty", ">KickErrors")
	for _, k := range workers {
		for _, r := range k.Rings {
			t.row(strconv.Itoa(k.ID), fmt.Sprintf("%s/%d", r.Interface, r.Queue), r.Mode,
				count(r.RxDropped), count(r.RxRingFull), count(r.FillRingEmpty),
				count(r.RxInvalid), count(r.TxInvalid), count(r.TxRingEmpty), count(r.KickErrors))
		}
	}
	t.flush()
}

func printFrames(w *bufio.Writer, workers []ctl.Worker) {
	fmt.Fprintln(w)
	t := newTable(w, ">Worker", ">Frames", ">Fill", ">Rx", ">Tx", ">Completion", ">Free", ">Held")
	for _, k := range workers {
		f := k.Frames
		total := f.Fill + f.Rx + f.Tx + f.Completion + f.Free + f.Held
		t.row(strconv.Itoa(k.ID), strconv.Itoa(total), strconv.Itoa(f.Fill), strconv.Itoa(f.Rx), strconv.Itoa(f.Tx),
			strconv.Itoa(f.Completion), strconv.Itoa(f.Free), strconv.Itoa(f.Held))
	}
	t.flush()
}

// uptime formats s as days and a clock.
func uptime(s float64) string {
	n := int(s)
	return fmt.Sprintf("%dd %02d:%02d:%02d", n/86400, n/3600%24, n/60%60, n%60)
}

// memory formats a number of bytes in the largest unit of which it holds one.
func memory(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
