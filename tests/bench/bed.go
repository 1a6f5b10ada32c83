package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/bench/load"
	"github.com/fnatd/fnatd/tests/bench/traffic"
	"github.com/fnatd/fnatd/tests/harness"
)

// Where things run. The generator, and the receiving of its frames, fill one
// processor; what is measured has the other one to itself, or shares it with the
// servers where that is said.
const (
	loadCPU     = 0
	balancerCPU = 1
)

// servers is how many real servers there are.
const servers = 2

// flood is where the frames of the generator come from. The client routes it, so
// the answers come back to the sinks on its interface.
var flood = netip.MustParsePrefix("11.0.0.0/8")

// A bed is a rig for one measurement of one contender.
type bed struct {
	*netns.Rig
	ctx    context.Context
	bin    string // directory of the programs
	dir    string // for files
	kit    *traffic.Kit
	lb     *harness.Fnatd // if that is the contender
	closes []func() error
}

// newBed builds a bed: namespaces, permanent neighbours, the servers.
func newBed(ctx context.Context, bin string) (b *bed, err error) {
	b = &bed{ctx: ctx, bin: bin}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.dir, err = os.MkdirTemp("", "fnatd-bench-"); err != nil {
		return b, err
	}
	b.atClose(func() error { return os.RemoveAll(b.dir) })
	if b.Rig, err = netns.New(netns.Topology{Servers: servers}); err != nil {
		return b, err
	}
	b.atClose(b.Rig.Close)
	if b.kit, err = traffic.Load(); err != nil {
		return b, err
	}
	b.atClose(b.kit.Close)
	return b, b.address()
}

// bedOf returns a bed with a contender that serves.
func (r *run) bedOf(c contender) (*bed, error) {
	b, err := newBed(r.ctx, r.bin)
	if err != nil {
		return nil, err
	}
	if err := c.start(b); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// address gives the client its addresses, and makes neighbours permanent that
// would otherwise be asked for in the middle of a flood.
func (b *bed) address() error {
	for _, a := range sources() {
		if err := b.Client.AddAddress("eth0", netip.PrefixFrom(a, netns.ClientPrefix.Bits())); err != nil && a != netns.ClientAddr {
			return err
		}
	}
	if err := b.Balancer.AddRoute(flood, netns.ClientAddr); err != nil {
		return err
	}
	neighbours := []neighbour{
		{b.Balancer, "wan0", sources(), b.Client, "eth0"},
		{b.Client, "eth0", []netip.Addr{netns.BalancerAddr, netns.VIP(0)}, b.Balancer, "wan0"},
	}
	for i, s := range b.Servers {
		neighbours = append(neighbours,
			neighbour{b.Balancer, "lan0", []netip.Addr{netns.ServerAddr(i)}, s, "eth0"},
			neighbour{s, "eth0", append(locals(), netns.BalancerLANAddr), b.Balancer, "lan0"})
	}
	for _, n := range neighbours {
		if err := n.add(b.ctx); err != nil {
			return err
		}
	}
	return nil
}

// A neighbour is addresses that an interface is told the MAC of.
type neighbour struct {
	at     *netns.Host
	ifname string
	addrs  []netip.Addr
	of     *netns.Host
	its    string
}

func (n *neighbour) add(ctx context.Context) error {
	mac, err := n.of.MAC(n.its)
	if err != nil {
		return err
	}
	for _, a := range n.addrs {
		if _, err := n.at.Run(ctx, "ip", "neigh", "replace", a.String(), "dev", n.ifname, "lladdr", mac.String(), "nud", "permanent"); err != nil {
			return err
		}
	}
	return nil
}

// sources are the addresses that the client connects from.
func sources() (all []netip.Addr) {
	for i, a := 0, netns.ClientAddr; i < 16; i, a = i+1, a.Next() {
		all = append(all, a)
	}
	return all
}

// locals are the balancer's addresses towards the servers.
func locals() (all []netip.Addr) {
	for i := range 8 {
		all = append(all, netns.LIP(i))
	}
	return all
}

// serve runs the servers on a processor until the bed is closed.
func (b *bed) serve(cpu int) error {
	s, err := load.NewServer(b.Servers)
	if err != nil {
		return err
	}
	b.background(func(ctx context.Context) error { return s.Serve(ctx, cpu) })
	return nil
}

// background runs f until the bed is closed.
func (b *bed) background(f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var err error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			err = <-done
		}
		return err
	}
	b.atClose(stop)
	return stop
}

func (b *bed) atClose(f func() error) { b.closes = append(b.closes, f) }

// close ends all that the bed has, last things first.
func (b *bed) close() error {
	var errs []error
	for i := len(b.closes) - 1; i >= 0; i-- {
		errs = append(errs, b.closes[i]())
	}
	b.closes = nil
	return errors.Join(errs...)
}

// sleep waits, unless the run is interrupted.
func (b *bed) sleep(d time.Duration) error {
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// run runs a program on the balancer.
func (b *bed) run(name string, args ...string) error {
	_, err := b.Balancer.Run(b.ctx, name, args...)
	return err
}
