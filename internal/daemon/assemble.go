package daemon

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/lb"
)

// A port is one interface that fnatd serves.
type port struct {
	name   string
	index  int      // the kernel's
	mtu    int      // bytes
	xdp    bpf.Mode // where the XDP program runs
	reason string   // why there
	sends  bool     // it can send from there: a SYN-ACK by XDP_TX
	frames xsk.Mode // how frames get to the sockets
	since  string   // why so
}

// assemble makes everything that the packet path needs, and leaves in undo how
// to take it down. Nothing is forwarded yet: no worker runs.
func (d *Daemon) assemble(table *lb.Table, undo *cleanup) (err error) {
	d.xdp = bpf.Options{PinDir: pinDir(), Log: d.log}
	if err := bpf.Probe(d.xdp, d.cfg.Dataplane.Interfaces...); err != nil {
		return err
	}
	if d.ports, err = openPorts(d.cfg.Dataplane.Interfaces); err != nil {
		return err
	}
	d.settings, d.cpus = d.cfg.Dataplane, allowed()
	counts, err := d.countQueues()
	if err != nil {
		return err
	}
	if err := errors.Join(d.checkQueues(counts), checkCPUs(d.settings.CPUs, d.cpus)); err != nil {
		return err
	}
	loaded := d.findProgram(undo)
	if d.heir == nil {
		if err := d.openState(undo); err != nil {
			return err
		}
	}

	if d.router, err = route.Open(d.cfg.Dataplane.Interfaces, d.log); err != nil {
		return err
	}
	undo.add(func() error { d.router.Close(); return nil })
	if err := d.checkVLANs(d.cfg); err != nil {
		return err
	}
	for _, warning := range stripped(d.router.Table().Links(), xsk.StripsVLAN) {
		d.log.Warn(warning)
	}
	if d.addresses, err = route.NewAddresses(d.log); err != nil {
		return err
	}
	undo.add(d.addresses.Close)

	if err := loaded(); err != nil {
		return err
	}
	if d.program != nil {
		if err := d.introduce(table, undo); err != nil {
			return err
		}
	}
	d.fleet.past = map[spot]*xsk.Stats{}
	undo.add(d.takeDown)
	if err := d.haveQueues(table, counts); err != nil {
		return err
	}
	for i, p := range d.ports {
		d.log.Info("interface", "name", p.name, "queues", counts[i], "xdp", p.xdp, "because", p.reason,
			"frames", p.frames, "since", p.since)
	}
	// The table's clock goes on where it stood: nobody's time to answer runs while
	// nobody could answer.
	age := time.Duration(d.conns.Clock()) * time.Millisecond
	epoch := time.Now().Add(-age)
	d.epochTicks = monotonicTicks(age)
	engine := dataplane.Config{
		Conns:            d.conns,
		Router:           d.router,
		Epoch:            epoch,
		ISNKey:           d.isnKey(),
		CookieSecret:     d.cookieSecret(),
		ReflectClientMAC: d.cfg.Dataplane.ReflectClientMAC,
		BusyPoll:         d.cfg.Dataplane.BusyPoll,
		Queues:           d.fleet.forEngine(),
	}
	for _, name := range d.cfg.Dataplane.Interfaces {
		engine.FullChecksums = append(engine.FullChecksums, d.cfg.Dataplane.ChecksumOf(name) == config.Full)
	}
	if table, err = d.recallDrains(table); err != nil {
		return err
	}
	if d.engine, err = dataplane.New(engine, table); err != nil {
		return err
	}
	d.engine.Inherit()
	d.recall()
	d.steer(time.Now())
	return nil
}

// haveQueues puts the XDP program on the ports and opens sockets on their queues, or
// gets those of the fnatd that runs.
func (d *Daemon) haveQueues(table *lb.Table, counts []int) error {
	if d.heir != nil {
		return d.heir.inherit(d, table, counts)
	}
	if d.predecessor != nil {
		for i := range d.ports {
			p := &d.ports[i]
			p.xdp, p.reason = d.predecessor.Mode(p.index), "an earlier fnatd has left its program"
			p.sends = bpf.Sends(p.index, p.xdp)
		}
	} else if err := d.attach(); err != nil {
		return err
	}
	return d.openQueues(counts)
}

// findProgram finds the XDP program that a dead fnatd has left, which will do to begin
// with, or begins to load one.
func (d *Daemon) findProgram(undo *cleanup) (loaded func() error) {
	if d.heir == nil {
		d.xdp.PinLock = bpf.LockPins(d.xdp)
		interfaces := map[string]int{}
		for _, p := range d.ports {
			interfaces[p.name] = p.index
		}
		if d.predecessor = bpf.FindPredecessor(d.xdp.PinLock, interfaces, attachMode(d.cfg.Dataplane.Mode)); d.predecessor != nil {
			return func() error { return nil }
		}
	}
	return d.loadProgram(undo)
}

