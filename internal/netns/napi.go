package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel's netdev family, of which x/sys has no constants
// (include/uapi/linux/netdev.h).
const (
	netdevFamily   = "netdev"
	netdevNAPIGet  = 11 // NETDEV_CMD_NAPI_GET
	netdevNAPILink = 1  // NETDEV_A_NAPI_IFINDEX
	netdevNAPIPID  = 4  // NETDEV_A_NAPI_PID
)

// ThreadNAPI has the interface's packets received by kernel threads on one
// processor, with the niceness of this process, instead of wherever they happen to
// be sent from. A veth end can do
// so only while it has an XDP program. Of a veth that has had one it stays on.
func (h *Host) ThreadNAPI(ctx context.Context, ifname string, cpu int) error {
	// This process sees the sysfs of another namespace.
	_, err := h.Run(ctx, "unshare", "-m", "sh", "-ec",
		`mount -t sysfs sysfs /sys; echo 1 > "/sys/class/net/$0/threaded"`, ifname)
	if err != nil {
		return err
	}
	threads, err := h.napiThreads(ifname)
	if err != nil {
		return fmt.Errorf("%s: link %q: NAPI threads: %w", h.Name, ifname, err)
	}
	var one unix.CPUSet
	one.Set(cpu)
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	const zero = 20 // getpriority(2): the system call returns 20 less the niceness
	for _, pid := range threads {
		err := errors.Join(unix.SchedSetaffinity(pid, &one), unix.Setpriority(unix.PRIO_PROCESS, pid, zero-priority))
		if err != nil {
			return fmt.Errorf("%s: link %q: NAPI thread %d to processor %d: %w", h.Name, ifname, pid, cpu, err)
		}
	}
	return nil
}

// napiThreads returns the process numbers of an interface's NAPI threads.
func (h *Host) napiThreads(ifname string) (pids []int, err error) {
	index, err := h.Index(ifname)
	if err != nil {
		return nil, err
	}
	err = h.Do(func() error {
		family, err := netlink.GenlFamilyGet(netdevFamily)
		if err != nil {
			return err
		}
		req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_DUMP)
		req.AddData(genericHeader{netdevNAPIGet, 1})
		req.AddData(nl.NewRtAttr(netdevNAPILink, nl.Uint32Attr(uint32(index))))
		msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
		if err != nil {
			return err
		}
		for _, m := range msgs {
			attrs, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
			if err != nil {
				return err
			}
			for _, a := range attrs {
				if a.Attr.Type == netdevNAPIPID {
					pids = append(pids, int(binary.NativeEndian.Uint32(a.Value)))
				}
			}
		}
		if len(pids) == 0 {
			return errors.New("there are none")
		}
		return nil
	})
	return pids, err
}

// A genericHeader is struct genlmsghdr: command, version and two bytes that this
// family wants to be zero. nl.Genlmsg leaves those to chance.
type genericHeader [4]byte

func (h genericHeader) Len() int          { return len(h) }
func (h genericHeader) Serialize() []byte { return h[:] }
