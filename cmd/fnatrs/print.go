package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fnatd/fnatd/realserver"
	"github.com/fnatd/fnatd/realserver/selftest"
)

func columns(to io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(to, 0, 0, 2, ' ', 0) }

// printStatus prints a status for people.
func printStatus(to io.Writer, s *realserver.Status) error {
	w := columns(to)
	fmt.Fprintf(w, "version\t%s\n", s.Version)
	fmt.Fprintf(w, "pid\t%d\n", s.PID)
	fmt.Fprintf(w, "started\t%s\n", s.Started.Format(time.DateTime))
	fmt.Fprintf(w, "cgroup\t%s\n", s.Cgroup)
	fmt.Fprintf(w, "trust\t%s\n", s.Trust.String())
	fmt.Fprintf(w, "kinds\t%s\n", strings.Trim(fmt.Sprint(s.Kinds), "[]"))
	if s.TTM != nil {
		fmt.Fprintf(w, "ttm\tkind %d, length %d\n", s.TTM.Kind, s.TTM.Length)
	}
	fmt.Fprintf(w, "timeouts\ttcp %s, udp %s\n", s.TCPTimeout, s.UDPTimeout)
	fmt.Fprintf(w, "mappings\t%d used, %d noticed, %d handshakes, each of %d\n",
		s.Mappings.Used, s.Mappings.Noticed, s.Mappings.Handshakes, s.Mappings.Capacity)
	fmt.Fprint(w, "\nFEATURE\tKERNEL\tHERE\tWHAT\n")
	for _, f := range s.Features {
		here := "yes"
		switch {
		case f.Missing != "":
			here = "no: " + f.Missing
		case f.Dearer != "":
			here = "yes, in a way that costs more: " + f.Dearer
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, f.Kernel, here, f.What)
	}
	fmt.Fprint(w, "\nPROGRAM\tID\tHOOK\n")
	for _, a := range s.Programs {
		fmt.Fprintf(w, "%s\t%d\t%s\n", a.Program, a.ID, a.Hook)
	}
	fmt.Fprint(w, "\nCOUNTER\tCOUNT\tMEANING\n")
	for _, c := range s.Counters {
		fmt.Fprintf(w, "%s\t%d\t%s\n", c.Name, c.Count, c.Meaning)
	}
	return w.Flush()
}

// printMappings prints mappings for people.
func printMappings(to io.Writer, all []realserver.Mapping) error {
	w := columns(to)
	fmt.Fprint(w, "PROT\tLOCAL\tREAL\tCLIENT\tSTATE\tIDLE\n")
	for _, m := range all {
		client := "ambiguous"
		if m.Client.IsValid() {
			client = m.Client.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", m.Protocol, m.Local, m.Real, client, m.State, m.Idle.Round(time.Second))
	}
	return w.Flush()
}

// printResult prints a line of the self-test.
func printResult(to io.Writer, r selftest.Result) {
	if r.Passed {
		fmt.Fprintf(to, "pass  %s\n", r.Name)
		return
	}
	fmt.Fprintf(to, "FAIL  %s: %s\n", r.Name, r.Reason)
}
