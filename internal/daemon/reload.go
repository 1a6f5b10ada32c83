package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/unit"
	"github.com/fnatd/fnatd/lb"
)

// Reload reads the configuration file again and puts it in force. On an error
// nothing has changed.
func (d *Daemon) Reload(ctx context.Context) (ctl.Reload, error) {
	by := ctl.PeerOf(ctx)
	unit.Notify("RELOADING=1")
	defer unit.Notify("READY=1")
	d.mu.Lock()
	defer d.mu.Unlock()
	changes, err := d.reload()
	if err != nil {
		d.reloadError = err.Error()
		d.log.Error("reload refused, the old configuration stays in force", "by", by, "error", err)
		return ctl.Reload{}, err
	}
	d.reloadError = ""
	d.loaded = time.Now()
	d.log.Info("reloaded", "by", by, "changes", len(changes))
	for _, c := range changes {
		d.log.Info("changed", "what", c)
	}
	answer := ctl.Reload{ConfigFile: d.opts.ConfigFile}
	for _, c := range changes {
		answer.Changes = append(answer.Changes, c.String())
	}
	return answer, nil
}

// reloadGarbage is how much garbage a reload may make before it is collected, in percent
// of what is live. The collector takes processors from the workers, so it runs once
// afterwards instead of several times meanwhile.
const reloadGarbage = 400

func (d *Daemon) reload() ([]lb.Change, error) {
	d.engine.Crowd(true)
	defer d.engine.Crowd(false)
	defer debug.SetGCPercent(debug.SetGCPercent(reloadGarbage))
	cfg, notes, err := readConfig(d.opts.ConfigFile, d.cfg)
	if err != nil {
		return nil, err
	}
	changes, err := d.put(cfg)
	if err == nil {
		d.tell(notes)
	}
	return changes, err
}

// plan says what cfg makes of the table in force, without putting it in force.
func (d *Daemon) plan(cfg *config.Config) (table *lb.Table, changes []lb.Change, err error) {
	if err := fixed(d.cfg, cfg); err != nil {
		return nil, nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	if err := d.checkVLANs(cfg); err != nil {
		return nil, nil, err
	}
	old := d.engine.View().Table
	if table, err = compile(d.drains.applyTo(cfg), old); err != nil {
		return nil, nil, err
	}
	return table, lb.Diff(old, table), nil
}

// put puts cfg in force and returns what that has changed. On an error nothing
// has.
func (d *Daemon) put(cfg *config.Config) ([]lb.Change, error) {
	old := d.engine.View().Table
	table, changes, err := d.plan(cfg)
	if err != nil {
		return nil, err
	}
	if err := d.ward.speaker.Listen(sessionKeys(table)); err != nil {
		return nil, err
	}
	d.meet(old, table)
	if err := d.engine.Apply(table); err != nil {
		return nil, err
	}
	drains := d.drains
	d.drains = drains.followed(old, table)
	if err := d.openGates(table); err != nil {
		d.drains = drains
		return nil, errors.Join(err, d.engine.Apply(old), d.openGates(old))
	}
	d.drains.changed()
	d.lifeline.follow(d, cfg)
	d.cfg = cfg
	if err := d.check(table); err != nil {
		d.log.Error("health of the real servers is not put in force", "error", err)
	}
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
	same("[daemon] control_group", old.Daemon.Group, new.Daemon.Group)
	same("[daemon] metrics", old.Daemon.Metrics, new.Daemon.Metrics)
	same("[daemon] state", old.Daemon.State, new.Daemon.State)
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
	same("[dataplane] cookie_secret", was.CookieSecret, is.CookieSecret)
	return errors.Join(errs...)
}
