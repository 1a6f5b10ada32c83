package unit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock makes this process the only one of the program with the control socket at
// path, and makes the socket's directory if need be. The lock is the kernel's
// and ends with the process, however that ends. The file beside the socket names
// the holder; it stays, since removing it would let two processes lock two files
// of one name. To close what is returned unlocks. The error says what else one may
// do, such as "name another path".
func Lock(program, path, instead string) (lock *os.File, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := os.ReadFile(name)
		f.Close()
		return nil, fmt.Errorf("another %s (pid %s) holds %s: stop it first, or %s",
			program, strings.TrimSpace(string(holder)), name, instead)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if err := TakeLock(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// TakeLock has a lock that another process has passed on name this one as its holder.
func TakeLock(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if _, err := f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}
