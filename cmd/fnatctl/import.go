package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/config/keepalived"
)

// importFile is the command import, which needs no running fnatd.
func (p *program) importFile() *cobra.Command {
	var options keepalived.Options
	var output string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Make a configuration for fnatd of a keepalived.conf", Args: cobra.ExactArgs(1),
		Long: "Make a configuration for fnatd of a keepalived.conf. What has no counterpart\n" +
			"is named on standard error; what would be forwarded differently is an error.",
		RunE: func(_ *cobra.Command, args []string) error {
			in, err := keepalived.Load(args[0], options)
			if p.json && err == nil && output == "" {
				return json.NewEncoder(p.env.Stdout).Encode(map[string]any{"toml": string(in.TOML), "notes": in.Notes})
			}
			for _, n := range in.Notes {
				fmt.Fprintln(p.env.Stderr, n)
			}
			if err != nil {
				return fmt.Errorf("nothing imported:\n%w", err)
			}
			return p.deliver(output, in.TOML)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "", "write to `FILE`, replacing it, and not to standard output")
	flags.StringVar(&options.LocalPool, "local-pool", "", "local addresses for services whose group the file does not name: `RANGES` as 10.9.0.1-10.9.0.4,fd00::9")
	flags.StringVar(&options.Interface, "interface", "", "put all addresses on the interface `NAME`")
	flags.BoolVar(&options.Convert, "convert", false, "make FULLNAT of DR and TUN, too")
	flags.StringVar(&options.ConfigID, "config-id", "", "read the lines with @`ID`, not those of this host's name")
	return cmd
}

// deliver writes data to a file, or to standard output if it has no name. The
// file is there as a whole or not at all.
func (p *program) deliver(name string, data []byte) error {
	if name == "" {
		_, err := p.env.Stdout.Write(data)
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".fnatctl-")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
