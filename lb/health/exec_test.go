package health

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
)

// script writes a shell script and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestExec(t *testing.T) {
	to := Endpoint{
		AddrPort: netip.MustParseAddrPort("10.0.2.11:8080"), Service: "web", ID: web,
		Real: packet.EndpointFrom(netip.MustParseAddrPort("10.0.2.11:8080")),
	}
	slow := fmt.Sprintf("no full answer within %v", short)
	for name, test := range map[string]struct {
		script  string
		args    []string
		dynamic bool
		limit   time.Duration
		want    string
		result  Result
	}{
		"passes":                         {"exit 0", nil, false, patience, "", Result{}},
		"fails":                          {"exit 1", nil, false, patience, "exit code 1", Result{}},
		"fails_and_says_why":             {"echo; echo '  disk is full '; echo more; exit 2", nil, false, patience, "exit code 2: disk is full", Result{}},
		"gets_its_arguments":             {`[ "$#/$1/$2" = "2/a b/" ]`, []string{"a b", ""}, false, patience, "", Result{}},
		"is_told_whom_it_is_about":       {`[ "$FNATD_SERVICE $FNATD_PROTOCOL $FNATD_VIRTUAL $FNATD_REAL $FNATD_ADDRESS $FNATD_PORT" = "web tcp 203.0.113.10:80 10.0.2.11:8080 10.0.2.11 8080" ]`, nil, false, patience, "", Result{}},
		"has_no_more_of_our_environment": {`[ -z "$FNATD_SECRET" ] && [ -n "$PATH" ]`, nil, false, patience, "", Result{}},
		"dynamic_passes":                 {"exit 0", nil, true, patience, "", Result{}},
		"dynamic_fails":                  {"exit 1", nil, true, patience, "exit code 1", Result{}},
		"dynamic_gives_weight_0":         {"exit 2", nil, true, patience, "", Result{Weighted: true}},
		"dynamic_gives_weight_253":       {"exit 255", nil, true, patience, "", Result{Weighted: true, Weight: 253}},
		"kills_itself":                   {"kill -9 $$", nil, false, patience, "signal: killed", Result{}},
		"hangs":                          {"sleep 1000", nil, false, short, slow, Result{}},
		"hangs_and_takes_no_signal":      {"trap '' TERM INT HUP; while :; do sleep 1; done", nil, false, short, slow, Result{}},
		"floods_its_output":              {"exec yes", nil, false, patience, "printed more than 64 KiB", Result{}},
		"floods_its_errors":              {"exec yes >&2", nil, false, patience, "printed more than 64 KiB", Result{}},
		"prints_no_text":                 {`printf '\377\376\n'; exit 1`, nil, false, patience, "exit code 1: ?", Result{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FNATD_SECRET", "x")
			p := &Exec{Args: append([]string{script(t, test.script)}, test.args...), Dynamic: test.dynamic}
			c := &check{Check: Check{Probe: p, Timing: Timing{Timeout: test.limit}}}
			r, err := c.ask(t.Context(), to)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want || r != test.result {
				t.Errorf("got %q and %+v, want %q and %+v", got, r, test.want, test.result)
			}
		})
	}
	t.Run("does_not_exist", func(t *testing.T) {
		if _, got := ask(t, &Exec{Args: []string{"/nonexistent/check"}}, netip.AddrPort{}, patience); got != "fork/exec /nonexistent/check: no such file or directory" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("by_its_name", func(t *testing.T) {
		t.Setenv("PATH", "")
		if _, got := ask(t, &Exec{Args: []string{"true"}}, netip.AddrPort{}, patience); got != "" {
			t.Errorf("got %q, want it found", got)
		}
		if _, got := ask(t, &Exec{Args: []string{"no-such-program"}}, netip.AddrPort{}, patience); got != "fork/exec /usr/local/sbin/no-such-program: no such file or directory" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("of_an_unknown_user", func(t *testing.T) {
		if _, got := ask(t, &Exec{Args: []string{"/bin/true"}, User: "no such user"}, netip.AddrPort{}, patience); !strings.HasPrefix(got, `user "no such user": `) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("of_another_user", func(t *testing.T) {
		netns.RequireRoot(t)
		p := &Exec{Args: []string{"/bin/sh", "-c", `[ "$(id -un)" = nobody ]`}, User: "nobody"}
		if _, got := ask(t, p, netip.AddrPort{}, patience); got != "" {
			t.Errorf("got %q, want it passed", got)
		}
	})
}

// TestExecLeavesNothingBehind has programs that start others, which hold their
// output open, and end or hang themselves.
func TestExecLeavesNothingBehind(t *testing.T) {
	for name, text := range map[string]string{
		"that_go_on_in_the_background": "sleep 1000 & echo $! >$1; exit 0",
		"while_it_hangs_itself":        "sleep 1000 & echo $! >$1; sleep 1000",
		"that_fork_on":                 "(sleep 1000 & echo $! >$1; sleep 1000) & while [ ! -s $1 ]; do :; done",
		"that_fork_again_and_again":    "for i in 1 2 3 4 5 6 7 8 9; do (sleep 1000 & sleep 1000) & done; sleep 1000 & echo $! >$1; sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				c := &check{Check: Check{Probe: &Exec{Args: []string{script(t, text), pids}}, Timing: Timing{Timeout: patience}}}
				c.ask(ctx, Endpoint{})
			}()
			pid := 0
			for deadline := time.Now().Add(patience); pid == 0; time.Sleep(time.Millisecond) {
				text, _ := os.ReadFile(pids)
				pid, _ = strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
				if time.Now().After(deadline) {
					t.Fatal("the program has started none")
				}
			}
			cancel() // its time is over, if it has not ended by itself
			<-ended
			for deadline := time.Now().Add(patience); alive(pid); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("process %d: still there", pid)
				}
			}
		})
	}
	t.Run("that_leave_the_group_with_the_output", func(t *testing.T) {
		pids := filepath.Join(t.TempDir(), "pid")
		// Out of reach, but not waited for.
		_, got := ask(t, &Exec{Args: []string{script(t, "setsid sh -c 'echo $$ >'$1'; exec sleep 1000' & while [ ! -s $1 ]; do :; done; exit 3"), pids}}, netip.AddrPort{}, patience)
		text, _ := os.ReadFile(pids)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			unix.Kill(pid, unix.SIGKILL)
		}
		if got != "exit code 3" {
			t.Errorf("got %q, want exit code 3", got)
		}
	})
}

// TestExecWaitsForItsTurn has more programs than may run at a time, of which none
// fails because it had to wait.
func TestExecWaitsForItsTurn(t *testing.T) {
	const all = maxChecks + 20
	slow := script(t, "sleep 0.3")
	errs := make(chan string, all)
	for range all {
		go func() {
			c := &check{Check: Check{Probe: &Exec{Args: []string{slow}}, Timing: Timing{Timeout: patience}}}
			_, err := c.ask(t.Context(), Endpoint{})
			errs <- fmt.Sprint(err)
		}()
	}
	for range all {
		if got := <-errs; got != "<nil>" {
			t.Errorf("got %s, want it passed", got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	for range maxChecks { // others run
		turns <- struct{}{}
		defer func() { <-turns }()
	}
	cancel()
	c := &check{Check: Check{Probe: &Exec{Args: []string{slow}}, Timing: Timing{Timeout: patience}}}
	if _, err := c.ask(ctx, Endpoint{}); err != context.Canceled {
		t.Errorf("ended while it waits: got %v, want %v", err, context.Canceled)
	}
}

// alive reports whether a process runs: a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
