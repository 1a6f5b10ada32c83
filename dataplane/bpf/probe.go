package bpf

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// minKernel is the first long-term kernel with bpf_link for XDP (5.9), by which a
// program is replaced atomically and outlives its loader, CAP_BPF and CAP_PERFMON (5.8).
var minKernel = [2]int{5, 10}

// A capability is one that fnatd needs, with a wider one that would also do.
type capability struct {
	name    string
	bit, or uint
}

var capabilities = []capability{
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, unix.CAP_NET_ADMIN}, // attach XDP
	{"CAP_BPF", unix.CAP_BPF, unix.CAP_SYS_ADMIN},             // load programs and maps
	{"CAP_PERFMON", unix.CAP_PERFMON, unix.CAP_SYS_ADMIN},     // have them verified with pointer arithmetic
	{"CAP_NET_RAW", unix.CAP_NET_RAW, unix.CAP_NET_RAW},       // open AF_XDP sockets
}

// Probe reports, as one line that says what to do, the first thing that keeps
// fnatd from running on these interfaces; nil if there is none. It changes nothing.
func Probe(o Options, interfaces ...string) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("kernel version: %w", err)
	}
	if err := checkKernel(unix.ByteSliceToString(uts.Release[:])); err != nil {
		return err
	}
	caps, err := effectiveCaps()
	if err != nil {
		return err
	}
	if err := checkCaps(caps); err != nil {
		return err
	}
	if err := checkAFXDP(); err != nil {
		return err
	}
	for _, name := range interfaces {
		if err := checkInterface(o, name); err != nil {
			return err
		}
	}
	return nil
}

func checkKernel(release string) error {
	var have [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &have[0], &have[1]); err != nil {
		return fmt.Errorf("kernel %q: not a version number: %w", release, err)
	}
	if have[0] > minKernel[0] || have[0] == minKernel[0] && have[1] >= minKernel[1] {
		return nil
	}
	return fmt.Errorf("kernel %s is too old: fnatd needs %d.%d or newer", release, minKernel[0], minKernel[1])
}

func effectiveCaps() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

func checkCaps(effective uint64) error {
	var missing []string
	for _, c := range capabilities {
		if effective&(1<<c.bit|1<<c.or) == 0 {
			missing = append(missing, c.name)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("missing %s: run fnatd as root, or name them in AmbientCapabilities= of its systemd unit",
		strings.Join(missing, ", "))
}

func checkAFXDP() error {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return errors.New("kernel has no AF_XDP: use one built with CONFIG_XDP_SOCKETS")
	}
	if err != nil {
		return fmt.Errorf("AF_XDP socket: %w", err)
	}
	return unix.Close(fd)
}

func checkInterface(o Options, name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return fmt.Errorf("interface %q: no such interface (want one of %s)", name, interfaceNames())
	}
	if err != nil {
		return fmt.Errorf("interface %q: %w", name, err)
	}
	xdp := l.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return nil
	}
	pinned, err := pinnedLink(o.pinDir(), name)
	if err != nil {
		return err
	}
	if pinned != nil {
		defer pinned.Close()
	}
	if !holds(pinned, *xdp) {
		return foreign(name, *xdp)
	}
	return nil
}

func interfaceNames() string {
	all, err := net.Interfaces()
	if err != nil {
		return "those that ip link shows"
	}
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return strings.Join(names, ", ")
}
