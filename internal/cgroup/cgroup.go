package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Group is a control group of our own, so that fnatrs touches no other process
// of the machine.
type Group struct {
	Path string
	dir  *os.File
}

// New makes a control group below the root of the v2 tree, called name and
// this process's number. Those that killed processes left are removed first.
func New(name string) (*Group, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	prefix := filepath.Join(root, name) + "-"
	left, _ := filepath.Glob(prefix + "[0-9]*") // the pattern is well-formed
	for _, path := range left {
		pid, err := strconv.Atoi(strings.TrimPrefix(path, prefix))
		if err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = os.Remove(path) // its processes may not be gone yet: next time
		}
	}
	c := &Group{Path: prefix + strconv.Itoa(os.Getpid())}
	if err := os.Mkdir(c.Path, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	if c.dir, err = os.Open(c.Path); err != nil {
		return nil, errors.Join(err, os.Remove(c.Path))
	}
	return c, nil
}

// Hold has a command that netns.Host.Command made start in the group.
func (c *Group) Hold(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(c.dir.Fd())
	return cmd
}

// Enter moves this process into the group; leave moves it back. Sockets stay
// of the group that they were made in.
func (c *Group) Enter() (leave func() error, err error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	before, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	return func() error { return join(filepath.Join(root, before)) }, join(c.Path)
}

// Close removes the group. Processes that were killed leave it when they are
// gone for good, which may take a moment.
func (c *Group) Close() error {
	err := c.dir.Close()
	for range 100 {
		gone := os.Remove(c.Path)
		if !errors.Is(gone, unix.EBUSY) {
			return errors.Join(err, gone)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(err, fmt.Errorf("cgroup %q: still in use", c.Path))
}

func join(path string) error {
	return os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// ownCgroup returns this process's control group in the v2 tree, seen from its
// root: the line "0::/path" (cgroups(7)).
func ownCgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("cgroup: this process is in none of the v2 tree")
}
