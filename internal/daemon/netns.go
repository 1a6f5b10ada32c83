package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/bpf"
)

// pinDir returns where this fnatd pins its XDP links. Interface names, and
// therefore pins, are a network namespace's own, so a namespace other than the
// host's has a directory of its own.
func pinDir() string {
	var own, host unix.Stat_t
	if unix.Stat("/proc/self/ns/net", &own) != nil || unix.Stat("/proc/1/ns/net", &host) != nil || own.Ino == host.Ino {
		return bpf.DefaultPinDir
	}
	return fmt.Sprintf("%s-%d", bpf.DefaultPinDir, own.Ino)
}
