package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/config/keepalived"
	"github.com/fnatd/fnatd/internal/ctl"
)

// diff is the command diff. It reads the file itself, so that it needs no more
// than the operator may read, and fnatd may run elsewhere in the file system.
func (p *program) diff() *cobra.Command {
	return &cobra.Command{
		Use: "diff [FILE]", Short: "Show what a reload would change, and how many connections that concerns", Args: cobra.MaximumNArgs(1),
		Long: "Show what would change if FILE were the configuration, and how many live\n" +
			"connections each change concerns. Without FILE it is fnatd's own, as reload\n" +
			"would read it. Nothing is changed.",
		RunE: func(_ *cobra.Command, args []string) error {
			var name string
			var toml []byte
			if len(args) == 1 {
				var err error
				if name = args[0]; name == "" {
					return errors.New("file \"\": no name")
				}
				if toml, err = p.readTOML(name); err != nil {
					return err
				}
			}
			return p.show(ctl.DiffQuestion(name, toml), func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
				d, err := c.Diff(ctx, name, toml)
				if err == nil {
					printDiff(w, &d)
				}
				return err
			})
		},
	}
}

// readTOML reads a configuration as fnatd does, by its ending.
func (p *program) readTOML(name string) ([]byte, error) {
	if filepath.Ext(name) != ".conf" {
		return os.ReadFile(name)
	}
	in, err := keepalived.Load(name, keepalived.Options{})
	for _, n := range in.Notes {
		fmt.Fprintln(p.env.Stderr, n)
	}
	return in.TOML, err
}

// drain is the command drain.
func (p *program) drain() *cobra.Command {
	var o ctl.DrainOrder
	var after time.Duration
	cmd := &cobra.Command{
		Use: "drain [SERVER]", Short: "Take a real server out of use, or list those that are", Args: cobra.MaximumNArgs(1),
		Long: "Give a real server no new connections, and reset what is left of the old ones\n" +
			"after a time. SERVER is an address and port, or an address for all its ports.\n" +
			"This holds until --undo, over reloads too. Without SERVER: list what is drained.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if cmd.Flags().Changed("undo") || cmd.Flags().Changed("service") || cmd.Flags().Changed("for") {
					return errors.New("which server? fnatctl drain SERVER")
				}
				return p.show(ctl.Get(ctl.PathDrain), func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
					drains, err := c.Drains(ctx)
					if err == nil {
						printDrains(w, drains, "nothing is drained")
					}
					return err
				})
			}
			o.Server = args[0]
			if cmd.Flags().Changed("for") {
				seconds := after.Seconds()
				o.Seconds = &seconds
			}
			return p.show(ctl.Post(ctl.PathDrain, o), func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
				drains, err := c.Drain(ctx, o)
				if err == nil {
					printDrains(w, drains, o.Server+" is in use again")
				}
				return err
			})
		},
		ValidArgsFunction: p.completeServer,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Service, "service", "", "only as the service `NAME` uses it")
	flags.DurationVar(&after, "for", 0, "reset the connections after this `TIME`; without it each service's drain")
	flags.BoolVar(&o.Undo, "undo", false, "use the server again")
	_ = cmd.RegisterFlagCompletionFunc("service", p.completeService)
	return cmd
}

// completeServer offers the real servers of a running fnatd.
func (p *program) completeServer(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var servers []string
	services, _ := p.client().Services(context.Background()) // no fnatd, no servers
	for _, s := range services {
		for _, r := range s.Servers {
			servers = append(servers, r.Real.String())
		}
	}
	return servers, cobra.ShellCompDirectiveNoFileComp
}
