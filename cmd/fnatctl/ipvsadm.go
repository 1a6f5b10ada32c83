package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/internal/ipvsadm"
)

// ipvsadm is the command ipvsadm, whose options are its own.
func (p *program) ipvsadm() *cobra.Command {
	return &cobra.Command{
		Use: "ipvsadm [OPTIONS]", Short: "List and edit as ipvsadm does", DisableFlagParsing: true,
		Long: "List and edit services as ipvsadm 1.31 does, with its options and those of\n" +
			"LVS-FULLNAT, printed as that prints; \"fnatctl ipvsadm -h\" lists them. Under the\n" +
			"name ipvsadm, fnatctl is this command. What it changes is the running\n" +
			"configuration: a reload goes back to the file.",
		RunE: func(_ *cobra.Command, args []string) error {
			if code := p.speakIPVSADM("ipvsadm", p.ownFlags(args)); code != cli.OK {
				return &cli.Exit{Code: code}
			}
			return nil
		},
	}
}

// ownFlags takes the flags of fnatctl itself, which stand before those of ipvsadm,
// off args: cobra does not look at them where it leaves flags to the command.
func (p *program) ownFlags(args []string) []string {
	for len(args) > 0 {
		value, attached := strings.CutPrefix(args[0], "--socket=")
		switch {
		case attached:
			p.socket, args = value, args[1:]
		case args[0] == "--socket" && len(args) > 1:
			p.socket, args = args[1], args[2:]
		default:
			return args
		}
	}
	return args
}

func (p *program) speakIPVSADM(name string, args []string) int {
	return ipvsadm.Run(context.Background(), ipvsadm.Env{
		Name: name, Args: args,
		Stdin: p.env.Stdin, Stdout: p.env.Stdout, Stderr: p.env.Stderr,
		Version: version,
		Server:  p.client(),
		Names:   new(ipvsadm.System),
	})
}
