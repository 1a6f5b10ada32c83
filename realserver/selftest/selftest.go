// Package selftest checks on the machine it runs on which parts of fnatrs work
// on this kernel. It makes a real server and a balancer's end of a wire in
// network namespaces of their own and starts fnatrs for a cgroup of its own, so
// the machine's programs and traffic are not touched. It is not a test of fnatd,
// whose part it plays by hand.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/realserver"
)

// The addresses on the wire, of the networks for benchmarks and documentation.
var (
	server4  = netip.MustParseAddr("198.19.0.101")
	server6  = netip.MustParseAddr("2001:db8:19::101")
	lip4     = netip.MustParseAddr("198.19.0.10")
	lip6     = netip.MustParseAddr("2001:db8:19::10")
	stranger = netip.MustParseAddr("198.19.0.70")
	client4  = netip.MustParseAddrPort("192.0.2.66:6666")
	client6  = netip.MustParseAddrPort("[2001:db8::66]:6666")
)

// trust covers the LIPs and not the stranger.
const trust = "198.19.0.0/26,2001:db8:19::/64"

const ifname = "eth0" // of both ends of the wire

// A Result is one line of a self-test.
type Result struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Reason string `json:"reason,omitempty"` // why not
}

// Run makes every check and reports each as it is done. It is an error if the
// checks could not be made, not if some have failed.
func Run(report func(Result)) (err error) {
	group, err := cgroup.New("fnatrs-selftest")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.Close()) }()
	dir, err := os.MkdirTemp("", "fnatrs-selftest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	k := &kit{group: group, dir: dir}
	for _, p := range []phase{
		{checks: (*kit).checks, features: true},
		{way: "dearer: ", checks: (*kit).tcpChecks, set: func(o *realserver.Options) { o.Dearer = true }},
		{way: "tcx: ", checks: (*kit).noticeChecks, set: func(o *realserver.Options) { o.Interfaces = []string{ifname} }},
		{way: "timeouts: ", checks: (*kit).timeoutChecks, set: func(o *realserver.Options) { o.TCPTimeout, o.UDPTimeout = shortTimeout, shortTimeout }},
		{way: "flood: ", checks: (*kit).floodChecks, set: func(o *realserver.Options) { o.MaxMappings = fewMappings }},
	} {
		if err := k.run(p, trust, report); err != nil {
			return err
		}
	}
	return nil
}

// A phase is the checks of one start of fnatrs.
type phase struct {
	way      string // ahead of the checks' names
	features bool   // report what the kernel has
	checks   func(*kit) []check
	set      func(*realserver.Options) // nil: the defaults
}

// A kit is a running fnatrs and the two ends of its wire.
type kit struct {
	group    *cgroup.Group
	dir      string
	options  realserver.Options
	server   *netns.Host
	balancer *wire
	port     uint16 // of the LIP, another one for each check
}

// run makes the checks of a phase.
func (k *kit) run(p phase, trust string, report func(Result)) (err error) {
	rig, err := netns.Bare(netns.Topology{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	k.options = realserver.Options{
		Kinds: realserver.DefaultKinds, TTM: realserver.TTM{Kind: ttmKind, Length: realserver.DefaultTTM},
		Cgroup: k.group.Path, Beside: true,
		TCPTimeout: realserver.DefaultTCPTimeout, UDPTimeout: realserver.DefaultUDPTimeout,
		MaxMappings: realserver.DefaultMaxMappings, Socket: filepath.Join(k.dir, "fnatrs.sock"),
		Log: slog.New(slog.DiscardHandler),
	}
	if p.set != nil {
		p.set(&k.options)
	}
	if err := errors.Join(k.options.Trust.Set(trust), k.wire(rig)); err != nil {
		return err
	}
	defer k.balancer.Close()
	stop, err := k.start()
	if err != nil {
		report(Result{Name: p.way + "fnatrs starts", Reason: err.Error()})
		return nil
	}
	report(Result{Name: p.way + "fnatrs starts", Passed: true})
	if p.features {
		if err := k.reportFeatures(report); err != nil {
			return err
		}
	}
	for _, c := range p.checks(k) {
		k.port++
		report(result(p.way+c.name, c.run()))
	}
	report(result(p.way+"fnatrs stops", stop()))
	k.port++
	report(result(p.way+"accept: LIP after that", k.afterStop()))
	return nil
}

func result(name string, err error) Result {
	if err != nil {
		return Result{Name: name, Reason: err.Error()}
	}
	return Result{Name: name, Passed: true}
}

// wire makes the real server and the wire to it.
func (k *kit) wire(rig *netns.Rig) (err error) {
	if k.server, err = rig.AddHost("server"); err != nil {
		return err
	}
	balancer, err := rig.AddHost("balancer")
	if err != nil {
		return err
	}
	if err := rig.Connect(balancer, ifname, k.server, ifname); err != nil {
		return err
	}
	err = errors.Join(
		k.server.AddAddress(ifname, netip.PrefixFrom(server4, 24)),
		k.server.AddAddress(ifname, netip.PrefixFrom(server6, 64)),
	)
	if err != nil {
		return err
	}
	k.port = 40000
	k.balancer, err = newWire(balancer, k.server)
	return err
}

// afterStop is a check: the server goes on, and nobody tells it a client.
func (k *kit) afterStop() error {
	return k.tcp("tcp4", lip4, netip.AddrPort{}, netip.AddrPort{}, handshake{ack: option(packet.TOA(packet.DefaultTOAKind), client4)})()
}

// start runs fnatrs on the real server until stop is called.
func (k *kit) start() (stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.server.Do(func() error { return realserver.Run(ctx, k.options) }) }()
	stop = func() error { cancel(); return <-ended }
	for deadline := time.Now().Add(patience); ; {
		s, err := realserver.Ask(k.options.Socket)
		if err == nil && len(s.Programs) > 0 {
			return stop, nil
		}
		select {
		case err := <-ended:
			cancel()
			return nil, err
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("fnatrs does not answer within %v", patience), stop())
		}
	}
}

// reportFeatures reports what fnatrs has found in the kernel.
func (k *kit) reportFeatures(report func(Result)) error {
	s, err := realserver.Ask(k.options.Socket)
	if err != nil {
		return err
	}
	for _, f := range s.Features {
		name := "kernel has " + f.Name + ": " + f.What
		if f.Dearer != "" {
			name += ", in a way that costs more: " + f.Dearer
		}
		report(Result{Name: name, Passed: f.Missing == "", Reason: f.Missing})
	}
	return nil
}
