package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/cli"
)

// openPTY returns both ends of a pseudo-terminal of 100 columns and 12 lines.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 100}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestTopOnATerminal watches on a real one, scrolls and quits, and finds the
// terminal as it was.
func TestTopOnATerminal(t *testing.T) {
	socket := serve(t, &fakeBackend{})
	master, slave := openPTY(t)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	code := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		code <- run(cli.Env{Args: []string{"--socket", socket, "top"}, Stdin: slave, Stdout: slave, Stderr: &errs})
	}()

	var seen strings.Builder
	read := make(chan string)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			read <- string(buf[:n])
		}
	}()
	until := func(what string) {
		t.Helper()
		for deadline := time.After(30 * time.Second); !strings.Contains(seen.String(), what); {
			select {
			case s := <-read:
				seen.WriteString(s)
			case <-deadline:
				t.Fatalf("never %q in %q", what, seen.String())
			}
		}
	}
	until("rows 1 to 4 of 5")
	if !strings.HasPrefix(seen.String(), enterScreen+home) {
		t.Errorf("got %.40q, want the other screen first", seen.String())
	}
	fmt.Fprint(master, "\x1b[B")
	until("rows 2 to 5 of 5")
	fmt.Fprint(master, "q")
	until(leaveScreen)
	if got := <-code; got != cli.OK || errs.Len() > 0 {
		t.Errorf("got exit code %d and %s", got, errs.String())
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %+v, before %+v, %v", after, before, err)
	}
}
