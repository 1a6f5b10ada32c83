package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/bench/load"
	"github.com/fnatd/fnatd/tests/harness"
)

// A contender carries the connections of a VIP to the real servers.
type contender struct {
	name   string
	start  func(*bed) error
	target func(port uint16) netip.AddrPort // that clients connect to; nil: the VIP
	kernel bool                             // carries packets in softirq, which is to be placed
	xdp    bool                             // answers by XDP, which only an XDP program gets to see
	bare   bool                             // answers SYNs by what is no answer
	oneArm bool                             // sends back by the interface that the frames came by
}

func (c *contender) at(port uint16) netip.AddrPort {
	if c.target != nil {
		return c.target(port)
	}
	return vip(port)
}

// vip is the virtual endpoint of a service, which has the servers' own port.
func vip(port uint16) netip.AddrPort { return netip.AddrPortFrom(netns.VIP(0), port) }

// fnatd returns fnatd as a contender, with more lines in its services.
func fnatd(name, keys string, xdp bool) contender {
	return contender{name: name, xdp: xdp, start: func(b *bed) error { return b.startFnatd(keys) }}
}

func (b *bed) startFnatd(keys string) error {
	cmd := b.Balancer.Command(context.Background(), filepath.Join(b.bin, "fnatd"), "-c", harness.ConfigFile(b.dir))
	lb, err := harness.StartCommand(b.Rig, cmd, b.dir, fnatdConfig(b.dir, keys))
	if err != nil {
		return err
	}
	b.lb = lb
	b.atClose(lb.Stop)
	return nil
}

// fnatdConfig returns a configuration that does for its clients what the rivals do:
// none of them tells the servers the client's address.
func fnatdConfig(dir, keys string) string {
	var c strings.Builder
	fmt.Fprintf(&c, `[daemon]
control = %q
metrics = ""

[dataplane]
interfaces      = ["wan0", "lan0"]
cpus            = [%d]
max_connections = 1_100_000

[[local_pool]]
name      = "lan"
interface = "lan0"
addresses = ["%v-%v"]
ports     = "1024-65535"
`, harness.Socket(dir), balancerCPU, netns.LIP(0), netns.LIP(len(locals())-1))
	for _, s := range []struct {
		protocol string
		port     uint16
	}{{"tcp", load.ShortPort}, {"tcp", load.EchoPort}, {"tcp", load.BulkPort}, {"udp", packetPort}} {
		lines := keys
		if s.protocol == "udp" {
			lines = ""
		}
		fmt.Fprintf(&c, "\n[[service]]\nname = \"%s-%d\"\nprotocol = %q\naddress = \"%v\"\ninterface = \"wan0\"\nscheduler = \"rr\"\nclient_address = \"none\"\n%s\n",
			s.protocol, s.port, s.protocol, vip(s.port), lines)
		for i := range servers {
			fmt.Fprintf(&c, "\n[[service.real_server]]\naddress = \"%v:%d\"\n", netns.ServerAddr(i), s.port)
		}
	}
	return c.String()
}

// packetPort is the UDP port that the packet benchmark sends to.
const packetPort = 9000

// kernelAddresses gives the kernel the addresses that fnatd would answer for, and
// makes it a router.
func (b *bed) kernelAddresses() error {
	errs := []error{
		b.Balancer.Forward(),
		b.Balancer.AddAddress("wan0", netip.PrefixFrom(netns.VIP(0), 24)),
	}
	for _, lip := range locals() {
		errs = append(errs, b.Balancer.AddAddress("lan0", netip.PrefixFrom(lip, 24)))
	}
	return errors.Join(errs...)
}

// nft returns the kernel's NAT as a contender.
func nft() contender {
	return contender{name: "nft DNAT+SNAT", kernel: true, start: func(b *bed) error { return b.startNFT(false) }}
}

// nftSynproxy returns the same with SYN cookies.
func nftSynproxy() contender {
	return contender{name: "nft synproxy", kernel: true, start: func(b *bed) error { return b.startNFT(true) }}
}

func (b *bed) startNFT(synproxy bool) error {
	if err := b.kernelAddresses(); err != nil {
		return err
	}
	rules := fmt.Sprintf(`table ip bench {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		ip daddr %[1]v dnat to numgen inc mod %[2]d map { %[3]s }
	}
	chain output {
		type nat hook output priority -100;
		ip daddr %[1]v dnat to numgen inc mod %[2]d map { %[3]s }
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "lan0" snat to %[4]v-%[5]v
	}
`, netns.VIP(0), servers, serverMap(), netns.LIP(0), netns.LIP(len(locals())-1))
	if synproxy {
		rules += fmt.Sprintf(`	chain raw {
		type filter hook prerouting priority raw;
		ip daddr %[1]v tcp flags & (syn | ack | rst | fin) == syn notrack
	}
	chain input {
		type filter hook input priority filter;
		ip daddr %[1]v meta l4proto tcp ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
		ip daddr %[1]v ct state invalid drop
	}
`, netns.VIP(0))
	}
	sysctls := []struct{ name, value string }{
		{"net.netfilter.nf_conntrack_tcp_timeout_time_wait", "1"},
		{"net.netfilter.nf_conntrack_tcp_loose", "0"},
		{"net.netfilter.nf_conntrack_udp_timeout", "300"},
	}
	if err := b.run("nft", rules+"}"); err != nil {
		return err
	}
	b.atClose(func() error { return b.run("nft", "delete table ip bench") })
	for _, s := range sysctls {
		if err := b.Balancer.Sysctl(s.name, s.value); err != nil {
			return err
		}
	}
	return nil
}

// serverMap returns the real servers as elements of an nft map.
func serverMap() string {
	var all []string
	for i := range servers {
		all = append(all, fmt.Sprintf("%d : %v", i, netns.ServerAddr(i)))
	}
	return strings.Join(all, ", ")
}
