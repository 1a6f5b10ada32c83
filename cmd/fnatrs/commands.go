package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/realserver"
)

// A program is one run: the global flags and what the commands share.
type program struct {
	env    cli.Env
	socket string
	json   bool
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "fnatrs",
		Short: "Show the servers of this machine the clients behind the balancer",
		Long: `fnatrs shows the servers of this machine the clients behind the balancer, in
accept, getpeername and getsockopt, without a kernel module. The balancer must
tell a client's address by a TCP option: client_address = "toa" in fnatd.

TCP only: UDP servers see the balancer's local address.`,
	}
	root.PersistentFlags().StringVar(&p.socket, "socket", realserver.DefaultSocket, "control socket of fnatrs")
	root.AddCommand(p.run(), p.status(), p.version())
	return root
}

func (p *program) run() *cobra.Command {
	o := realserver.Options{Kinds: realserver.DefaultKinds, Version: version}
	cmd := &cobra.Command{
		Use: "run --trust PREFIX[,PREFIX]", Short: "Show clients to TCP servers until SIGTERM",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(o.Trust) == 0 {
				return errors.New("--trust is missing: name the networks of the balancer's local addresses, as --trust 10.0.1.0/24")
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(*cobra.Command, []string) error {
			o.Socket, o.Log = p.socket, slog.New(slog.NewTextHandler(p.env.Stderr, nil))
			ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer cancel()
			return realserver.Run(ctx, o)
		},
	}
	flags := cmd.Flags()
	flags.Var(&o.Trust, "trust", "believe client addresses only from these networks, those of the balancer's local addresses; required")
	flags.Var(&o.Kinds, "kinds", "TCP options to read, by kind")
	flags.StringVar(&o.Cgroup, "cgroup", "", "serve the servers of this cgroup and those below it (default the root of the v2 tree)")
	return cmd
}

func (p *program) status() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Show what a running fnatrs is attached to, and its counters", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := realserver.Ask(p.socket)
			if err != nil {
				return err
			}
			if p.json {
				return json.NewEncoder(p.env.Stdout).Encode(s)
			}
			return printStatus(p.env.Stdout, s)
		},
	}
	p.jsonFlag(cmd)
	return cmd
}

func (p *program) version() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if p.json {
				return json.NewEncoder(p.env.Stdout).Encode(map[string]string{"version": version})
			}
			_, err := fmt.Fprintln(p.env.Stdout, "fnatrs", version)
			return err
		},
	}
	p.jsonFlag(cmd)
	return cmd
}

func (p *program) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.json, "json", false, "print the answer as JSON")
}

// printStatus prints a status for people.
func printStatus(to io.Writer, s *realserver.Status) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "version\t%s\n", s.Version)
	fmt.Fprintf(w, "pid\t%d\n", s.PID)
	fmt.Fprintf(w, "started\t%s\n", s.Started.Format(time.DateTime))
	fmt.Fprintf(w, "cgroup\t%s\n", s.Cgroup)
	fmt.Fprintf(w, "trust\t%s\n", s.Trust.String())
	fmt.Fprintf(w, "kinds\t%s\n", strings.Trim(fmt.Sprint(s.Kinds), "[]"))
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