// introduce tells the XDP program, before it is attached, what it is for.
func (d *Daemon) introduce(table *lb.Table, undo *cleanup) error {
	if err := d.lifeline.hold(d, undo); err != nil {
		return err
	}
	return d.claim(table)
}

// takePlace puts a program of this fnatd's own in the place of a dead one's, while workers
// run by that, and all connections are read.
func (d *Daemon) takePlace(undo *cleanup) error {
	d.readState() // first, as loading keeps a processor busy, too
	if d.predecessor == nil {
		return nil
	}
	if err := d.loadProgram(undo)(); err != nil {
		return err
	}
	if err := d.introduce(d.engine.View().Table, undo); err != nil {
		return err
	}
	if err := d.placeSockets(); err != nil {
		return err
	}
	d.predecessor.Close()
	if err := d.attach(); err != nil {
		return err
	}
	for _, p := range d.ports {
		d.log.Info("XDP program", "interface", p.name, "xdp", p.xdp, "because", p.reason)
	}
	return nil
}

// placeSockets has the program lead to all sockets.
func (d *Daemon) placeSockets() (err error) {
	d.fleet.each(func(at spot, s *xsk.Socket) {
		n := len(d.fleet.queues)
		w := &d.fleet.queues[at.queue%n]
		err = errors.Join(err, d.place(at.port, at.queue, w, s, w.budgets[at.port][at.queue/n]))
	})
	return err
}

// loadProgram loads the XDP program, which keeps one processor busy verifying it, while
// the connections of an earlier fnatd are adopted. The result waits until that is done.
func (d *Daemon) loadProgram(undo *cleanup) (loaded func() error) {
	if d.heir != nil {
		d.xdp.PinLock = d.heir.pinLock
	}
	done := make(chan error, 1)
	var program *bpf.Program
	go func() {
		var err error
		program, err = bpf.Load(d.xdp)
		done <- err
	}()
	loaded = sync.OnceValue(func() error {
		err := <-done
		d.program = program
		return err
	})
	undo.add(func() error {
		if loaded() != nil {
			return nil // whoever waited has reported it
		}
		err := d.program.Close(false)
		if d.program.Pinned() {
			err = errors.Join(err, removePinDir(d.xdp.PinDir))
		}
		return err
	})
	return loaded
}

// attach puts the XDP program on every port.
func (d *Daemon) attach() error {
	_, multi := frameSize(d.ports)
	for i := range d.ports {
		p := &d.ports[i]
		mode, reason, err := d.program.Attach(p.index, p.name, attachMode(d.cfg.Dataplane.Mode), multi)
		if err != nil {
			return tooLong(err, d.ports)
		}
		p.xdp, p.reason = mode, reason
		p.sends = bpf.Sends(p.index, mode)
	}
	return d.program.Prune()
}

// attachMode returns where the XDP program may run for a configured mode.
func attachMode(m config.Mode) bpf.Mode {
	switch m {
	case config.Generic:
		return bpf.Generic
	case config.ZeroCopy, config.Copy:
		return bpf.Native
	default:
		return bpf.Auto
	}
}

// bindMode returns how sockets are to be bound for a configured mode, with the
// XDP program where it is.
func bindMode(m config.Mode, at bpf.Mode) xsk.Mode {
	switch {
	case at == bpf.Generic:
		return xsk.Generic
	case m == config.ZeroCopy:
		return xsk.ZeroCopy
	case m == config.Copy:
		return xsk.Copy
	default:
		return xsk.Auto
	}
}

// openPorts looks up the configured interfaces.
func openPorts(names []string) (ports []port, err error) {
	for _, name := range names {
		nic, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", name, err)
		}
		ports = append(ports, port{name: name, index: nic.Index, mtu: nic.MTU})
	}
	return ports, nil
}

// checkQueues refuses more workers than there can be: each needs a queue of every
// interface.
func (d *Daemon) checkQueues(counts []int) (err error) {
	want := d.settings.Queues
	for i, p := range d.ports {
		if n := counts[i]; want > n {
			err = errors.Join(err, fmt.Errorf("interface %q: %d receive queues for %d workers: run `ethtool -L %s combined %d`, or set queues in [dataplane] to %d or \"auto\"",
				p.name, n, want, p.name, want, slices.Min(counts)))
		}
	}
	return err
}
