package main

import (
	"bufio"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/ctl"
)

// stop is the command stop.
func (p *program) stop() *cobra.Command {
	var o ctl.StopOrder
	cmd := &cobra.Command{
		Use: "stop", Short: "Have fnatd stop cleanly", Args: cobra.NoArgs,
		Long: "Have fnatd stop cleanly, as SIGTERM does: it takes its program and addresses off\n" +
			"the interfaces. Its connections stay in the state file, and the next fnatd goes\n" +
			"on with them, unless --forget removes it. This returns when fnatd begins to stop.",
		RunE: func(*cobra.Command, []string) error {
			return p.show(ctl.Post(ctl.PathStop, o), func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
				s, err := c.Stop(ctx, o)
				if err == nil {
					printStopping(w, &s)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&o.Forget, "forget", false, "remove the state: the next fnatd begins with an empty table")
	return cmd
}

func printStopping(w *bufio.Writer, s *ctl.Stopping) {
	fmt.Fprintf(w, "fnatd, pid %d, stops with %s; ", s.PID, counted(s.Connections, "connection"))
	if s.State == "" {
		fmt.Fprintln(w, "the next one begins with none")
		return
	}
	fmt.Fprintf(w, "the next one finds them in %s\n", s.State)
}
