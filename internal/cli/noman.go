//go:build !man

package cli

import "github.com/spf13/cobra"

// addMan does nothing: only the programs that are built with the tag man, to write
// the manual, carry what makes pages.
func addMan(*cobra.Command) {}
