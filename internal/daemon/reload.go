package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/unit"
	"github.com/fnatd/fnatd/lb"
)

// Reload reads the configuration file again and puts it in force. On an error
// nothing has changed.
func (d *Daemon) Reload(context.Context) (ctl.Reload, error) {
	unit.Notify("RELOADING=1")
	defer unit.Notify("READY=1")
	d.mu.Lock()
	defer d.mu.Unlock()
	changes, err := d.reload()
	if err != nil {
		d.reloadError = err.Error()
		d.log.Error("reload refused, the old configuration stays in force", "error", err)
		return ctl.Reload{}, err
	}
	d.reloadError = ""
	d.loaded = time.Now()
	d.log.Info("reloaded", "changes", len(changes))
	for _, c := range changes {
		d.log.Info("changed", "what", c)
	}
	return ctl.Reload{ConfigFile: d.opts.ConfigFile, Changes: changes}, nil
}

func (d *Daemon) reload() (changes []string, err error) {
	old := d.engine.View().Table
	l, err := load(d.opts.ConfigFile, old)
	if err != nil {
		return nil, err
	}
	cfg, table := l.cfg, l.table
	if err := fixed(d.cfg, cfg); err != nil {
		return nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	if err := d.checkVLANs(cfg); err != nil {
		return nil, err
	}
	for _, c := range lb.Diff(old, table) {
		changes = append(changes, c.String())
	}
	d.meet(table)
	if err := d.engine.Apply(table); err != nil {
		return nil, err
	}
	if err := d.openGates(table); err != nil {
		return nil, errors.Join(err, d.engine.Apply(old), d.openGates(old))
	}
	d.cfg = cfg
	if err := d.check(table); err != nil {
		d.log.Error("health of the real servers is not put in force", "error", err)
	}
	d.tell(l.notes)
	return changes, nil
}

// tell logs what an import has left out.
func (d *Daemon) tell(notes []string) {
	for _, n := range notes {
		d.log.Warn("keepalived.conf", "note", n)
	}
}

// fixed refuses what cannot change while fnatd runs.
func fixed(old, new *config.Config) error {
	var errs []error
	same := func(key string, was, is any) {
		if !reflect.DeepEqual(was, is) {
			errs = append(errs, fmt.Errorf("%s: %v became %v, which takes a restart: put it back, or restart fnatd", key, was, is))
		}
	}
	same("[daemon] control", old.Daemon.Control, new.Daemon.Control)
	same("[daemon] metrics", old.Daemon.Metrics, new.Daemon.Metrics)
	was, is := &old.Dataplane, &new.Dataplane
	same("[dataplane] interfaces", was.Interfaces, is.Interfaces)
	for _, name := range was.Interfaces {
		same(fmt.Sprintf("[[dataplane.interface]] %q checksum", name), was.ChecksumOf(name), is.ChecksumOf(name))
	}
	same("[dataplane] queues", was.Queues, is.Queues)
	same("[dataplane] mode", was.Mode, is.Mode)
	same("[dataplane] max_connections", was.MaxConnections, is.MaxConnections)
	same("[dataplane] frames", was.Frames, is.Frames)
	same("[dataplane] cpus", was.CPUs, is.CPUs)
	same("[dataplane] busy_poll", was.BusyPoll, is.BusyPoll)
	same("[dataplane] manage_addresses", was.ManageAddresses, is.ManageAddresses)
	same("[dataplane] reflect_client_mac", was.ReflectClientMAC, is.ReflectClientMAC)
	return errors.Join(errs...)
}
