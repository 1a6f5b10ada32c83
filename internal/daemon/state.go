package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/siphash"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/synproxy"
)

// What outlives the process: the connection table and the notes, in the state file.

// A legacy is what this fnatd has found of an earlier one.
type legacy struct {
	found   *conntrack.Adoption // nil: nothing, or not all is read yet
	refused string              // why it could not
	left    int                 // connections that a smaller table had no room for
	gone    int                 // connections whose real server is not configured any more
	began   time.Time           // when it was opened
	took    time.Duration       // from then on, until all was read
	table   *conntrack.Table    // which it is; nil: there was nothing, or it could not be used
}

// openState opens the state that another fnatd has left and adopts the connections in
// it, or makes a new one.
func (d *Daemon) openState(undo *cleanup) error {
	path, size := d.cfg.Daemon.State, conntrack.Config{MaxConnections: d.cfg.Dataplane.MaxConnections}
	began := time.Now()
	old, err := d.openOld(path)
	if err != nil {
		return err
	}
	if old.file != nil {
		d.legacy.began = began
		if err = d.adopt(old.file, size, undo); err == nil {
			return nil
		}
		d.legacy, d.notes = legacy{}, notes{}
		old.refused = err
		old.file.Close()
	}
	if d.state, err = state.Create(path, conntrack.Measure(size).Memory(), newSecrets(), d.opts.Version); err != nil {
		return err
	}
	undo.add(d.state.Close)
	if d.conns, err = conntrack.New(size, d.state.Table()); err != nil {
		return err
	}
	if old.refused != nil { // and not touched until there is another
		if old.refused, err = setAside(path, old.refused); err != nil {
			return err
		}
		d.legacy.refused = old.refused.Error()
		d.log.Warn("state not adopted: the connection table is empty", "state", path, "because", old.refused)
	}
	d.notes.Began = began
	d.warnOfDisk(path)
	return d.state.Publish()
}

// setAside keeps a state that another version of fnatd knows, for that one: whoever has
// started this one by mistake, or for a while, can go back. It returns refused with how.
func setAside(path string, refused error) (error, error) {
	var of *state.VersionError
	if !errors.As(refused, &of) || path == "" {
		return refused, nil
	}
	aside := fmt.Sprintf("%s.v%d", path, of.Version)
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return fmt.Errorf("%w: for its connections `mv %s %s` and start that fnatd or a later one, or remove it", refused, aside, path), nil
}

// settleState makes the state this fnatd's own, when it forwards and no other one, of an
// earlier version perhaps, has to be able to go on with it instead.
func (d *Daemon) settleState() {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, _ := d.state.Signature()
	if d.state.Convert(d.opts.Version) {
		d.log.Info("state converted: an earlier fnatd cannot go on with it any more", "from", from, "to", state.Version)
	}
}

// A former is what was at the state's path.
type former struct {
	file    *state.File
	refused error // why it cannot be used
}

func (d *Daemon) openOld(path string) (former, error) {
	var file *state.File
	var err error
	switch {
	case path != "":
		file, err = state.Open(path)
	case d.opts.State != nil:
		file, err = state.Inherit(d.opts.State, "")
	default:
		return former{}, nil
	}
	switch {
	case err == nil:
		return former{file: file}, nil
	case errors.Is(err, fs.ErrNotExist):
		return former{}, nil
	case errors.Is(err, state.ErrInUse):
		return former{}, fmt.Errorf("state %s: %w: stop it first, or set state in [daemon] to another path", path, err)
	}
	return former{refused: err}, nil
}

// adopt goes on with the table in f, which it makes one of another size if need be. If
// packets can be had already its connections are read later, see readState.
func (d *Daemon) adopt(f *state.File, size conntrack.Config, undo *cleanup) error {
	table, err := conntrack.Open(f.Table())
	if err != nil {
		return err
	}
	d.legacy.table = table
	if table.Capacity() == size.MaxConnections {
		d.state, d.conns = f, table
		undo.add(f.Close)
		d.readNotes(f)
		if d.predecessor == nil {
			table.Finish(runtime.NumCPU())
		}
		return nil
	}
	table.Finish(runtime.NumCPU())
	larger, err := state.Create(f.Path(), conntrack.Measure(size).Memory(), f.Secrets(), d.opts.Version)
	if err != nil {
		return err
	}
	if d.conns, d.legacy.left, err = table.Resized(size.MaxConnections, larger.Table()); err != nil {
		larger.Close()
		return err
	}
	d.readNotes(f)
	d.state = larger
	undo.add(larger.Close)
	return errors.Join(larger.Publish(), f.Close())
}

// readState reads what is not read yet of the connections of an earlier fnatd, and logs
// what has become of them.
func (d *Daemon) readState() {
	l := &d.legacy
	if l.table == nil {
		return
	}
	l.found, l.gone = l.table.Finish(runtime.NumCPU()), d.engine.Strangers()
	l.took = time.Since(l.began)
	d.tellLegacy()
}

// warnOfDisk says so if the state does not lie in memory.
func (d *Daemon) warnOfDisk(path string) {
	var at unix.Statfs_t
	if path == "" || unix.Statfs(filepath.Dir(path), &at) != nil || at.Type == unix.TMPFS_MAGIC || at.Type == unix.HUGETLBFS_MAGIC {
		return
	}
	d.log.Warn("the state of connections lies on a disk, which is written to all the time: set state in [daemon] to a path on a tmpfs", "state", path)
}

// tellLegacy logs what has become of the connections of an earlier fnatd.
func (d *Daemon) tellLegacy() {
	l := &d.legacy
	args := []any{
		"connections", l.kept(), "undone", l.found.Undone, "lost", l.lost(),
		"state_age", time.Since(d.notes.Began).Round(time.Second), "took", l.took.Round(100 * time.Microsecond),
	}
	for _, loss := range l.losses() {
		if loss.Count > 0 {
			args = append(args, loss.Reason, loss.Count)
		}
	}
	if l.found.Entries > 0 {
		args = append(args, "damaged_registry_entries", l.found.Entries)
	}
	if l.lost() > 0 || l.found.Entries > 0 {
		d.log.Warn("adopted the connections of an earlier fnatd, but for some", args...)
		return
	}
	d.log.Info("adopted the connections of an earlier fnatd", args...)
}

// lost returns how many connections were not kept.
func (l *legacy) lost() int { return l.found.Lost() + l.left + l.gone }

// newSecrets returns random ones.
func newSecrets() (s state.Secrets) {
	rand.Read(s.ISN[:]) // never fails: crypto/rand ends the program instead
	rand.Read(s.Cookie[:])
	return s
}

// isnKey returns the secret of initial sequence numbers.
func (d *Daemon) isnKey() siphash.Key { return siphash.KeyFrom(d.state.Secrets().ISN) }

// cookieSecret returns the configured secret of SYN cookies, or the state's.
func (d *Daemon) cookieSecret() synproxy.Secret {
	if c := d.cfg.Dataplane.CookieSecret; c != nil {
		return synproxy.SecretFrom(*c)
	}
	return synproxy.SecretFrom(d.state.Secrets().Cookie)
}
