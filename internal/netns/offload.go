package netns

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// offloads are the features that are turned off at every veth end, under the
// kernel's names.
var offloads = []string{
	// A packet from a local socket leaves a veth with nothing but the pseudo-header
	// sum in its checksum field, because no wire will damage it. fnatd updates
	// checksums (RFC 1624) and would send on a wrong one. XDP has no way to tell
	// such a packet. So the ends whose sockets send towards fnatd, the client's
	// and the servers', must compute it; attaching XDP does not see to that.
	"tx-checksum-ip-generic",
	"tx-checksum-sctp",
	// An AF_XDP frame is one Ethernet frame. Attaching XDP turns TSO off at the
	// other end of that veth, but behind a bridge the sender is one veth further
	// away, and what is larger than a page is dropped before the XDP program.
	"tx-tcp-segmentation",
	"tx-tcp-ecn-segmentation",
	"tx-tcp-mangleid-segmentation",
	"tx-tcp6-segmentation",
	"tx-tcp-accecn-segmentation",
	"tx-udp-segmentation",
	"tx-generic-segmentation",
	"tx-gso-list",
	// GRO would put frames together again on the bridge's ports. It also turns
	// NAPI on where there is no XDP program.
	"rx-gro",
	"rx-gro-list",
	"rx-udp-gro-forwarding",
}

// ethtoolHeader is what every request begins with: ETHTOOL_A_FEATURES_HEADER,
// ETHTOOL_A_CHANNELS_HEADER and so on.
const ethtoolHeader = 1

// disableOffloads turns the offloads off.
func (h *Host) disableOffloads(ifname string) error { return h.setFeatures(ifname, offloads, false) }

// EnableChecksumOffload makes the interface leave checksums undone, as every veth
// does that nobody has told otherwise.
func (h *Host) EnableChecksumOffload(ifname string) error {
	return h.setFeatures(ifname, []string{"tx-checksum-ip-generic"}, true)
}

// setFeatures turns features on or off, by ethtool's netlink interface
// (Documentation/networking/ethtool-netlink.rst, FEATURES_SET).
func (h *Host) setFeatures(ifname string, names []string, on bool) error {
	err := h.Do(func() error {
		family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
		if err != nil {
			return err
		}
		known, err := features(family.ID, ifname)
		if err != nil {
			return err
		}
		// A name that this kernel does not know would make it refuse them all.
		wanted := make([]string, 0, len(names))
		for _, name := range names {
			if _, ok := known[name]; ok {
				wanted = append(wanted, name)
			}
		}
		req := ethtoolRequest(family.ID, unix.ETHTOOL_MSG_FEATURES_SET, ifname)
		req.AddData(wantedFeatures(wanted, on))
		_, err = req.Execute(unix.NETLINK_GENERIC, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: link %q: set offloads: %w", h.Name, ifname, err)
	}
	return nil
}

// ethtoolRequest returns a request about an interface.
func ethtoolRequest(family uint16, command uint8, ifname string) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(int(family), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: command, Version: unix.ETHTOOL_GENL_VERSION})
	header := nl.NewRtAttr(ethtoolHeader|unix.NLA_F_NESTED, nil)
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_NAME, nl.ZeroTerminated(ifname))
	req.AddData(header)
	return req
}

// wantedFeatures returns a bit set in its long form. A bit that is named without
// a value is to be cleared; one that is not named stays as it is.
func wantedFeatures(names []string, on bool) *nl.RtAttr {
	wanted := nl.NewRtAttr(unix.ETHTOOL_A_FEATURES_WANTED|unix.NLA_F_NESTED, nil)
	bits := wanted.AddRtAttr(unix.ETHTOOL_A_BITSET_BITS|unix.NLA_F_NESTED, nil)
	for _, name := range names {
		bit := bits.AddRtAttr(unix.ETHTOOL_A_BITSET_BITS_BIT|unix.NLA_F_NESTED, nil)
		bit.AddRtAttr(unix.ETHTOOL_A_BITSET_BIT_NAME, nl.ZeroTerminated(name))
		if on {
			bit.AddRtAttr(unix.ETHTOOL_A_BITSET_BIT_VALUE, nil)
		}
	}
	return wanted
}

// features returns the features of the interface that can be changed, and whether
// each is on.
func features(family uint16, ifname string) (map[string]bool, error) {
	msgs, err := ethtoolRequest(family, unix.ETHTOOL_MSG_FEATURES_GET, ifname).Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	able, active := map[string]bool{}, map[string]bool{}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			switch a.Attr.Type &^ unix.NLA_F_NESTED {
			case unix.ETHTOOL_A_FEATURES_HW:
				err = collectBits(able, a.Value)
			case unix.ETHTOOL_A_FEATURES_ACTIVE:
				err = collectBits(active, a.Value)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	state := make(map[string]bool, len(able))
	for name := range able {
		state[name] = active[name]
	}
	return state, nil
}

// collectBits adds to set the names of the bits that are set in a long bit set:
// those with a value, or, in one without a mask, all that it names.
func collectBits(set map[string]bool, bitset []byte) error {
	attrs, err := nl.ParseRouteAttr(bitset)
	if err != nil {
		return err
	}
	named := slices.ContainsFunc(attrs, func(a syscall.NetlinkRouteAttr) bool {
		return a.Attr.Type == unix.ETHTOOL_A_BITSET_NOMASK
	})
	for _, a := range attrs {
		if a.Attr.Type&^unix.NLA_F_NESTED != unix.ETHTOOL_A_BITSET_BITS {
			continue
		}
		bits, err := nl.ParseRouteAttr(a.Value)
		if err != nil {
			return err
		}
		for _, b := range bits {
			bit, err := nl.ParseRouteAttrAsMap(b.Value)
			if err != nil {
				return err
			}
			if _, on := bit[unix.ETHTOOL_A_BITSET_BIT_VALUE]; on || named {
				set[nl.BytesToString(bit[unix.ETHTOOL_A_BITSET_BIT_NAME].Value)] = true
			}
		}
	}
	return nil
}
