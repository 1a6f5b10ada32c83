package realserver

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// RootCgroup returns the root of the cgroup v2 tree, wherever it is mounted.
func RootCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	return cgroupIn(string(mounts))
}

// cgroupIn finds the cgroup v2 tree in a table of mounts, whose columns are
// device, directory and type (proc_pid_mounts(5)).
func cgroupIn(mounts string) (string, error) {
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return unescape.Replace(f[1]), nil
		}
	}
	return "", errors.New("cgroup: no cgroup v2 tree is mounted: mount -t cgroup2 none /sys/fs/cgroup, or in a container run fnatrs on its host")
}

// unescape restores what the kernel writes as octal numbers (getmntent(3)).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// checkCgroup is an error if path is not in a cgroup v2 tree.
func checkCgroup(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("cgroup %q: %w", path, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("cgroup %q: not a directory of a cgroup v2 tree", path)
	}
	return nil
}
