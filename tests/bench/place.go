package main

import (
	"fmt"
	"net/netip"

	"github.com/fnatd/fnatd/internal/netns"
)

// What is done in softirq runs where the sender's packet happens to be; these put
// it where it belongs.

// receiveThreaded has the kernel do all its work for the generator's frames on the
// balancer's processor. Frames of XDP are only taken by an end with NAPI.
func (b *bed) receiveThreaded() error {
	pass, err := b.kit.Pass(b.Balancer, "wan0")
	if err != nil {
		return err
	}
	b.atClose(pass.Close)
	return b.Balancer.ThreadNAPI(b.ctx, "wan0", balancerCPU)
}

// receiveSteered does so for packets of sockets, by receive packet steering.
func (b *bed) receiveSteered() error {
	for _, name := range b.Interfaces() {
		if err := b.steer(b.Balancer, name, balancerCPU); err != nil {
			return err
		}
	}
	return nil
}

// steer has what an interface hands to the stack be processed by one processor.
func (b *bed) steer(h *netns.Host, ifname string, cpu int) error {
	// This process sees the sysfs of another namespace.
	_, err := h.Run(b.ctx, "unshare", "-m", "sh", "-ec",
		`mount -t sysfs sysfs /sys; echo "$1" > "/sys/class/net/$0/queues/rx-0/rps_cpus"`, ifname, fmt.Sprintf("%x", 1<<cpu))
	return err
}

// direct is no balancer: a wire of its own from the client to a server.
func direct() contender {
	ours, its := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")
	return contender{
		name:   "direct",
		target: func(port uint16) netip.AddrPort { return netip.AddrPortFrom(its.Addr(), port) },
		start: func(b *bed) error {
			server := b.Servers[0]
			if err := b.Connect(b.Client, "eth1", server, "eth1"); err != nil {
				return err
			}
			for _, end := range []struct {
				h *netns.Host
				p netip.Prefix
			}{{b.Client, ours}, {server, its}} {
				if err := end.h.AddAddress("eth1", end.p); err != nil {
					return err
				}
			}
			// The client's sources are of its other network.
			return server.AddRoute(netns.ClientPrefix, ours.Addr())
		},
	}
}
