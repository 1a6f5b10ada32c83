// Package cli runs a cobra command as one of fnatd's programs: over an injected
// environment, so that a test is the whole program, and with their exit codes.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// Exit codes of every program.
const (
	OK      = 0
	Failure = 1 // something at run time
	Usage   = 2 // bad arguments or flags
)

// An Exit is the error of a command that has said everything itself: the program
// ends with its code, in silence.
type Exit struct{ Code int }

func (e *Exit) Error() string { return fmt.Sprint("exit code ", e.Code) }

// An Env is what a program takes from the outside.
type Env struct {
	Name           string   // that the program was called by
	Args           []string // without it
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// OSEnv returns the environment of this process.
func OSEnv() Env { return Env{filepath.Base(os.Args[0]), os.Args[1:], os.Stdin, os.Stdout, os.Stderr} }

// Run runs the command that env's arguments name, of which root is the program
// itself, and returns the exit code. Errors are printed in the program's name: what
// came before the command began is bad usage.
func Run(env Env, root *cobra.Command) int {
	began := false
	root.SilenceErrors, root.SilenceUsage = true, true
	// Reached with a command only: cobra has checked its arguments by then.
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { began = cmd.HasParent() }
	root.RunE = func(*cobra.Command, []string) error { return errors.New("no command given") }
	addMan(root)
	root.SetArgs(append([]string{}, env.Args...)) // nil would mean os.Args
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.Execute()
	var exit *Exit
	switch {
	case err == nil:
		return OK
	case errors.As(err, &exit):
		return exit.Code
	case began:
		fmt.Fprintf(env.Stderr, "%s: %v\n", root.Name(), err)
		return Failure
	}
	fmt.Fprintf(env.Stderr, "%s: %v\nsee %s --help\n", root.Name(), err, root.Name())
	return Usage
}
