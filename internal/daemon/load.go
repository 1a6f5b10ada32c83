package daemon

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/config/keepalived"
	"github.com/fnatd/fnatd/lb"
)

// A reading is a configuration as it can be put in force.
type reading struct {
	cfg   *config.Config
	table *lb.Table
	notes []string // what an import has left out or read differently
}

// load reads and compiles the configuration of a fnatd that does not run yet.
func load(file string) (l reading, err error) {
	if l.cfg, l.notes, err = readConfig(file, nil); err != nil {
		return reading{}, err
	}
	if l.table, err = compile(l.cfg, nil); err != nil {
		return reading{}, err
	}
	return l, nil
}

// compile makes the table of cfg. prev is the table in force.
func compile(cfg *config.Config, prev *lb.Table) (*lb.Table, error) {
	t, err := lb.Compile(cfg, prev)
	if err != nil {
		return nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	return t, nil
}

// readConfig reads a file by its ending: .conf is a keepalived.conf, anything else
// TOML. before is the configuration in force, or nil.
func readConfig(file string, before *config.Config) (*config.Config, []string, error) {
	if filepath.Ext(file) != ".conf" {
		cfg, err := config.LoadAfter(file, before)
		if err != nil {
			return nil, nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
		}
		return cfg, nil, nil
	}
	in, err := keepalived.Load(file, keepalived.Options{})
	var wrong *keepalived.Error
	if errors.As(err, &wrong) {
		err = fmt.Errorf("%w\n%s is read as a keepalived.conf: what it does not say, fnatctl import %[2]s -o lb.toml takes as options; then fnatd -c lb.toml", err, file)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	return in.Config, in.Notes, nil
}
