package daemon

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/lb"
)

// A port is one interface that fnatd serves.
type port struct {
	name   string
	index  int      // the kernel's
	mtu    int      // bytes
	queues int      // that are served
	xdp    bpf.Mode // where the XDP program runs
	reason string   // why there
}

// A queue is what one worker owns: the same queue of every port.
type queue struct {
	umem    *xsk.UMEM
	sockets []*xsk.Socket // by port
	cpu     int           // that the worker is bound to; -1 is any
}

// assemble makes everything that the packet path needs, and leaves in undo how
// to take it down. Nothing is forwarded yet: the kernel's side has no services.
func (d *Daemon) assemble(table *lb.Table, undo *cleanup) (err error) {
	d.xdp = bpf.Options{PinDir: pinDir(), Log: d.log}
	if err := bpf.Probe(d.xdp, d.cfg.Dataplane.Interfaces...); err != nil {
		return err
	}
	if d.ports, err = openPorts(d.cfg); err != nil {
		return err
	}
	if d.conns, err = conntrack.New(conntrack.Config{MaxConnections: d.cfg.Dataplane.MaxConnections}); err != nil {
		return err
	}
	epoch := time.Now()
	undo.add(d.conns.Close)

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

	if err := d.attach(undo); err != nil {
		return err
	}
	if err := d.openQueues(undo); err != nil {
		return err
	}
	engine := dataplane.Config{
		Conns:            d.conns,
		Router:           d.router,
		Epoch:            epoch,
		ISNKey:           randomKey(),
		ReflectClientMAC: d.cfg.Dataplane.ReflectClientMAC,
		BusyPoll:         d.cfg.Dataplane.BusyPoll,
	}
	for _, name := range d.cfg.Dataplane.Interfaces {
		engine.FullChecksums = append(engine.FullChecksums, d.cfg.Dataplane.ChecksumOf(name) == config.Full)
	}
	for _, q := range d.queues {
		engine.Queues = append(engine.Queues, q.forEngine())
	}
	d.engine, err = dataplane.New(engine, table)
	return err
}

// attach loads the XDP program and puts it on every port.
func (d *Daemon) attach(undo *cleanup) (err error) {
	if d.program, err = bpf.Load(d.xdp); err != nil {
		return err
	}
	undo.add(func() error {
		err := d.program.Close(false)
		if d.program.Pinned() {
			err = errors.Join(err, removePinDir(d.xdp.PinDir))
		}
		return err
	})
	_, multi := frameSize(d.ports)
	for i := range d.ports {
		p := &d.ports[i]
		mode, reason, err := d.program.Attach(p.index, p.name, attachMode(d.cfg.Dataplane.Mode), multi)
		if err != nil {
			return tooLong(err, d.ports)
		}
		p.xdp, p.reason = mode, reason
	}
	return d.program.Prune()
}

// openQueues makes a UMEM for each worker and opens its socket on every port.
func (d *Daemon) openQueues(undo *cleanup) error {
	workers := slices.MaxFunc(d.ports, func(a, b port) int { return a.queues - b.queues }).queues
	cpus := d.cfg.Dataplane.CPUs
	size, multi := frameSize(d.ports)
	for i := range workers {
		umem, err := xsk.NewUMEM(xsk.Config{Frames: d.cfg.Dataplane.Frames, FrameSize: size, HugePages: true})
		if err != nil {
			return err
		}
		undo.add(umem.Close)
		q := queue{umem: umem, cpu: -1}
		if len(cpus) > 0 {
			q.cpu = cpus[i%len(cpus)]
		}
		for j := range d.ports {
			p := &d.ports[j]
			if i >= p.queues {
				continue
			}
			s, err := xsk.Open(umem, p.index, i, xsk.Options{
				Mode: bindMode(d.cfg.Dataplane.Mode, p.xdp), BusyPoll: d.cfg.Dataplane.BusyPoll, MultiBuffer: multi,
			})
			if err != nil {
				return tooLong(fmt.Errorf("interface %q: queue %d: %w", p.name, i, err), d.ports)
			}
			undo.add(s.Close)
			if err := d.program.SetSocket(p.index, i, s.FD()); err != nil {
				return fmt.Errorf("interface %q: queue %d: %w", p.name, i, err)
			}
			q.sockets = append(q.sockets, s)
			if i == 0 {
				d.log.Info("interface", "name", p.name, "queues", p.queues, "xdp", p.xdp, "because", p.reason,
					"frames", s.Mode(), "since", s.Reason())
			}
		}
		d.queues = append(d.queues, q)
	}
	for _, warning := range shared("/sys", "/proc", d.cfg.Dataplane.Interfaces, cpus) {
		d.log.Warn(warning)
	}
	return nil
}

// forEngine returns q as the packet path sees it.
func (q *queue) forEngine() dataplane.Queue {
	e := dataplane.Queue{UMEM: q.umem, Wait: func(t time.Duration) { xsk.Wait(q.sockets, t) }}
	for _, s := range q.sockets {
		e.Ports = append(e.Ports, s)
	}
	return e
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

// openPorts looks up the configured interfaces. Packets come in by every queue
// of an interface, so every queue needs a worker.
func openPorts(cfg *config.Config) (ports []port, err error) {
	for _, name := range cfg.Dataplane.Interfaces {
		nic, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", name, err)
		}
		queues, err := xsk.Queues(name)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", name, err)
		}
		if want := cfg.Dataplane.Queues; want != 0 && want != queues {
			return nil, fmt.Errorf("interface %q has %d receive queues, and queues in [dataplane] is %d: run `ethtool -L %s combined %d`, or set queues = \"auto\"",
				name, queues, want, name, want)
		}
		ports = append(ports, port{name: name, index: nic.Index, mtu: nic.MTU, queues: queues})
	}
	return ports, nil
}

// randomKey returns a secret key.
func randomKey() siphash.Key {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return siphash.Key{K0: binary.LittleEndian.Uint64(b[:8]), K1: binary.LittleEndian.Uint64(b[8:])}
}
