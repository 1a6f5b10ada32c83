package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/ctl"
)

// explain is the command explain.
func (p *program) explain() *cobra.Command {
	return &cobra.Command{
		Use: "explain PROTOCOL CLIENT:PORT VIP:PORT", Short: "Say what has become of a flow, or would", Args: cobra.ExactArgs(3),
		Long: "Say what has become of the packets that a client sends to a virtual address, or\n" +
			"what would become of the first: service, real server and why that one, local\n" +
			"address, queue, next hops, and why a packet was dropped last.",
		Example: "fnatctl explain tcp 198.51.100.7:40000 203.0.113.10:80",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := ctl.ParseFlow(strings.ToLower(args[0]), args[1], args[2])
			if err != nil {
				return err
			}
			return p.show(ctl.Get(ctl.ExplainPath(f)), func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
				e, err := c.Explain(ctx, f)
				if err == nil {
					printExplanation(w, &e)
				}
				return err
			})
		},
		ValidArgsFunction: p.completeFlow,
	}
}

// verdicts are what follows a flow.
var verdicts = map[ctl.Verdict]string{
	ctl.Forwarded:      "is forwarded",
	ctl.WouldForward:   "would be forwarded",
	ctl.WouldDrop:      "would be dropped",
	ctl.WouldNotArrive: "is no service of fnatd's",
}

func printExplanation(w *bufio.Writer, e *ctl.Explanation) {
	fmt.Fprintf(w, "%s %s -> %s %s", e.Protocol, e.Client, e.Virtual, verdicts[e.Verdict])
	if e.Reason != "" {
		fmt.Fprintf(w, ": %s", e.Reason)
	}
	fmt.Fprintln(w)
	for _, s := range e.Steps {
		fmt.Fprintf(w, "%-14s %s\n", s.What, s.Text)
	}
	if e.Reason != "" {
		d := ctl.NewDrop(e.Reason, 0)
		fmt.Fprintf(w, "%-14s %s\n%-14s -> %s\n", "why", d.Meaning, "", d.Remedy)
	}
	if d := e.LastDrop; d != nil {
		fmt.Fprintf(w, "%-14s %s, %s ago: %s\n%-14s -> %s\n", "last drop", d.Reason, seconds(d.AgoSeconds), d.Meaning, "", d.Remedy)
	}
}

// completeFlow offers protocols, and the virtual addresses of a running fnatd.
func (p *program) completeFlow(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var words []string
	switch len(args) {
	case 0:
		words = []string{"tcp", "udp"}
	case 2:
		services, _ := p.client().Services(context.Background()) // no fnatd, no services
		for _, s := range services {
			if s.Protocol == args[0] {
				words = append(words, s.Virtual.String())
			}
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
