package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/packet"
)

// mtuOf returns the longest IP datagram, in bytes, that a frame of so many bytes
// holds: in front of it are the kernel's headroom and an Ethernet header with its
// tags. What fnatd adds to a packet grows into the headroom.
func mtuOf(frameSize int) int { return frameSize - xsk.Headroom - packet.MaxEthernetLen }

// frameSize returns the bytes of the smallest frame that holds what the ports
// receive, or of the largest there is.
func frameSize(ports []port) int {
	longest := slices.MaxFunc(ports, func(a, b port) int { return cmp.Compare(a.mtu, b.mtu) }).mtu
	for _, size := range xsk.FrameSizes {
		if longest <= mtuOf(size) {
			return size
		}
	}
	return slices.Max(xsk.FrameSizes[:])
}

// checkVLANs checks the VLAN interfaces that cfg names against those there are.
func (d *Daemon) checkVLANs(cfg *config.Config) error {
	return checkVLANs(cfg.Dataplane.VLANs, cfg.Dataplane.Interfaces, d.router.Table().Links())
}

// checkVLANs makes sure that each of the named interfaces is a VLAN interface
// that stands on one that is served: packets could not leave by any other.
func checkVLANs(names, served []string, links []route.Link) error {
	var errs []error
	for _, name := range names {
		isVLAN := func(l route.Link) bool { return l.Name == name && l.VLANs != packet.VLANs{} }
		if !slices.ContainsFunc(links, isVLAN) {
			errs = append(errs, fmt.Errorf("interface %q of vlans in [dataplane]: not a VLAN interface on %s (make it with `ip link add link %s name %s type vlan id ID`, or take it out)",
				name, strings.Join(served, " or "), served[0], name))
		}
	}
	return errors.Join(errs...)
}

// stripped returns a warning for each interface that has VLANs on it and takes
// their tags off before the XDP program can see them.
func stripped(links []route.Link, strips func(name string) (bool, error)) (warnings []string) {
	for _, nic := range links {
		if nic.VLANs != (packet.VLANs{}) {
			continue
		}
		onNIC := func(l route.Link) bool { return l.Port == nic.Port && l.VLANs != packet.VLANs{} }
		if !slices.ContainsFunc(links, onNIC) {
			continue
		}
		if on, err := strips(nic.Name); err != nil || on {
			warnings = append(warnings, fmt.Sprintf(
				"%s has VLAN interfaces and may take the tags off before fnatd sees them: run `ethtool -K %s rxvlan off`", nic.Name, nic.Name))
		}
	}
	return warnings
}
