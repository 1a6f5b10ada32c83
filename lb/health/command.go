package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Our choices. A plugin prints a line; what prints more than this is broken, and
// gets SIGPIPE. What a program has started and left behind with its output open
// is not waited for longer than the grace.
const (
	maxOutput = 64 << 10 // bytes
	grace     = 500 * time.Millisecond
)

// A Command is a program to run: of a check, or at a transition.
type Command struct {
	Args []string // the program's name or absolute path, and its arguments
	User string   // whose it runs as; "": fnatd's own
	Env  []string // besides PATH
}

// Run runs c and returns its exit code and the first line that it printed. It has
// a process group of its own, which is killed when ctx ends and when the program
// does, with whatever it has started. The error says why there is no exit code. To
// wait for it takes a thread, so the caller lets only so many run at a time.
func (c *Command) Run(ctx context.Context) (code int, said string, err error) {
	out := &bounded{}
	cmd := exec.Command(find(c.Args[0]), c.Args[1:]...)
	cmd.Env = append([]string{"PATH=" + strings.Join(places, ":")}, c.Env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = grace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.User != "" {
		if cmd.SysProcAttr.Credential, err = credential(c.User); err != nil {
			return 0, "", err
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	defer stop()
	awaitExit(cmd.Process.Pid)
	// While the program is a zombie nobody else can have its number.
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	stop()
	err = cmd.Wait()
	switch state := cmd.ProcessState; {
	case ctx.Err() != nil:
		return 0, out.line(), ctx.Err()
	case out.full:
		return 0, out.line(), fmt.Errorf("printed more than %d KiB", maxOutput>>10)
	case state.Exited():
		return state.ExitCode(), out.line(), nil
	default:
		return 0, out.line(), err
	}
}

// places are where programs are looked for, whatever fnatd's own PATH is.
var places = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// find returns the path of a program.
func find(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, dir := range places {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path
		}
	}
	return places[0] + "/" + name // which says what is missing
}

// awaitExit returns when the process has ended, and leaves it for Wait.
func awaitExit(pid int) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// credential returns who the user is, with all his groups.
func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			cred.Groups = append(cred.Groups, uint32(n))
		}
	}
	return cred, nil
}

// maxSaid is how much of what a program has printed is kept.
const maxSaid = 200

// bounded is an output of limited length.
type bounded struct {
	head []byte
	n    int
	full bool
}

var errFull = errors.New("output is full")

// Write implements io.Writer. After an error nobody reads the pipe any more.
func (b *bounded) Write(p []byte) (int, error) {
	b.head = append(b.head, p[:min(len(p), maxSaid-len(b.head))]...)
	if b.n += len(p); b.n > maxOutput {
		b.full = true
		return 0, errFull
	}
	return len(p), nil
}

// line returns the first line.
func (b *bounded) line() string {
	first, _, _ := bytes.Cut(bytes.TrimSpace(b.head), []byte("\n"))
	return strings.ToValidUTF8(strings.TrimSpace(string(first)), "?")
}

// environ tells a program what it is run for.
func (to *Endpoint) environ() []string {
	protocol := "tcp"
	if to.ID.Proto == unix.IPPROTO_UDP {
		protocol = "udp"
	}
	return []string{
		"FNATD_SERVICE=" + to.Service, "FNATD_PROTOCOL=" + protocol,
		"FNATD_VIRTUAL=" + to.ID.Virtual.String(), "FNATD_REAL=" + to.Real.String(),
		"FNATD_ADDRESS=" + to.Real.Addr.String(), fmt.Sprint("FNATD_PORT=", to.Real.Port), "HOME=" + os.DevNull,
	}
}
