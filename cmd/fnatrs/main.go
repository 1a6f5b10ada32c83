// Fnatrs shows the servers of a machine the clients behind the balancer.
package main

import (
	"fmt"
	"io"
	"os"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// version is set by the linker; see the Makefile.
var version = "unknown"

// An environment is what the program takes from the outside.
type environment struct {
	args           []string // without the program's name
	stdout, stderr io.Writer
}

func main() {
	os.Exit(run(environment{os.Args[1:], os.Stdout, os.Stderr}))
}

// run runs one command and returns the exit code.
func run(env environment) int {
	p := &program{env: env}
	root := p.root()
	root.SetArgs(append([]string{}, env.args...)) // nil would mean os.Args
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	err := root.Execute()
	switch {
	case err == nil:
		return exitOK
	case p.started:
		fmt.Fprintf(env.stderr, "fnatrs: %v\n", err)
		return exitFailure
	}
	fmt.Fprintf(env.stderr, "fnatrs: %v\nsee fnatrs --help\n", err)
	return exitUsage
}
