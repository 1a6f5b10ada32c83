package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/internal/unit"
)

// The conversation is told in message; what was not done, in ARCHITECTURE.md.

// HeirVariable is the environment variable by which a fnatd that is to take another
// one's place is told the descriptor of their conversation.
const HeirVariable = "FNATD_HEIR"

// How long the owner waits for what its heir has to say, and looks on after that. Our
// choices.
const (
	helloTime   = 5 * time.Second
	readyTime   = 30 * time.Second // a large configuration, and neighbours that do not answer
	servingTime = 5 * time.Second
	trialTime   = time.Second
	trialLook   = 10 * time.Millisecond
	trialStuck  = 300 * time.Millisecond // that a packet may wait in a ring
	trialEnough = 20                     // packets that were taken, by which to judge that none is sent
	farewell    = 200 * time.Millisecond // for the answer to whoever wanted the upgrade
)

// Upgrade has another binary take this one's place, or the same if binary is empty, and
// returns when that one forwards. On an error this one goes on.
func (d *Daemon) Upgrade(ctx context.Context, binary string) (a ctl.Upgrade, err error) {
	if !d.upgrading.TryLock() {
		return a, errors.New("another upgrade is under way")
	}
	defer d.upgrading.Unlock()
	by := ctl.PeerOf(ctx)
	if binary == "" {
		if binary, err = ownBinary(); err != nil {
			return a, err
		}
	}
	d.log.Info("upgrade begins", "by", by, "binary", binary)
	unit.Notify("RELOADING=1")
	s, err := d.startSuccessor(binary)
	if err == nil {
		a, err = d.handOver(s)
	}
	if err != nil {
		d.log.Error("upgrade failed, this fnatd goes on", "by", by, "binary", binary, "error", err)
		unit.Notify("READY=1")
		return ctl.Upgrade{}, fmt.Errorf("%s: %w", binary, err)
	}
	d.log.Info("upgrade done", "by", by, "pid", a.PID, "version", a.Version, "gap", time.Duration(a.GapSeconds*float64(time.Second)).Round(10*time.Microsecond))
	// Its own word was not heard, where only the main process has a say (NotifyAccess=main).
	unit.Notify(fmt.Sprintf("MAINPID=%d\nREADY=1", a.PID))
	return a, nil
}

// ownBinary returns where the binary that runs was started from, also if there is
// another one now.
func ownBinary() (string, error) {
	path, err := os.Readlink("/proc/self/exe")
	return strings.TrimSuffix(path, " (deleted)"), err
}

// replacedBinary returns where this fnatd was started from if another binary lies there
// now.
func replacedBinary() (path string, replaced bool) {
	path, err := ownBinary()
	if err != nil {
		return "", false
	}
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", false
	}
	there, err := os.Stat(path)
	return path, err == nil && !os.SameFile(running, there)
}

// A successor is the process of an heir, as its owner sees it.
type successor struct {
	wire  *wire
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has, for state
	state error
	hello hello
}

