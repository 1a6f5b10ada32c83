package netns

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// SetQueues gives an interface so many RX and so many TX queues, as ethtool -L
// does. With XDP on one end of a veth, that end must never have fewer RX queues
// than the other end has TX queues: give it more first, and the other end fewer.
func (h *Host) SetQueues(ifname string, n int) error { return h.setQueues(ifname, n, n) }

func (h *Host) setQueues(ifname string, rx, tx int) error {
	err := h.Do(func() error {
		family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
		if err != nil {
			return err
		}
		req := ethtoolRequest(family.ID, unix.ETHTOOL_MSG_CHANNELS_SET, ifname)
		req.AddData(nl.NewRtAttr(unix.ETHTOOL_A_CHANNELS_RX_COUNT, nl.Uint32Attr(uint32(rx))))
		req.AddData(nl.NewRtAttr(unix.ETHTOOL_A_CHANNELS_TX_COUNT, nl.Uint32Attr(uint32(tx))))
		_, err = req.Execute(unix.NETLINK_GENERIC, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: link %q: %d RX and %d TX queues: %w", h.Name, ifname, rx, tx, err)
	}
	return nil
}
