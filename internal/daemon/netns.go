package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/bpf"
)

// pinDir returns where this fnatd pins its XDP links: interface names, and
// therefore pins, are a network namespace's own, so each namespace has a directory.
// It is not compared with that of process 1, which without CAP_SYS_PTRACE cannot
// be looked up.
func pinDir() string {
	var own unix.Stat_t
	if unix.Stat("/proc/self/ns/net", &own) != nil {
		return bpf.DefaultPinDir
	}
	return filepath.Join(bpf.DefaultPinDir, strconv.FormatUint(own.Ino, 10))
}

// removePinDir removes the directory unless there are pins in it.
func removePinDir(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}
