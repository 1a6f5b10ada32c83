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

// anyDriverMTU is the largest MTU that fits one buffer of every driver: a page less
// headroom, Ethernet header and what the kernel keeps behind (skb_shared_info).
const anyDriverMTU = 4096 - xsk.Headroom - packet.MaxEthernetLen - 320

// longest returns the port with the largest MTU.
func longest(ports []port) port {
	return slices.MaxFunc(ports, func(a, b port) int { return cmp.Compare(a.mtu, b.mtu) })
}

// frameSize returns the bytes of the smallest frame that holds what the ports
// receive. Where none does, that is the largest there is, and multi: packets then
// take several. All ports must know how to, since each sends what others receive.
func frameSize(ports []port) (size int, multi bool) {
	mtu := longest(ports).mtu
	for _, size = range xsk.FrameSizes {
		if mtu <= mtuOf(size) {
			return size, false
		}
	}
	return size, true
}

// tooLong adds to an error that came up while packets of several frames were
// asked for what the operator can do without them.
func tooLong(err error, ports []port) error {
	if _, multi := frameSize(ports); err == nil || !multi {
		return err
	}
	p := longest(ports)
	return fmt.Errorf("%w; MTU %d of %q is more than a frame holds, and several for a packet need Linux 6.6 and a driver that can: `ip link set dev %s mtu %d` is the largest without",
		err, p.mtu, p.name, p.name, anyDriverMTU)
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