// startSuccessor starts a binary and lets it make itself ready. Nothing has changed yet
// when it returns.
func (d *Daemon) startSuccessor(binary string) (s *successor, err error) {
	if !filepath.IsAbs(binary) {
		return nil, errors.New("want an absolute path")
	}
	if err := d.heritable(); err != nil {
		return nil, err
	}
	w, other, err := newWire()
	if err != nil {
		return nil, err
	}
	s = &successor{wire: w, cmd: exec.Command(binary, "-c", d.opts.ConfigFile), ended: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = os.Stdout, os.Stderr
	s.cmd.ExtraFiles = []*os.File{other}
	s.cmd.Env = append(unit.Successor(os.Environ()), HeirVariable+"=3") // the first of ExtraFiles
	err = s.cmd.Start()
	other.Close() // or its end would not show in the conversation
	if err != nil {
		w.close()
		return nil, err
	}
	go func() {
		defer close(s.ended)
		s.state = s.cmd.Wait()
	}()
	if err := d.prepare(s); err != nil {
		return nil, s.end(err)
	}
	return s, nil
}

// heritable returns why no other process can go on with the sockets, or nil.
func (d *Daemon) heritable() (err error) {
	d.fleet.mu.RLock()
	defer d.fleet.mu.RUnlock()
	d.fleet.each(func(_ spot, s *xsk.Socket) {
		if err == nil {
			err = s.Heritable()
		}
	})
	return err
}

// end ends the process, and returns what was wrong with it.
func (s *successor) end(why error) error {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
	s.wire.close()
	return why
}

// prepare has the successor say hello, hear the will, and make itself ready.
func (d *Daemon) prepare(s *successor) error {
	m, _, err := s.wire.receive(kindHello, helloTime)
	if err != nil {
		return fmt.Errorf("the new fnatd: %w", err)
	}
	if m.Hello == nil {
		return errors.New("the new fnatd: an empty hello")
	}
	s.hello = *m.Hello
	will, files, err := d.makeWill()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	fds := make([]int, len(files))
	for i, f := range files {
		if fds[i], err = descriptor(f); err != nil {
			return err
		}
	}
	if err := s.wire.send(&message{Kind: kindWill, Will: will}, fds...); err != nil {
		return fmt.Errorf("the new fnatd: %w", err)
	}
	if _, _, err := s.wire.receive(kindReady, readyTime); err != nil {
		return fmt.Errorf("the new fnatd: %w", err)
	}
	return nil
}

// makeWill returns the will and duplicates of its descriptors.
func (d *Daemon) makeWill() (*will, []*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	version, _ := d.state.Signature()
	w := &will{
		State: version, Table: conntrack.Version,
		Daemon: d.cfg.Daemon, Dataplane: d.cfg.Dataplane, Pinned: d.program.Pinned(), Metrics: d.metrics != nil,
	}
	for i, p := range d.ports {
		w.Ports = append(w.Ports, portWill{
			Name: p.name, MTU: p.mtu, XDP: p.xdp, Reason: p.reason, Queues: d.fleet.counts[i], Frames: p.frames, Since: p.since,
		})
	}
	var files []*os.File
	var errs []error
	add := func(f *os.File, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		files = append(files, f)
	}
	add(d.state.Duplicate())
	add(duplicate(d.lock))
	add(d.control.(filed).File())
	if w.Pinned {
		add(duplicate(d.program.PinLock()))
	}
	if w.Metrics {
		add(d.metrics.(filed).File())
	}
	return w, files, errors.Join(errs...)
}

// filed is a listener that has a descriptor; all of net's do.
type filed interface{ File() (*os.File, error) }

// descriptor returns that of f. File.Fd would make reads of it block, and with it, as
// they share that, the accepts of a listener that it is a duplicate of.
func descriptor(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// handOver stops the workers, gives all they have to the successor, and looks on until
// that one forwards. Once it has given it away an error means that this process begins
// anew.
func (d *Daemon) handOver(s *successor) (a ctl.Upgrade, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // packets would wait for the collector
	// From here on nothing changes: no reload, no server's health, no notes.
	d.notesLock.Lock()
	d.mu.Lock()
	d.noted(d.keepNotes(d.gatherNotes()))
	// And the XDP program, by which the other one has its first packets, does not judge
	// by counts that are only kept here.
	if err := d.program.TrustCounts(false); err != nil {
		d.mu.Unlock()
		d.notesLock.Unlock()
		return a, s.end(err)
	}
	resume := d.rest()
	stopped := time.Now()
	e, fds, err := d.makeEstate()
	if err != nil {
		resume()
		err = errors.Join(err, d.program.TrustCounts(true))
		d.mu.Unlock()
		d.notesLock.Unlock()
		return a, s.end(err)
	}
	before := d.progress()
	d.ward.speaker.Silence() // its sockets are for the other one to open; there is no way back from here
	if err := s.wire.send(&message{Kind: kindEstate, Estate: e}, fds...); err != nil {
		return a, d.beginAnew(s, err)
	}
	if _, _, err = s.wire.receive(kindServing, servingTime); err != nil {
		return a, d.beginAnew(s, fmt.Errorf("the new fnatd: %w", err))
	}
	gap := time.Since(stopped)
	if err := d.lookOn(s, before); err != nil {
		return a, d.beginAnew(s, fmt.Errorf("the new fnatd: %w", err))
	}
	if err := s.wire.send(&message{Kind: kindDone}); err != nil {
		return a, d.beginAnew(s, fmt.Errorf("the new fnatd: %w", err))
	}
	close(d.handed)
	d.control.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	_ = d.control.Close() // who connects now is for the other one
	time.AfterFunc(farewell, func() { close(d.left) })
	return ctl.Upgrade{PID: s.hello.PID, Version: s.hello.Version, Before: d.opts.Version, GapSeconds: gap.Seconds()}, nil
}

// makeEstate returns the estate and its descriptors. The workers are at rest.
func (d *Daemon) makeEstate() (*estate, []int, error) {
	e, fds := &estate{}, []int(nil)
	for i, w := range d.fleet.queues {
		u, more, err := w.umem.Bequeath()
		if err != nil {
			return nil, nil, fmt.Errorf("worker %d: %w", i, err)
		}
		e.Workers, fds = append(e.Workers, workerEstate{u}), append(fds, more...)
	}
	return e, fds, nil
}

// progress returns how far every socket is.
func (d *Daemon) progress() map[spot]xsk.Progress {
	all := map[spot]xsk.Progress{}
	d.fleet.each(func(at spot, s *xsk.Socket) { all[at] = s.Progress() })
	return all
}

// lookOn watches the rings, which it takes no part in, until it is seen that the
// successor takes what comes, and sends.
func (d *Daemon) lookOn(s *successor, before map[spot]xsk.Progress) error {
	sent := d.fleet.total().Sent > 0 // or who sends nothing does as this one did
	last, stuck := before, map[spot]time.Time{}
	for end := time.Now().Add(trialTime); time.Now().Before(end); {
		select {
		case <-s.ended:
			return fmt.Errorf("it ended: %w", s.state)
		case <-time.After(trialLook):
		}
		now := d.progress()
		for at, p := range now {
			switch {
			case p.Waiting == 0 || p.Received != last[at].Received:
				delete(stuck, at)
			case stuck[at].IsZero():
				stuck[at] = time.Now()
			case time.Since(stuck[at]) > trialStuck:
				return fmt.Errorf("it leaves %d packets in the ring of %q queue %d", p.Waiting, d.ports[at.port].name, at.queue)
			}
		}
		last = now
		if taken, queued := since(before, now); taken >= trialEnough && queued > 0 {
			return nil
		}
	}
	taken, queued := since(before, last)
	if sent && taken >= trialEnough && queued == 0 {
		return fmt.Errorf("it has taken %d packets and sent none", taken)
	}
	return nil
}

// since returns how many packets were taken off all rings and put on them between two
// moments.
func since(before, now map[spot]xsk.Progress) (taken, queued uint32) {
	for at, p := range now {
		taken += p.Received - before[at].Received
		queued += p.Queued - before[at].Queued
	}
	return taken, queued
}

// beginAnew has this process end its successor and start again from its own binary, as
// after a crash: the connection table and the rings have changed under its hands. It
// returns why, for the answer to whoever wanted the upgrade.
func (d *Daemon) beginAnew(s *successor, why error) error {
	why = s.end(why)
	env := os.Environ()
	var left *os.File
	if d.state.Path() == "" { // it is nowhere else
		if f, err := d.state.Duplicate(); err == nil {
			_, _ = unix.FcntlInt(f.Fd(), unix.F_SETFD, 0) // it stays open
			env, left = append(env, fmt.Sprintf("%s=%d", StateVariable, f.Fd())), f
		}
	}
	go func() {
		time.Sleep(answerTime)
		err := syscall.Exec("/proc/self/exe", os.Args, env)
		runtime.KeepAlive(left) // or the collector would close it before
		d.log.Error("upgrade failed, and this fnatd cannot start again", "error", err)
		os.Exit(1) // the service manager can
	}()
	return fmt.Errorf("%w; the old fnatd starts again", why)
}

// answerTime is what an answer on the control socket is given to get out before the
// process begins anew; packets wait meanwhile. Our choice.
const answerTime = 5 * time.Millisecond

// StateVariable is the environment variable by which a fnatd that begins anew is told
// the descriptor of a state without a path.
const StateVariable = "FNATD_STATE"
