package main

import (
	"bufio"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/ctl"
)

func (p *program) upgrade() *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Have another binary take fnatd's place", Args: cobra.NoArgs,
		Long: "Have another binary take fnatd's place, with its connections, sockets and packets;\n" +
			"without --binary the one that lies where fnatd was started from. It reads the\n" +
			"configuration file anew. Should it fail, at whatever step, the old one goes on.",
		RunE: func(*cobra.Command, []string) error {
			o := ctl.UpgradeOrder{}
			if binary != "" {
				path, err := filepath.Abs(binary)
				if err != nil {
					return err
				}
				o.Binary = path
			}
			return p.show(ctl.Post(ctl.PathUpgrade, o), func(ctx context.Context, c *ctl.Client, w *bufio.Writer) error {
				u, err := c.Upgrade(ctx, o)
				if err == nil {
					printUpgrade(w, &u)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&binary, "binary", "", "the `PATH` of the binary")
	return cmd
}

func printUpgrade(w *bufio.Writer, u *ctl.Upgrade) {
	fmt.Fprintf(w, "fnatd %s, pid %d, has taken over from %s; packets waited %v at most\n",
		u.Version, u.PID, u.Before, u.Gap().Round(100*time.Microsecond))
}
