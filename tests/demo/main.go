// Command demo shows fnatd at work on one machine: a client, the balancer and
// two real servers in network namespaces of their own, a real curl and a real
// UDP exchange through AF_XDP, and what a real server gets to see of them. It
// needs root, and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/tests/harness"
)

func services() []harness.Service {
	return []harness.Service{{
		Name:    "web",
		Virtual: netip.AddrPortFrom(netns.VIP(0), 80),
		Keys:    "scheduler = \"rr\"\nclient_address = \"toa\"\nsynproxy = true",
		Servers: []harness.Server{{Real: server(0, 8080)}, {Real: server(1, 8080)}},
	}, {
		Name:     "echo",
		Protocol: "udp",
		Virtual:  netip.AddrPortFrom(netns.VIP(0), 7),
		Keys:     "scheduler = \"rr\"\nclient_address = \"icmp-echo\"",
		Servers:  []harness.Server{{Real: server(0, 7)}},
	}}
}

func server(i int, port uint16) netip.AddrPort { return netip.AddrPortFrom(netns.ServerAddr(i), port) }

func main() {
	bin := flag.String("bin", "bin", "directory of fnatd, fnatctl and fnatrs")
	flag.Parse()
	if err := run(*bin); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(bin string) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("network namespaces and XDP need root: run `sudo make demo`")
	}
	dir, err := os.MkdirTemp("", "fnatd-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	group, leave, err := enterCgroup()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	rig, err := netns.New(netns.Topology{Servers: 2})
	if err != nil {
		return err
	}
	defer rig.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	say("client %s, balancer %s, real servers %s and %s", netns.ClientAddr, netns.BalancerAddr, netns.ServerAddr(0), netns.ServerAddr(1))
	for i, server := range rig.Servers {
		if err := serve(server, i); err != nil {
			return err
		}
	}
	lb, err := harness.Start(rig, filepath.Join(bin, "fnatd"), dir, harness.Config(rig, dir, "", services()...))
	if err != nil {
		return err
	}
	say("fnatd -c lb.toml")
	fmt.Print(lb.Log())
	rs, err := harness.StartFnatrs(rig.Servers[0], filepath.Join(bin, "fnatrs"), dir, group.Path, "--trust", netns.BalancerLANPrefix.Masked().String())
	if err != nil {
		return err
	}
	say("fnatrs run --trust %s", netns.BalancerLANPrefix.Masked())
	fmt.Print(rs.Log())
	seen, err := rig.Servers[0].Capture("eth0")
	if err != nil {
		return err
	}

	d := demo{ctx: ctx}
	d.show(rig.Client, "curl", "-sS", "http://198.18.0.100/")
	d.show(rig.Client, "curl", "-sS", "http://198.18.0.100/")
	d.show(rig.Client, "bash", "-c", `exec 3<>/dev/udp/198.18.0.100/7; echo "hello over UDP" >&3; timeout 2 head -n 1 <&3`)

	frames, err := seen.Stop()
	if err != nil {
		return err
	}
	say("what real server %s got", netns.ServerAddr(0))
	describe(frames)
	for _, what := range []string{"services", "connections", "stats", "drops"} {
		d.show(rig.Balancer, filepath.Join(bin, "fnatctl"), "--socket", harness.Socket(dir), what)
	}
	for _, what := range []string{"mappings", "status"} {
		d.show(rig.Servers[0], filepath.Join(bin, "fnatrs"), what, "--socket", rs.Socket())
	}
	if err := errors.Join(rs.Stop(), lb.Stop()); err != nil {
		return err
	}
	say("fnatrs and fnatd have stopped cleanly")
	return errors.Join(d.failed...)
}

func say(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }

// enterCgroup moves this process into a cgroup of its own, so that fnatrs serves
// the demo's servers and no other program of the machine.
func enterCgroup() (*cgroup.Group, func() error, error) {
	c, err := cgroup.New("fnatd-demo")
	if err != nil {
		return nil, nil, err
	}
	back, err := c.Enter()
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, func() error { return errors.Join(back(), c.Close()) }, nil
}

// serve runs an HTTP and a UDP echo server on a host until the rig is closed.
func serve(h *netns.Host, i int) error {
	web, err := h.Listen("tcp", net.JoinHostPort(netns.ServerAddr(i).String(), "8080"))
	if err != nil {
		return err
	}
	go http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "real server %s answers; its socket's peer is %s\n", netns.ServerAddr(i), r.RemoteAddr)
	}))
	echo, err := h.ListenPacket("udp", net.JoinHostPort(netns.ServerAddr(i).String(), "7"))
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, peer, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			reply := fmt.Sprintf("real server %s answers %s: %s", netns.ServerAddr(i), peer, buf[:n])
			if _, err := echo.WriteTo([]byte(reply), peer); err != nil {
				return
			}
		}
	}()
	return nil
}

// A demo runs programs and shows what they print.
type demo struct {
	ctx    context.Context
	failed []error
}

func (d *demo) show(host *netns.Host, name string, args ...string) {
	say("%s$ %s %s", host.Name, filepath.Base(name), strings.Join(args, " "))
	out, err := host.Run(d.ctx, name, args...)
	fmt.Print(out)
	if err != nil {
		d.failed = append(d.failed, err)
	}
}

// describe prints what a real server learnt of its clients' addresses.
func describe(frames []netns.Frame) {
	toa := packet.TOA(packet.DefaultTOAKind)
	var p packet.Packet
	for _, f := range frames {
		if p.Parse(f.Data, 0, len(f.Data)) != packet.Kept || p.Flow.Dst.Netip() != netns.ServerAddr(0) {
			continue
		}
		switch p.Flow.Proto {
		case packet.ProtoTCP:
			if client, ok := toa.Decode(p.TCP().Options()); ok {
				fmt.Printf("TCP  %s > %s, %d bytes; TOA option: client %s\n", p.Flow.Source(), p.Flow.Destination(), p.PayloadLen(), client)
			}
		case packet.ProtoUDP:
			fmt.Printf("UDP  %s > %s, %d bytes\n", p.Flow.Source(), p.Flow.Destination(), p.PayloadLen())
		case packet.ProtoICMP:
			fmt.Printf("ICMP %s > %s, echo request of %d bytes: a notice of a UDP client\n", p.Flow.Src, p.Flow.Dst, p.IPLen())
		}
	}
}
