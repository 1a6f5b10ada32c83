// Package keepalived turns a keepalived.conf into a configuration of fnatd. It
// reads the grammar of upstream's virtual servers with what LVS-FULLNAT and DPVS
// have added, and writes TOML; package config then checks that like any other
// file. It is not a keepalived: what keepalived does besides balancing is passed
// over, and nothing is left out without a note that says so.
package keepalived

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/fnatd/fnatd/config"
)

// Options say what a keepalived.conf cannot. The zero value takes everything
// from the file.
type Options struct {
	LocalPool string // addresses and ranges, separated by commas, for services whose group the file does not name
	Interface string // the interface of all addresses, whatever the file names; "" is what the file names
	Convert   bool   // make FULLNAT of DR and TUN, too
	ConfigID  string // whom lines with @ are for, as keepalived -i; "" is the host's name
}

// An Import is what came out of a keepalived.conf.
type Import struct {
	Config *config.Config // valid; its lines are those of TOML
	TOML   []byte         // the same as a file, with comments that say where each part came from
	Notes  []string       // what was left out or read differently, each as file:line: text
}

// Load imports the file at path and what it includes. The error joins an *Error
// for each thing that is wrong. With an error the Import has only the Notes.
func Load(path string, o Options) (*Import, error) {
	data, err := readFile(path)
	if err != nil {
		return &Import{}, err
	}
	return parse(path, data, o, system)
}

// parse imports data, the contents of the file name; what it includes comes
// from files.
func parse(name string, data []byte, o Options, files files) (*Import, error) {
	if o.ConfigID == "" {
		host, _ := os.Hostname() // without a name no line is for this host
		o.ConfigID, _, _ = strings.Cut(host, ".")
	}
	rep := &report{}
	blocks := newReader(rep, files, o.ConfigID).read(name, data)
	d := newImporter(rep, o, files.limits).draft(blocks)
	if len(d.services) == 0 && len(rep.errors) == 0 {
		rep.fail(pos{file: name, line: 1}, "there is no virtual_server, so nothing to balance (is it the right file?)")
	}
	if err := rep.err(); err != nil && (d.incomplete || len(d.services) == 0) {
		return &Import{Notes: rep.notes()}, err
	}
	text, origin := d.render(name)
	c, err := config.Parse(name, text)
	if err != nil {
		rep.translate(err, origin)
	}
	if err := rep.err(); err != nil {
		return &Import{Notes: rep.notes()}, err
	}
	return &Import{Config: c, TOML: text, Notes: rep.notes()}, nil
}

// inLine is how messages of package config refer to another line of the file.
var inLine = regexp.MustCompile(`\bin line (\d+)`)

// translate reports the errors of the TOML that was made where their causes
// stand: origin has the place that each of its lines came from. Where something
// is wrong already, the TOML is wrong for that reason.
func (r *report) translate(err error, origin []pos) {
	known := map[pos]bool{}
	for _, e := range r.errors {
		known[e.at] = true
	}
	at := func(line int) pos { return origin[min(max(line, 1), len(origin))-1] }
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		r.fail(pos{}, "%v", err)
		return
	}
	for _, e := range joined.Unwrap() {
		var one *config.Error
		if !errors.As(e, &one) {
			r.fail(pos{}, "%v", e)
			continue
		}
		if known[at(one.Line)] {
			continue
		}
		text := inLine.ReplaceAllStringFunc(one.Text, func(s string) string {
			n, _ := strconv.Atoi(inLine.FindStringSubmatch(s)[1])
			return "at " + at(n).String()
		})
		r.fail(at(one.Line), "%s", text)
	}
}
