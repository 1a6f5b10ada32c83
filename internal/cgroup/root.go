// Package cgroup finds the cgroup v2 tree, and makes groups in it for programs
// that are to be touched by nothing but what is attached there.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Root returns the root of the cgroup v2 tree, wherever it is mounted.
func Root() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	return rootIn(string(mounts))
}

// rootIn finds the cgroup v2 tree in a table of mounts, whose columns are
// device, directory and type (proc_pid_mounts(5)).
func rootIn(mounts string) (string, error) {
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return unescape.Replace(f[1]), nil
		}
	}
	return "", errors.New("cgroup: no cgroup v2 tree is mounted: mount -t cgroup2 none /sys/fs/cgroup, or in a container run fnatrs on its host")
}

// unescape restores what the kernel writes as octal numbers (getmntent(3)).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// Check is an error if path is not in a cgroup v2 tree.
func Check(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("cgroup %q: %w", path, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("cgroup %q: not a directory of a cgroup v2 tree", path)
	}
	return nil
}

// ID returns the number by which the kernel knows a cgroup: its directory's inode.
func ID(path string) (uint64, error) {
	var dir unix.Stat_t
	if err := unix.Stat(path, &dir); err != nil {
		return 0, fmt.Errorf("cgroup %q: %w", path, err)
	}
	return dir.Ino, nil
}
