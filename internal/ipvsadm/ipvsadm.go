// Package ipvsadm is the command of the same name for fnatd: it takes the
// arguments of ipvsadm 1.31, and those that LVS-FULLNAT added, and prints what
// that would, byte for byte. What it lists and changes is fnatd's, over the
// control socket. It holds no state and knows nothing of packets.
//
// What fnatd has not is refused with a word why: firewall marks, SCTP, other ways
// of forwarding than FULLNAT, one-packet scheduling, persistence engines, the
// synchronisation daemon.
package ipvsadm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/fnatd/fnatd/internal/ctl"
)

// Exit codes.
const (
	exitOK      = 0
	exitMissing = 1   // a list of a service that is not there
	exitUsage   = 2   // bad options
	exitRefused = 255 // what the kernel says no to there, and fnatd here
)

// A Server is who knows and changes what ipvsadm is about: a *ctl.Client.
type Server interface {
	Services(context.Context) ([]ctl.Service, error)
	Locals(context.Context) ([]ctl.Local, error)
	Stats(context.Context) (ctl.Stats, error)
	Connections(context.Context, ctl.Filter) iter.Seq2[ctl.Connection, error]
	Edit(context.Context, []ctl.Edit) (ctl.Edited, error)
}

// An Env is what the command takes from the outside.
type Env struct {
	Name           string   // what it was called as, for messages
	Args           []string // without the name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Version        string // of fnatctl
	Server         Server
	Names          Names // of addresses and ports, for lists without -n
}

// Run runs the command and returns its exit code.
func Run(ctx context.Context, env Env) int {
	out := bufio.NewWriter(env.Stdout)
	p := &program{Env: env, ctx: ctx, out: out}
	err := p.run(env.Args)
	if flushed := out.Flush(); err == nil && flushed != nil {
		err = &failure{exitMissing, flushed.Error()}
	}
	if err == nil {
		return exitOK
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{exitRefused, err.Error()}
	}
	if f.text != "" {
		fmt.Fprintln(env.Stderr, f.text)
	}
	return f.code
}

// A failure ends the command with a code, and a line on standard error unless the
// text is empty.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

// usage returns a failure of the options.
func usage(format string, args ...any) error {
	return &failure{exitUsage, fmt.Sprintf(format, args...)}
}

// A program is one run of the command.
type program struct {
	Env
	ctx context.Context
	out *bufio.Writer
}

func (p *program) run(args []string) error {
	if len(args) == 0 {
		return p.list(&request{command: list})
	}
	r, err := p.parse(args)
	if err != nil {
		return err
	}
	switch r.command {
	case help:
		return p.help()
	case version:
		fmt.Fprintf(p.out, "ipvsadm v1.31, spoken by fnatctl %s\n", p.Version)
		return nil
	case list:
		return p.list(r)
	case getLocals:
		return p.getLocals(r)
	case save:
		return p.save(r)
	case restore:
		return p.restore()
	}
	e, err := r.edit()
	if err != nil {
		return err
	}
	return p.edit(e)
}

func (p *program) help() error {
	fmt.Fprintf(p.out, `fnatctl %s as ipvsadm 1.31

  -A|-E -t|-u VIP:PORT [-s SCHEDULER] [-p [SECONDS]] [-M MASK] [-b FLAGS] [-V SECONDS]
  -D    -t|-u VIP:PORT
  -a|-e -t|-u VIP:PORT -r RIP[:PORT] [-b] [-w WEIGHT] [-x UPPER] [-y LOWER]
  -d    -t|-u VIP:PORT -r RIP[:PORT]
  -P|-Q -t|-u VIP:PORT -z LIP
  -G    [-t|-u VIP:PORT] [-n]
  -L|-l [-t|-u VIP:PORT] [-n] [--stats|--rate|--thresholds] [--exact] [--nosort]
  -L -c [-n], -L --timeout
  -Z    [-t|-u VIP:PORT]
  -C, -S [-n], -R

What is changed is the running configuration; a reload goes back to the file.
`, p.Version)
	return nil
}
