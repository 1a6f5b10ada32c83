package cgroup

import "testing"

func TestRootIn(t *testing.T) {
	hybrid := "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
	for mounts, want := range map[string]string{
		"cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n":               "/sys/fs/cgroup",
		hybrid + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n":     "/sys/fs/cgroup/unified",
		"none /mnt/my\\040groups cgroup2 rw 0 0\n":                     "/mnt/my groups",
		"cgroup2 /first cgroup2 rw 0 0\nx /second cgroup2 rw 0 0\n":    "/first",
		"proc /proc proc rw 0 0\ncgroup2 /only/a/device ext4 rw 0 0\n": "",
		hybrid: "",
	} {
		got, err := rootIn(mounts)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("mounts %q: got %q, %v, want %q", mounts, got, err, want)
		}
	}
}
