// Fnatctl looks at and steers a running fnatd over its control socket.
package main

import (
	"os"

	"github.com/fnatd/fnatd/internal/cli"
)

// version is set by the linker; see the Makefile.
var version = "unknown"

func main() { os.Exit(run(cli.OSEnv())) }

// run runs one command and returns the exit code. Called as ipvsadm, it is that.
func run(env cli.Env) int {
	p := &program{env: env}
	if env.Name == "ipvsadm" {
		p.socket = defaultSocket()
		return p.speakIPVSADM(env.Name, env.Args)
	}
	return cli.Run(env, p.root())
}
