// Fnatrs shows the servers of a machine the clients behind the balancer.
package main

import (
	"os"

	"github.com/fnatd/fnatd/internal/cli"
)

// version is set by the linker; see the Makefile.
var version = "unknown"

func main() { os.Exit(run(cli.OSEnv())) }

// run runs one command and returns the exit code.
func run(env cli.Env) int {
	p := &program{env: env}
	return cli.Run(env, p.root())
}
