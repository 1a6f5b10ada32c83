package health

import (
	"context"
	"fmt"
	"strings"
)

// Exec is the check that a program ends with exit code 0, as the plugins of
// monitoring systems do. What it is asked about stands in its environment:
// FNATD_ADDRESS, FNATD_PORT and others.
type Exec struct {
	Args    []string
	User    string
	Dynamic bool // as MISC_CHECK of keepalived: a code from 2 is the weight plus 2
}

// maxChecks is how many programs of checks run at a time: our choice, as each
// costs a thread and a process.
const maxChecks = 64

var turns = make(chan struct{}, maxChecks)

func (e *Exec) begin(ctx context.Context) bool {
	select {
	case turns <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (e *Exec) end() { <-turns }

func (e *Exec) String() string { return "exec " + strings.Join(e.Args, " ") }

// Exit codes of a dynamic check.
const (
	exitPassed     = 0
	exitFailed     = 1
	exitWeightZero = 2 // and above: so much more is the weight
	exitMaxDynamic = 255
)

// Probe implements Probe.
func (e *Exec) Probe(ctx context.Context, to Endpoint) (Result, error) {
	c := Command{Args: e.Args, User: e.User, Env: to.environ()}
	code, said, err := c.Run(ctx)
	switch {
	case err != nil:
		return Result{}, err
	case code == exitPassed:
		return Result{}, nil
	case e.Dynamic && code >= exitWeightZero:
		return Result{Weighted: true, Weight: code - exitWeightZero}, nil
	case said != "":
		return Result{}, fmt.Errorf("exit code %d: %s", code, said)
	}
	return Result{}, fmt.Errorf("exit code %d", code)
}
