// Command fnatd is the balancer. See the README for its configuration.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/fnatd/fnatd/internal/daemon"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something at run time
	exitUsage  = 2 // bad flags or a bad configuration
)

func main() {
	// Else a crash in Go, and systemd's SIGABRT to one that is stuck, would exit with 2
	// as a bad configuration does, after which the unit is not started again. This
	// way it is a signal, and the stacks of all threads are printed first.
	debug.SetTraceback("crash")
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main over an injected environment; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fnatd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("c", "", "read the configuration from `FILE`")
	check := flags.Bool("t", false, "check the configuration, print what it would use, and exit")
	showVersion := flags.Bool("version", false, "print the version and exit")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: fnatd -c FILE [-t]\n\nfnatd runs in the foreground. SIGHUP reloads FILE, SIGTERM stops cleanly.")
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case *showVersion:
		fmt.Fprintln(stdout, "fnatd", version)
		return exitOK
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "fnatd: unexpected argument %q (the configuration file goes with -c)\n", flags.Arg(0))
		return exitUsage
	case *file == "":
		fmt.Fprintln(stderr, "fnatd: no configuration: say fnatd -c FILE")
		return exitUsage
	}

	var err error
	if *check {
		err = daemon.Check(*file, stdout)
	} else {
		err = serve(*file, stderr)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, daemon.ErrConfig):
		fmt.Fprintln(stderr, err)
		return exitUsage
	default:
		fmt.Fprintln(stderr, "fnatd:", err)
		return exitFailed
	}
}

// serve runs the balancer until SIGTERM or SIGINT.
func serve(file string, stderr io.Writer) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	log := slog.New(slog.NewTextHandler(stderr, nil))
	slog.SetDefault(log) // of what the control socket and the metrics have to say
	return daemon.Run(ctx, daemon.Options{
		ConfigFile: file,
		Version:    version,
		Reload:     reload,
		State:      passed(daemon.StateVariable),
		Heir:       passed(daemon.HeirVariable),
		Log:        log,
	})
}

// passed returns the file whose descriptor an environment variable names, or nil. The
// variable is for this process alone.
func passed(variable string) *os.File {
	fd, err := strconv.ParseUint(os.Getenv(variable), 10, 31)
	os.Unsetenv(variable)
	if err != nil {
		return nil
	}
	syscall.CloseOnExec(int(fd))
	return os.NewFile(uintptr(fd), variable)
}
