package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/internal/ctl"
)

// A program is one run: the global flags and what the commands share.
type program struct {
	env    cli.Env
	socket string
	json   bool
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{Use: "fnatctl", Short: "Look at and steer a running fnatd"}
	root.PersistentFlags().StringVar(&p.socket, "socket", defaultSocket(), "control socket of fnatd; $"+socketVariable+" sets another default")
	root.PersistentFlags().BoolVar(&p.json, "json", false, "print the answer as JSON")
	root.AddCommand(p.services(), p.connections(), p.locals(), p.stats(), p.status(), p.drops(), p.health(),
		p.reload(), p.stop(), p.upgrade(), p.diff(), p.drain(), p.explain(), p.top(), p.ipvsadm(), p.importFile(), p.version())
	return root
}

// socketVariable names another control socket, for programs that cannot say
// --socket, as scripts that call ipvsadm.
const socketVariable = "FNATCTL_SOCKET"

func defaultSocket() string { return cmp.Or(os.Getenv(socketVariable), ctl.DefaultSocket) }

func (p *program) client() *ctl.Client { return ctl.NewClient(p.socket) }

// ask returns a command that prints the answer to a question as JSON if --json
// asks for it, and as human prints it otherwise.
func (p *program) ask(use, short string, q ctl.Question, human func(context.Context, *ctl.Client, *bufio.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return p.show(q, human)
		},
	}
}

// show prints the answer to q as JSON, or as human prints it.
func (p *program) show(q ctl.Question, human func(context.Context, *ctl.Client, *bufio.Writer) error) error {
	if p.json {
		return p.client().Copy(context.Background(), p.env.Stdout, q)
	}
	return p.print(human)
}

// print calls human with a buffered standard output.
func (p *program) print(human func(context.Context, *ctl.Client, *bufio.Writer) error) error {
	w := bufio.NewWriter(p.env.Stdout)
	err := human(context.Background(), p.client(), w)
	return errors.Join(err, w.Flush())
}

func (p *program) services() *cobra.Command {
	var traffic bool
	cmd := p.ask("services", "List services and their real servers", ctl.Get(ctl.PathServices),
		func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
			services, err := c.Services(ctx)
			if err == nil {
				printServices(w, services, traffic)
			}
			return err
		})
	cmd.Flags().BoolVar(&traffic, "stats", false, "show connections, packets and bytes since the start")
	return cmd
}

func (p *program) connections() *cobra.Command {
	var f ctl.Filter
	cmd := &cobra.Command{
		Use: "connections", Short: "List connections", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return p.show(ctl.Get(ctl.ConnectionsPath(f)), func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
				err := printConnections(w, c.Connections(ctx, f))
				if errors.Is(err, ctl.ErrMore) {
					fmt.Fprintf(p.env.Stderr, "fnatctl: there are more than the %d of --limit\n", f.Limit)
					return nil
				}
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Service, "service", "", "only of the service `NAME`")
	flags.Var((*clientFlag)(&f.Client), "client", "only of this client `ADDRESS` or network")
	flags.Var((*stateFlag)(&f.State), "state", "only in this `STATE`, such as ESTABLISHED")
	flags.Var((*limitFlag)(&f.Limit), "limit", "at most `N`; 0 is all")
	// They fail only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("service", p.completeService)
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(ctl.States[:], cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// completeService offers the names of the services of a running fnatd.
func (p *program) completeService(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	services, _ := p.client().Services(context.Background()) // no fnatd, no names
	for _, s := range services {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (p *program) locals() *cobra.Command {
	return p.ask("locals", "List local addresses and the state of their ports", ctl.Get(ctl.PathLocals),
		func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
			locals, err := c.Locals(ctx)
			if err == nil {
				printLocals(w, locals)
			}
			return err
		})
}

func (p *program) stats() *cobra.Command {
	return p.ask("stats", "Show the connection table, interfaces and workers", ctl.Get(ctl.PathStats),
		func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
			stats, err := c.Stats(ctx)
			if err == nil {
				printStats(w, &stats)
			}
			return err
		})
}

func (p *program) drops() *cobra.Command {
	var all bool
	cmd := p.ask("drops", "Show why packets were dropped and what to do about it", ctl.Get(ctl.PathDrops),
		func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
			drops, err := c.Drops(ctx)
			if err == nil {
				printDrops(w, drops, all)
			}
			return err
		})
	cmd.Flags().BoolVar(&all, "all", false, "also reasons that never occurred")
	return cmd
}

func (p *program) health() *cobra.Command {
	var all bool
	cmd := p.ask("health", "Show which real servers are up, and why not", ctl.Get(ctl.PathHealth),
		func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
			services, err := c.Health(ctx)
			if err == nil {
				printHealth(w, services, all, time.Now())
			}
			return err
		})
	cmd.Flags().BoolVar(&all, "checks", false, "also each check, with what it last found")
	return cmd
}

func (p *program) reload() *cobra.Command {
	return p.ask("reload", "Have fnatd read its configuration file again", ctl.Post(ctl.PathReload, nil),
		func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
			done, err := c.Reload(ctx)
			if err == nil {
				printReload(w, done)
			}
			return err
		})
}

func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of fnatctl; stats shows that of fnatd", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if p.json {
				return json.NewEncoder(p.env.Stdout).Encode(map[string]string{"version": version})
			}
			_, err := fmt.Fprintln(p.env.Stdout, "fnatctl", version)
			return err
		},
	}
}

// A clientFlag is a flag whose value is an address or a network.
type clientFlag netip.Prefix

func (f *clientFlag) Type() string { return "client" }

func (f *clientFlag) String() string {
	if p := netip.Prefix(*f); p.IsValid() {
		return p.String()
	}
	return ""
}

func (f *clientFlag) Set(s string) error {
	p, err := ctl.ParseClient(s)
	*f = clientFlag(p)
	return err
}

// A stateFlag is a flag whose value is the state of a connection.
type stateFlag string

func (f *stateFlag) Type() string   { return "state" }
func (f *stateFlag) String() string { return string(*f) }

func (f *stateFlag) Set(s string) error {
	state, err := ctl.ParseState(s)
	*f = stateFlag(state)
	return err
}

// A limitFlag is a flag whose value is a number of 0 or more.
type limitFlag int

func (f *limitFlag) Type() string   { return "int" }
func (f *limitFlag) String() string { return fmt.Sprint(int(*f)) }

func (f *limitFlag) Set(s string) error {
	n, err := ctl.ParseLimit(s)
	*f = limitFlag(n)
	return err
}
