//go:build man

package cli

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// addMan gives a program that is built to make its manual the command that does:
// "man DIRECTORY" writes a page for each command, from what --help prints.
func addMan(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use: "man", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true                  // no date of the day in a page
			root.CompletionOptions.HiddenDefaultCmd = true // nor a page for each shell
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "fnatd", Manual: "fnatd"}, args[0])
		},
	})
}
