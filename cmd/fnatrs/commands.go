package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/realserver"
	"github.com/fnatd/fnatd/realserver/selftest"
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
accept, getpeername, recvmsg and getsockopt, without a kernel module. What is
sent to such a client of a UDP server goes back to the balancer.

The balancer must tell a client's address: by a TCP option, and by a notice
ahead of a UDP flow. In fnatd that is client_address = "toa" (or "ttm") and
"icmp-echo", its defaults.`,
	}
	root.PersistentFlags().StringVar(&p.socket, "socket", realserver.DefaultSocket, "control socket of fnatrs")
	root.AddCommand(p.run(), p.status(), p.mappings(), p.selftest(), p.version())
	return root
}

func (p *program) run() *cobra.Command {
	o := realserver.Options{Kinds: realserver.DefaultKinds, Version: version}
	cmd := &cobra.Command{
		Use: "run --trust PREFIX[,PREFIX]", Short: "Show clients to servers until SIGTERM",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := o.Check(); err != nil {
				return err
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
	flags.Uint8Var(&o.TTM.Kind, "ttm-kind", 0, "read the option of kgwttm, too, which has this kind (default none)")
	flags.Uint8Var(&o.TTM.Length, "ttm-length", realserver.DefaultTTM, "and this length")
	flags.StringVar(&o.Cgroup, "cgroup", "", "serve the servers of this cgroup and those below it (default the root of the v2 tree)")
	flags.StringSliceVar(&o.Interfaces, "interface", nil, "read UDP notices at ingress of these interfaces, also what is forwarded to containers; needs Linux 6.6 (default those that this host receives itself)")
	flags.BoolVar(&o.NoUDP, "no-udp", false, "leave UDP servers alone: they see the balancer, and their calls cost what they did")
	flags.BoolVar(&o.NoSYN, "no-syn", false, "read no client addresses from SYNs: the balancer has them on the ACK, too, as fnatd does")
	flags.DurationVar(&o.TCPTimeout, "tcp-timeout", realserver.DefaultTCPTimeout, "forget what a SYN or a notice has told of a connection that is not made")
	flags.DurationVar(&o.UDPTimeout, "udp-timeout", realserver.DefaultUDPTimeout, "forget the client of a UDP flow that is not heard of")
	flags.Uint32Var(&o.MaxMappings, "max-mappings", realserver.DefaultMaxMappings, "UDP flows to know at most; the least recently used goes first")
	flags.StringVar(&o.Metrics, "metrics", realserver.DefaultMetrics, "where Prometheus finds /metrics; \"\" turns it off")
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

func (p *program) mappings() *cobra.Command {
	cmd := &cobra.Command{
		Use: "mappings", Short: "Show the clients of UDP flows that a running fnatrs knows", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := realserver.AskMappings(p.socket)
			if err != nil {
				return err
			}
			if p.json {
				return json.NewEncoder(p.env.Stdout).Encode(all)
			}
			return printMappings(p.env.Stdout, all)
		},
	}
	p.jsonFlag(cmd)
	return cmd
}

func (p *program) selftest() *cobra.Command {
	cmd := &cobra.Command{
		Use: "selftest", Short: "Check on this machine what works, in namespaces of its own", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all := []selftest.Result{}
			failed := 0
			err := selftest.Run(func(r selftest.Result) {
				all = append(all, r)
				if !r.Passed {
					failed++
				}
				if !p.json {
					printResult(p.env.Stdout, r)
				}
			})
			if p.json {
				err = errors.Join(err, json.NewEncoder(p.env.Stdout).Encode(all))
			}
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d of %d checks failed", failed, len(all))
			}
			return err
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
